# SPDX-License-Identifier: MIT
"""The rounds of each workload: the IOVAs, and prepared ioctls for the timed loop."""

from dataclasses import dataclass

from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.errors import ToolError
from iommufd_py.base.iova import IovaRanges
from iommufd_py.base.units import format_size, round_up
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.results.model import IovaUse, Point, Workload
from iommufd_py.uapi.bench import Move, TimedStep
from iommufd_py.uapi.enums import MapFlags, Type1MapFlags
from iommufd_py.uapi.iommufd import FIXED_IOVA, ioas_map, ioas_unmap

# The lowest IOVA for maps. A null pointer in a device would access addresses near zero.
_LOWEST_IOVA = 4 << 30
# A separate page-table page for each fresh IOVA. The maximum exceeds the rounds of any run.
_FRESH_BYTES = 2 << 20
_MAX_PLACES = 1 << 20
_FLAGS = int(MapFlags.READ_WRITE) | FIXED_IOVA
# Their rounds work on an IOAS with mappings.
_POPULATED = (Workload.ATTACH, Workload.COPY)


def alignment_problem(iova: int | None, alignment: int) -> str:
    """Return the contradiction of a wanted IOVA and an exact alignment; empty if there is none."""
    if iova is None or not alignment or iova & -iova == alignment:
        return ""
    return f"IOVA {iova:#x} is not aligned to exactly {format_size(alignment)}: leave out --iova or --alignment"


@dataclass(frozen=True, slots=True)
class ThreadIovas:
    """IOVAs of one thread: the first, the target of a copy, the distance between rounds, and the number of places."""

    iova: int
    other: int
    stride: int
    places: int

    @staticmethod
    def find(name: str, ranges: IovaRanges, point: Point, thread: int, wanted: int | None) -> "ThreadIovas":
        """Return an allowed place, aligned like the largest leaf that could map the size, or exactly as the point says.

        Args:
            name: name of the device, for messages.
            ranges: allowed IOVAs.
            point: the row.
            thread: number of the thread.
            wanted: first IOVA of the first thread, None for any.

        Raises:
            ToolError: the allowed ranges have no such place, or *wanted* is not aligned as the point says or not
                allowed.
        """
        if problem := alignment_problem(wanted, point.alignment):
            raise ToolError(problem)
        unit = max(1 << (point.size_bytes.bit_length() - 1), ranges.alignment)
        if point.iova_use is IovaUse.FRESH:
            unit = max(unit, _FRESH_BYTES)
        # An address that is a multiple of twice the alignment, plus the alignment, is aligned to it exactly.
        unit = max(unit, 2 * point.alignment)
        offset = point.alignment if wanted is None else 0
        room = round_up(offset + point.size_bytes, unit)
        own = room * (2 if point.workload is Workload.COPY else 1)
        span = own * point.threads
        if wanted is not None:
            _check_wanted(name, ranges, wanted, span - room + point.size_bytes)
        base = wanted
        for lowest in (_LOWEST_IOVA, 0):
            if base is None:
                base = ranges.first_fit(span, unit, lowest=lowest)
        if base is None:
            raise ToolError(
                f"no allowed IOVA range holds {format_size(span)} aligned to {format_size(point.alignment or unit)}: "
                f"{name} allows {_listed(ranges)}; map less, in fewer threads, or with a smaller alignment"
            )
        iova = base + thread * own + offset
        if point.iova_use is IovaUse.REUSED:
            return ThreadIovas(iova, iova + room, 0, 1)
        last = next((one.last for one in ranges.ranges if one.contains(base)), base + span)
        return ThreadIovas(iova, iova + room, span, max(min((last - base) // span, _MAX_PLACES), 1))


def _check_wanted(name: str, ranges: IovaRanges, wanted: int, used: int) -> None:
    """Refuse a wanted IOVA from which *used* bytes cannot be mapped."""
    if wanted % ranges.alignment:
        raise ToolError(f"IOVA {wanted:#x} is not a multiple of {format_size(ranges.alignment)}: choose another")
    if not any(one.contains(wanted, used) for one in ranges.ranges):
        raise ToolError(
            f"{format_size(used)} from IOVA {wanted:#x} are not in a range that {name} allows: {_listed(ranges)}; "
            "choose another --iova, or leave it out"
        )


def _listed(ranges: IovaRanges) -> str:
    return ", ".join(map(str, ranges.ranges))


# --- rounds ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects of a round.

    Attributes:
        fd: file descriptor of the iommufd or container.
        ioas_id, dev_id: ids of objects of the iommufd; 0 in a container.
        group_fd, iommu_type: descriptor and type of the container; 0 in an iommufd.
    """

    point: Point
    fd: int
    ioas_id: int
    dev_id: int
    group_fd: int
    iommu_type: int
    buffer: DmaBuffer
    place: ThreadIovas

    def moving(self, name: str) -> Move:
        """Return a field that grows by a chunk with each ioctl, and by the distance between places with each round."""
        return Move(name, self.point.ioctl_bytes, self.place.stride)

    def populate(self) -> None:
        """Map the whole buffer in chunks, for operations on an IOAS with mappings.

        The mappings stay until :meth:`replace_pages`, or until the IOAS is closed.
        """
        chunk = self.point.ioctl_bytes
        for offset in range(0, self.point.size_bytes, chunk):
            ioas_map(self.fd, self.ioas_id, self.buffer.user_va + offset, chunk, self.place.iova + offset, _FLAGS)

    def replace_pages(self) -> None:
        """Replace the pages of the buffer between two rounds. A mapping that stays gets the new ones, too."""
        stays = self.point.workload in _POPULATED
        if stays:
            ioas_unmap(self.fd, self.ioas_id, self.place.iova, self.point.size_bytes)
        self.buffer.replace_pages()
        if stays:
            self.populate()

    def unmap(self, name: str, iova: int) -> TimedStep:
        """Return the step that unmaps the buffer from *iova* on."""
        whole = self.point.bulk_unmap
        return TimedStep(
            name,
            self.fd,
            "IOMMU_IOAS_UNMAP",
            "iommu_ioas_unmap",
            {
                "ioas_id": self.ioas_id,
                "iova": iova,
                "length": self.point.size_bytes if whole else self.point.ioctl_bytes,
            },
            (self.moving("iova"),),
            calls=1 if whole else self.point.ioctls,
        )


def _map(parts: Parts) -> list[TimedStep]:
    mapped, unmapped = parts.point.operations
    mapping = TimedStep(
        mapped,
        parts.fd,
        "IOMMU_IOAS_MAP",
        "iommu_ioas_map",
        {
            "flags": _FLAGS,
            "ioas_id": parts.ioas_id,
            "user_va": parts.buffer.user_va,
            "length": parts.point.ioctl_bytes,
            "iova": parts.place.iova,
        },
        (parts.moving("iova"), Move("user_va", parts.point.ioctl_bytes)),
        calls=parts.point.ioctls,
    )
    return [mapping, parts.unmap(unmapped, parts.place.iova)]


def _map_file(parts: Parts) -> list[TimedStep]:
    assert parts.buffer.fd is not None
    mapped, unmapped = parts.point.operations
    mapping = TimedStep(
        mapped,
        parts.fd,
        "IOMMU_IOAS_MAP_FILE",
        "iommu_ioas_map_file",
        {
            "flags": _FLAGS,
            "ioas_id": parts.ioas_id,
            "fd": parts.buffer.fd,
            "start": 0,
            "length": parts.point.ioctl_bytes,
            "iova": parts.place.iova,
        },
        (parts.moving("iova"), Move("start", parts.point.ioctl_bytes)),
        calls=parts.point.ioctls,
    )
    return [mapping, parts.unmap(unmapped, parts.place.iova)]


def _copy(parts: Parts) -> list[TimedStep]:
    parts.populate()
    second = parts.place.other
    copied, unmapped = parts.point.operations
    copying = TimedStep(
        copied,
        parts.fd,
        "IOMMU_IOAS_COPY",
        "iommu_ioas_copy",
        {
            "flags": _FLAGS,
            "dst_ioas_id": parts.ioas_id,
            "src_ioas_id": parts.ioas_id,
            "length": parts.point.ioctl_bytes,
            "dst_iova": second,
            "src_iova": parts.place.iova,
        },
        (parts.moving("dst_iova"), Move("src_iova", parts.point.ioctl_bytes)),
        calls=parts.point.ioctls,
    )
    return [copying, parts.unmap(unmapped, second)]


def _domain(parts: Parts) -> list[TimedStep]:
    parts.populate()
    made, destroyed = parts.point.operations
    making = TimedStep(
        made,
        parts.fd,
        "IOMMU_HWPT_ALLOC",
        "iommu_hwpt_alloc",
        {"dev_id": parts.dev_id, "pt_id": parts.ioas_id},
    )
    destroying = TimedStep(
        destroyed,
        parts.fd,
        "IOMMU_DESTROY",
        "iommu_destroy",
        id_from=(0, "out_hwpt_id", "id"),
    )
    return [making, destroying]


def _type1_teardown(parts: Parts) -> list[TimedStep]:
    """Remove the group while everything is mapped, and add it again: VFIO frees its domains with the last group."""
    mapping, _ = _type1(parts)
    group, container = parts.group_fd, parts.fd
    return [
        TimedStep("", group, "VFIO_GROUP_SET_CONTAINER", "int", {"container": container}),
        TimedStep("", container, "VFIO_SET_IOMMU", "value", {"type": parts.iommu_type}),
        mapping,
        TimedStep(parts.point.operations[-1], group, "VFIO_GROUP_UNSET_CONTAINER", "value", {"argument": 0}),
    ]


def _type1(parts: Parts) -> list[TimedStep]:
    whole = parts.point.bulk_unmap
    mapped, unmapped = parts.point.operations
    mapping = TimedStep(
        mapped,
        parts.fd,
        "VFIO_IOMMU_MAP_DMA",
        "vfio_iommu_type1_dma_map",
        {
            "flags": int(Type1MapFlags.READ | Type1MapFlags.WRITE),
            "vaddr": parts.buffer.user_va,
            "iova": parts.place.iova,
            "size": parts.point.ioctl_bytes,
        },
        (parts.moving("iova"), Move("vaddr", parts.point.ioctl_bytes)),
        calls=parts.point.ioctls,
    )
    unmapping = TimedStep(
        unmapped,
        parts.fd,
        "VFIO_IOMMU_UNMAP_DMA",
        "vfio_iommu_type1_dma_unmap",
        {"iova": parts.place.iova, "size": parts.point.size_bytes if whole else parts.point.ioctl_bytes},
        (parts.moving("iova"),),
        calls=1 if whole else parts.point.ioctls,
    )
    return [mapping, unmapping]


_STEPS = {
    Workload.MAP: _map,
    Workload.MAP_FILE: _map_file,
    Workload.COPY: _copy,
    Workload.ATTACH: _domain,
    Workload.TEARDOWN: _domain,
}


def round_steps(parts: Parts) -> list[TimedStep]:
    """Prepare the IOAS for a round, and return the steps of the round."""
    if parts.point.backend is ContainerMode.IOMMUFD:
        return _STEPS[parts.point.workload](parts)
    return _type1(parts) if parts.point.workload is Workload.MAP else _type1_teardown(parts)
