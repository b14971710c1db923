# SPDX-License-Identifier: MIT
"""What the rounds of each workload are made of: objects of the kernel, and steps for the timed loop."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

from iommufd_py.bench.model import Accounting, CacheState, IovaUse, Point, Target, Workload
from iommufd_py.context import Iommufd
from iommufd_py.device import BoundDevice, VfioDevice
from iommufd_py.enums import HwInfoType, MapFlags
from iommufd_py.errors import ToolError
from iommufd_py.hwpt import Coherency, Hwpt
from iommufd_py.ioas import Ioas
from iommufd_py.memory import Backing, DmaBuffer
from iommufd_py.mock import MockDevice
from iommufd_py.uapi.bench import Loop, Move, Step, can_flush, drop_ipc_lock
from iommufd_py.uapi.iommufd import FIXED_IOVA
from iommufd_py.units import PAGE_BYTES, format_size

__all__ = ["MOCK", "Setup", "Worker", "points", "set_up", "target"]

MOCK = "mock"

# Away from address zero, where a stray null pointer of a device would land.
_LOWEST_IOVA = 4 << 30
# A page-table page of its own for each fresh IOVA, and no more of them than any run has rounds.
_FRESH_BYTES = 2 << 20
_MAX_PLACES = 1 << 20
_FLAGS = int(MapFlags.READ_WRITE) | FIXED_IOVA


def points(**axes: Iterable[Any]) -> tuple[list[Point], list[str]]:
    """Combine the values of all axes; returns the points that can exist, and why others cannot.

    Args:
        axes: values for each field of :class:`Point`.
    """
    found: list[Point] = []
    left_out: list[str] = []
    for values in product(*axes.values()):
        point = Point(**dict(zip(axes, values, strict=True)))
        problem = _problem(point)
        if problem is None:
            found.append(point)
        else:
            left_out.append(problem)
    return list(dict.fromkeys(found)), list(dict.fromkeys(left_out))


def _problem(point: Point) -> str | None:
    size, backing = format_size(point.size_bytes), Backing(point.backing)
    if point.size_bytes % backing.page_bytes:
        return f"{size} is no multiple of the {format_size(backing.page_bytes)} pages of {backing}"
    if point.size_bytes % point.ioctl_bytes or point.ioctl_bytes % PAGE_BYTES:
        return f"{size} cannot be mapped in chunks of {format_size(point.ioctl_bytes)}"
    if point.workload is Workload.MAP_FILE and backing is not Backing.MEMFD:
        return f"map-file needs a memfd, not {backing}"
    if point.workload is Workload.TEARDOWN and point.hwpts != 1:
        return "teardown is of the only domain, not of one of several"
    if point.workload in (Workload.ATTACH, Workload.TEARDOWN) and (point.threads > 1 or point.own_ioas):
        return f"{point.workload} is for one thread"
    if point.workload in (Workload.ATTACH, Workload.TEARDOWN) and point.iova_use is IovaUse.FRESH:
        return f"{point.workload} maps nothing, so it has no fresh IOVA"
    if point.workload is Workload.ATTACH and point.hwpts == 0:
        return "attach adds a domain to those that are there: the first one is the workload teardown"
    return None


@dataclass(frozen=True, slots=True)
class Worker:
    """What one thread does: its loop, and where its memory is."""

    loop: Loop
    buffer: DmaBuffer
    iova: int


@dataclass(frozen=True, slots=True)
class Setup:
    """A point made ready: the kernel's objects are there, and each worker's loop may run."""

    iommufd: Iommufd
    device: BoundDevice
    workers: tuple[Worker, ...]


@contextmanager
def set_up(point: Point, device_name: str, coherency: Coherency, iova: int | None = None) -> Iterator[Setup]:
    """Make all that *point* needs; everything is given back at the end.

    Raises:
        ToolError: it cannot be had here.
    """
    if point.cache in (CacheState.CLEAN, CacheState.EVICTED) and not can_flush():
        raise ToolError(f"no buffer can be made {point.cache} here: user space needs CLFLUSHOPT; use --cache dirty")
    with Iommufd() as iommufd, _open(iommufd, device_name) as device:
        _account(iommufd, point.accounting)
        spaces = [iommufd.alloc_ioas() for _ in range(point.threads if point.own_ioas else 1)]
        for ioas in spaces:
            ioas.huge_pages = point.huge_pages
            _make_domains(device, ioas, point, coherency)
        workers = []
        for thread in range(point.threads):
            ioas = spaces[thread % len(spaces)]
            place = _Place.find(device.name, ioas, point, thread, iova)
            buffer = DmaBuffer(point.size_bytes, Backing(point.backing))
            steps = _STEPS[point.workload](_Parts(point, device, ioas, buffer, place))
            loop = Loop(
                steps, user_va=buffer.user_va, length=buffer.length, cache=str(point.cache), places=place.places
            )
            workers.append(Worker(loop, buffer, place.iova))
        try:
            yield Setup(iommufd, device, tuple(workers))
        finally:
            for ioas in spaces:
                ioas.close()
            for worker in workers:
                worker.buffer.close()


def _open(iommufd: Iommufd, name: str) -> BoundDevice:
    return MockDevice(iommufd) if name == MOCK else VfioDevice(iommufd, name)


def _account(iommufd: Iommufd, accounting: Accounting) -> None:
    if accounting is Accounting.MM:
        iommufd.rlimit_mode = 1
    if accounting is not Accounting.NONE:
        drop_ipc_lock()


def _make_domains(device: BoundDevice, ioas: Ioas, point: Point, coherency: Coherency) -> None:
    """Make the HWPTs that are there all the time; the first is the device's, the others are only filled."""
    count = 0 if point.workload is Workload.TEARDOWN else point.hwpts
    hwpts = [device.alloc_hwpt(ioas, coherency=coherency) for _ in range(count)]
    if hwpts and not device.attachments:
        device.attach(hwpts[0])


def target(device_name: str, coherency: Coherency) -> Target:
    """Describe the device and the domains made for it.

    Raises:
        CoherencyError: they are not of the coherency asked for.
    """
    with Iommufd() as iommufd, _open(iommufd, device_name) as device:
        hwpt: Hwpt = device.alloc_hwpt(iommufd.alloc_ioas(), coherency=coherency)
        assert hwpt.evidence is not None
        info = device.hw_info()
        registers = info.vtd_registers
        return Target(
            device=device.name,
            iommu=info.type.name if isinstance(info.type, HwInfoType) else f"type {info.type}",
            cap=registers[0] if registers else None,
            evidence=hwpt.evidence,
        )


# --- where ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a thread maps: first IOVA, distance to the next round's, and how many places there are."""

    iova: int
    stride: int
    places: int

    @staticmethod
    def find(name: str, ioas: Ioas, point: Point, thread: int, wanted: int | None) -> "_Place":
        """Return an allowed place, aligned like the largest leaf that could map the size, so that it forbids none."""
        ranges = ioas.iova_ranges()
        natural = 1 << (point.size_bytes - 1).bit_length()
        unit = max(natural, ranges.alignment)
        if point.iova_use is IovaUse.FRESH:
            unit = max(unit, _FRESH_BYTES)
        room = unit * 2 if point.alignment else unit
        span = room * (point.threads * 2)  # copy needs another place as large
        for lowest in (_LOWEST_IOVA, 0):
            base = wanted if wanted is not None else ranges.first_fit(span, unit, lowest=lowest)
            if base is not None:
                break
        else:
            allowed = ", ".join(map(str, ranges.ranges))
            raise ToolError(
                f"no allowed IOVA range holds {format_size(span)}: {name} allows {allowed}; "
                "map less or in fewer threads"
            )
        iova = base + thread * 2 * room + (point.alignment if point.alignment < unit else 0)
        if point.iova_use is IovaUse.REUSED:
            return _Place(iova, 0, 1)
        last = next((one.last for one in ranges.ranges if one.start <= base <= one.last), base + span)
        return _Place(iova, span, max(min((last - base) // span, _MAX_PLACES), 1))


# --- rounds ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a round works on."""

    point: Point
    device: BoundDevice
    ioas: Ioas
    buffer: DmaBuffer
    place: _Place

    @property
    def fd(self) -> int:
        return self.ioas.iommufd.fileno()

    def moving(self, name: str) -> Move:
        """An IOVA that goes on from chunk to chunk, and to the next place with each round."""
        return Move(name, self.point.ioctl_bytes, self.place.stride)

    def populate(self) -> None:
        """Map the whole buffer, in chunks, for what happens to a mapped IOAS."""
        chunk = self.point.ioctl_bytes
        for offset in range(0, self.point.size_bytes, chunk):
            self.ioas.map_user_va(self.buffer.user_va + offset, chunk, self.place.iova + offset)

    def unmap(self, name: str, iova: int) -> Step:
        whole = self.point.bulk_unmap
        return Step(
            name,
            self.fd,
            "IOMMU_IOAS_UNMAP",
            "iommu_ioas_unmap",
            {
                "ioas_id": self.ioas.id,
                "iova": iova,
                "length": self.point.size_bytes if whole else self.point.ioctl_bytes,
            },
            (self.moving("iova"),),
            calls=1 if whole else self.point.ioctls,
        )


def _map(parts: _Parts) -> list[Step]:
    mapping = Step(
        "map",
        parts.fd,
        "IOMMU_IOAS_MAP",
        "iommu_ioas_map",
        {
            "flags": _FLAGS,
            "ioas_id": parts.ioas.id,
            "user_va": parts.buffer.user_va,
            "length": parts.point.ioctl_bytes,
            "iova": parts.place.iova,
        },
        (parts.moving("iova"), Move("user_va", parts.point.ioctl_bytes)),
        calls=parts.point.ioctls,
    )
    return [mapping, parts.unmap("unmap", parts.place.iova)]


def _map_file(parts: _Parts) -> list[Step]:
    assert parts.buffer.fd is not None
    mapping = Step(
        "map-file",
        parts.fd,
        "IOMMU_IOAS_MAP_FILE",
        "iommu_ioas_map_file",
        {
            "flags": _FLAGS,
            "ioas_id": parts.ioas.id,
            "fd": parts.buffer.fd,
            "start": 0,
            "length": parts.point.ioctl_bytes,
            "iova": parts.place.iova,
        },
        (parts.moving("iova"), Move("start", parts.point.ioctl_bytes)),
        calls=parts.point.ioctls,
    )
    return [mapping, parts.unmap("unmap-file", parts.place.iova)]


def _copy(parts: _Parts) -> list[Step]:
    parts.populate()
    second = parts.place.iova + (1 << (parts.point.size_bytes - 1).bit_length())
    copying = Step(
        "copy",
        parts.fd,
        "IOMMU_IOAS_COPY",
        "iommu_ioas_copy",
        {
            "flags": _FLAGS,
            "dst_ioas_id": parts.ioas.id,
            "src_ioas_id": parts.ioas.id,
            "length": parts.point.ioctl_bytes,
            "dst_iova": second,
            "src_iova": parts.place.iova,
        },
        (parts.moving("dst_iova"), Move("src_iova", parts.point.ioctl_bytes)),
        calls=parts.point.ioctls,
    )
    return [copying, parts.unmap("unmap-copy", second)]


def _domain(parts: _Parts) -> list[Step]:
    parts.populate()
    only = parts.point.workload is Workload.TEARDOWN
    making = Step(
        "first-attach" if only else "attach",
        parts.fd,
        "IOMMU_HWPT_ALLOC",
        "iommu_hwpt_alloc",
        {"dev_id": parts.device.dev_id, "pt_id": parts.ioas.id},
    )
    destroying = Step(
        "teardown" if only else "detach",
        parts.fd,
        "IOMMU_DESTROY",
        "iommu_destroy",
        id_from=(0, "out_hwpt_id", "id"),
    )
    return [making, destroying]


_STEPS = {
    Workload.MAP: _map,
    Workload.MAP_FILE: _map_file,
    Workload.COPY: _copy,
    Workload.ATTACH: _domain,
    Workload.TEARDOWN: _domain,
}
