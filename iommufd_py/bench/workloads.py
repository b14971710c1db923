# SPDX-License-Identifier: MIT
"""Prepare the measurement of a point: the kernel's objects, the memory, and the loops."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any
from uuid import UUID

from iommufd_py.base.coherency import Coherency, CoherencyEvidence
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.errors import ToolError
from iommufd_py.base.iova import IovaRange, IovaRanges
from iommufd_py.base.pci_address import MOCK
from iommufd_py.base.units import PAGE_BYTES, format_size
from iommufd_py.bench.ioctl_rounds import Parts, ThreadIovas, round_steps
from iommufd_py.bench.python_rounds import PythonRounds, close_rounds, dma_rounds
from iommufd_py.dma import DmaEngine, open_engine, reachable
from iommufd_py.host.limits import lift_memlock, limits
from iommufd_py.mock import MockDevice, mock_flags
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.results.model import LEGACY_MODES, Accounting, CacheState, IovaUse, Point, Target, Workload
from iommufd_py.uapi import vfio
from iommufd_py.uapi.bench import Loop, can_flush
from iommufd_py.uapi.enums import HwInfoType, MockDeviceFlags
from iommufd_py.uapi.syscalls import without_ipc_lock
from iommufd_py.vfio.device import VfioDevice
from iommufd_py.vfio.group import VfioGroupDevice
from iommufd_py.vfio.modes import open_container
from iommufd_py.vfio.type1 import Type1Container

_FOR_ONE_THREAD = (Workload.ATTACH, Workload.TEARDOWN, Workload.CLOSE, Workload.DMA)


def points(**axes: Iterable[Any]) -> tuple[list[Point], list[str]]:
    """Combine the values of all axes; return the possible points, and the reasons why others are impossible.

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
        return f"{size} is not a multiple of the {format_size(backing.page_bytes)} pages of {backing}"
    if point.size_bytes % point.ioctl_bytes or point.ioctl_bytes % PAGE_BYTES:
        return f"{size} cannot be mapped in chunks of {format_size(point.ioctl_bytes)}"
    if point.workload is Workload.MAP_FILE and backing is not Backing.MEMFD:
        return f"map-file needs a memfd, not {backing}"
    if point.workload is Workload.TEARDOWN and point.hwpts != 1:
        return "teardown destroys the only domain: use --hwpts 1"
    if point.workload in _FOR_ONE_THREAD and (point.threads > 1 or point.own_ioas):
        return f"{point.workload} is for one thread"
    if point.workload in _FOR_ONE_THREAD and point.iova_use is IovaUse.FRESH:
        return f"{point.workload} takes the same IOVA each round"
    if point.workload is Workload.DMA and point.ioctls > 1:
        return "dma maps the buffer with one ioctl"
    allowed = {Workload.CLOSE: (CacheState.DIRTY, CacheState.UNTOUCHED), Workload.DMA: (CacheState.DIRTY,)}
    if point.cache not in allowed.get(point.workload, CacheState):
        return f"{point.workload} prepares the buffer's cache lines only as {' or '.join(allowed[point.workload])}"
    if point.alignment & (point.alignment - 1) or point.alignment % PAGE_BYTES:
        return f"{format_size(point.alignment)} is not an alignment: give a power of two of at least 4K"
    if point.backend is not ContainerMode.IOMMUFD and not _fits_container(point):
        return f"{point.backend} supports only map and teardown, with one domain, large pages and no accounting"
    if point.workload is Workload.ATTACH and point.hwpts == 0:
        return "attach adds a domain to existing ones: use --operation teardown --hwpts 1 for the first one"
    return None


def _fits_container(point: Point) -> bool:
    plain = point.hwpts == 1 and point.huge_pages and not point.own_ioas
    # The container of iommufd keeps its mappings when the group leaves, so it has no teardown.
    known = point.workload is Workload.MAP or (point.workload is Workload.TEARDOWN and point.backend in LEGACY_MODES)
    return plain and known and point.accounting is Accounting.NONE


@dataclass(frozen=True, slots=True)
class Worker:
    """One thread: its loop, its memory, its first IOVA.

    Attributes:
        replace_pages: replaces the pages of the buffer between two rounds; None if they must stay.
    """

    loop: Loop | PythonRounds
    buffer: DmaBuffer
    iova: int
    replace_pages: Callable[[], None] | None


@dataclass(frozen=True, slots=True)
class Setup:
    """The prepared objects of a point.

    Attributes:
        iommufd: to read the kernel's flush counters, which are common to all iommufds.
        bdf: device whose page tables the kernel can show; None for none.
    """

    iommufd: Iommufd
    bdf: str | None
    workers: tuple[Worker, ...]


@contextmanager
def set_up(
    point: Point, device_name: str, coherency: Coherency, iova: int | None = None, vf_token: UUID | None = None
) -> Iterator[Setup]:
    """Create everything that *point* needs, and release it at the end.

    Raises:
        ToolError: the point cannot be measured here.
    """
    if point.cache in (CacheState.CLEAN, CacheState.EVICTED) and not can_flush():
        raise ToolError(f"no buffer can be made {point.cache} here: user space needs CLFLUSHOPT; use --cache dirty")
    with ExitStack() as stack:
        stack.enter_context(_accounting(point))
        stack.enter_context(_on_cpu(point.cpu))
        iommufd, bdf, spaces = stack.enter_context(_maker(point)(point, device_name, coherency, vf_token))
        flags = mock_flags(iommufd, coherency)
        workers = []
        for thread in range(point.threads):
            space = spaces[thread % len(spaces)]
            place = ThreadIovas.find(device_name, space.ranges, point, thread, iova)
            buffer = stack.enter_context(DmaBuffer(point.size_bytes, Backing(point.backing), node=point.node))
            parts = Parts(point, space.fd, space.ioas_id, space.dev_id, space.group_fd, space.iommu_type, buffer, place)
            replace = parts.replace_pages if _has_replaceable_pages(point) else None
            workers.append(Worker(_rounds(device_name, vf_token, flags, space, parts), buffer, place.iova, replace))
        try:
            yield Setup(iommufd, bdf, tuple(workers))
        finally:
            # The mappings must end before the memory.
            for space in spaces:
                if space.engine is not None:
                    space.engine.close()
                space.resource.close()


def _has_replaceable_pages(point: Point) -> bool:
    """Return whether the kernel surely has other pages, and whether no device uses them.

    Huge pages of a pool can be taken by others, and transparent huge pages need contiguous memory.
    """
    small = Backing(point.backing).page_bytes == PAGE_BYTES
    return small and point.threads == 1 and point.workload is not Workload.DMA


def _maker(point: Point) -> "Callable[[Point, str, Coherency, UUID | None], AbstractContextManager[_Spaces]]":
    if point.workload is Workload.CLOSE:
        return _in_nothing
    return _in_ioas if point.backend is ContainerMode.IOMMUFD else _in_container


def _rounds(
    device_name: str, vf_token: UUID | None, flags: MockDeviceFlags, space: "_Space", parts: Parts
) -> Loop | PythonRounds:
    if parts.point.workload is Workload.CLOSE:
        return close_rounds(device_name, vf_token, flags, parts)
    if parts.point.workload is Workload.DMA:
        assert isinstance(space.resource, Ioas)
        assert space.engine is not None
        return dma_rounds(space.engine, space.resource, parts)
    return Loop(
        round_steps(parts),
        user_va=parts.buffer.user_va,
        length=parts.buffer.length,
        cache=str(parts.point.cache),
        places=parts.place.places,
    )


@dataclass(frozen=True, slots=True)
class _Space:
    """An IO address space: the resource that owns it, its allowed IOVAs, and its numbers for ioctls."""

    resource: Resource
    ranges: IovaRanges
    fd: int
    ioas_id: int = 0
    dev_id: int = 0
    group_fd: int = 0
    iommu_type: int = 0
    engine: DmaEngine | None = None


_Spaces = tuple[Iommufd, str | None, list[_Space]]


@contextmanager
def _in_ioas(point: Point, device_name: str, coherency: Coherency, vf_token: UUID | None) -> Iterator[_Spaces]:
    with Iommufd() as iommufd, ExitStack() as devices:
        if point.accounting is Accounting.MM:
            iommufd.rlimit_mode = 1  # The kernel accepts the option only before the first object exists.
        device = devices.enter_context(_open(iommufd, device_name, coherency, vf_token))
        spaces = []
        for _ in range(point.threads if point.own_ioas else 1):
            ioas = iommufd.alloc_ioas()
            ioas.huge_pages = point.huge_pages
            ranges = _make_domains(device, ioas, point, coherency)
            engine = None
            if point.workload is Workload.DMA:
                engine, ranges = _start_engine(device, ioas)
            spaces.append(_Space(ioas, ranges, iommufd.fileno(), ioas.id, device.dev_id, engine=engine))
        shows = isinstance(device, VfioDevice) and bool(device.attachments)
        yield iommufd, device_name if shows else None, spaces


@contextmanager
def _in_container(point: Point, device_name: str, coherency: Coherency, vf_token: UUID | None) -> Iterator[_Spaces]:
    with Iommufd() as iommufd, open_container(point.backend, device_name, vf_token=vf_token) as container:
        assert isinstance(container, Type1Container)
        CoherencyEvidence(container.dma_cc(), None).require(coherency, device_name)
        assert isinstance(container.device, VfioGroupDevice)
        group, fd, ranges = container.device.group, container.fileno(), container.iova_ranges()
        space = _Space(container, ranges, fd, group_fd=group.fileno(), iommu_type=container.iommu_type)
        if point.workload is Workload.TEARDOWN:
            # A group with an open device cannot leave. Each round adds the group again.
            container.device.close()
            vfio.group_unset_container(group.fileno())
        yield iommufd, device_name, [space]


@contextmanager
def _in_nothing(point: Point, device_name: str, coherency: Coherency, vf_token: UUID | None) -> Iterator[_Spaces]:
    """Find the allowed IOVAs. Each round creates its own objects."""
    with Iommufd() as asked, _open(asked, device_name, coherency, vf_token) as device:
        ranges = _make_domains(device, asked.alloc_ioas(), point, coherency)
    with Iommufd() as iommufd:
        yield iommufd, None, [_Space(iommufd, ranges, iommufd.fileno())]


def _start_engine(device: BoundDevice, ioas: Ioas) -> tuple[DmaEngine, IovaRanges]:
    """Return the device's engine, and the IOVAs that it reaches below its own memory."""
    if not isinstance(device, VfioDevice):
        raise ToolError("the mock driver has no DMA: name a device with --device")
    engine = open_engine(device, ioas)
    own = engine.memory.iova
    ranges = tuple(
        IovaRange(one.start, own - 1 if one.contains(own) else one.last)
        for one in reachable(ioas, engine.address_mask)
        if one.start < own
    )
    return engine, IovaRanges(ranges, ioas.iova_ranges().alignment)


@contextmanager
def _on_cpu(cpu: int | None) -> Iterator[None]:
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as failure:
        raise ToolError(f"nothing can run on CPU {cpu}: this process may use {sorted(before)}") from failure
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _open(iommufd: Iommufd, name: str, coherency: Coherency, vf_token: UUID | None) -> BoundDevice:
    if name == MOCK:
        return MockDevice(iommufd, mock_flags(iommufd, coherency))
    return VfioDevice(iommufd, name, vf_token=vf_token)


def _accounting(point: Point) -> AbstractContextManager[None]:
    """Drop CAP_IPC_LOCK so that pages are charged; first lift RLIMIT_MEMLOCK, if the kernel permits it.

    Raises:
        ToolError: pages must not be charged, but the kernel charges those of this process.
    """
    if point.accounting is Accounting.NONE:
        if not limits().memlock_ignored:
            raise ToolError(
                "this process has no CAP_IPC_LOCK of the host, so the kernel charges its pinned pages: use "
                "--accounting user, or run as root of the host"
            )
        return nullcontext()
    lift_memlock()  # Where the limit stays, a map beyond it fails with ENOMEM, and the message names the limit.
    return without_ipc_lock()


def _make_domains(device: BoundDevice, ioas: Ioas, point: Point, coherency: Coherency) -> IovaRanges:
    """Create the HWPTs that exist during all rounds, attach the first one, and return the IOVAs that all can map."""
    if point.workload is Workload.TEARDOWN:
        # Each round creates and destroys this HWPT. Its allowed IOVAs can be read only while it exists.
        with device.alloc_hwpt(ioas, coherency=coherency):
            return ioas.iova_ranges()
    hwpts = [device.alloc_hwpt(ioas, coherency=coherency) for _ in range(point.hwpts)]
    if hwpts and not device.attachments:
        device.attach(hwpts[0])
    return ioas.iova_ranges()


def target(device_name: str, coherency: Coherency, vf_token: UUID | None = None) -> Target:
    """Describe the device and the domains made for it.

    Raises:
        CoherencyError: the domains do not have the required coherency.
    """
    with Iommufd() as iommufd, _open(iommufd, device_name, coherency, vf_token) as device:
        hwpt = device.alloc_hwpt(iommufd.alloc_ioas(), coherency=coherency)
        info = device.hw_info()
        registers = info.vtd_registers
        return Target(
            device=device.name,
            iommu=info.type.name if isinstance(info.type, HwInfoType) else f"type {info.type}",
            cap=registers[0] if registers else None,
            evidence=hwpt.evidence,
        )
