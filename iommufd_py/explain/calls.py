# SPDX-License-Identifier: MIT
"""Read the ioctls of another process from the events of their entries and returns. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from iommufd_py.host.map_parts import RETURN
from iommufd_py.host.trace_records import TraceRecord
from iommufd_py.uapi.enums import MappingIoctl
from iommufd_py.uapi.iommufd import FIXED_IOVA

FUNCTIONS = (
    "iommufd_fops_ioctl",
    "vfio_fops_unl_ioctl",
    "vfio_device_fops_unl_ioctl",
    "vfio_group_fops_unl_ioctl",
)
"""The kernel's functions behind the ioctls. The file operations point to them, so none is inlined."""

FIELDS: Mapping[str, str] = {"cmd": "$arg2:x32"} | {f"word{at}": f"+u{8 * at}($arg3):x64" for at in range(5)}
"""The fields of a probe at their entry: the request, and the first words of its argument in the user's memory."""

RESULT: Mapping[str, str] = {"result": "$retval:s64"}
"""The fields of a probe at their return."""

# For each request, the numbers of the words with its IOVA, its length and the user's address.
_WORDS: Mapping[MappingIoctl, tuple[int, int, int | None]] = {
    MappingIoctl.IOMMU_IOAS_MAP: (4, 3, 2),
    MappingIoctl.IOMMU_IOAS_MAP_FILE: (4, 3, None),
    MappingIoctl.IOMMU_IOAS_COPY: (3, 2, None),
    MappingIoctl.IOMMU_IOAS_UNMAP: (1, 2, None),
    MappingIoctl.VFIO_IOMMU_MAP_DMA: (2, 3, 1),
    MappingIoctl.VFIO_IOMMU_UNMAP_DMA: (1, 2, None),
}
_WITH_FLAG = frozenset({MappingIoctl.IOMMU_IOAS_MAP, MappingIoctl.IOMMU_IOAS_MAP_FILE, MappingIoctl.IOMMU_IOAS_COPY})
_MAPS = frozenset(one.name for one in (*_WITH_FLAG, MappingIoctl.VFIO_IOMMU_MAP_DMA))
_UNMAPS = frozenset({MappingIoctl.IOMMU_IOAS_UNMAP.name, MappingIoctl.VFIO_IOMMU_UNMAP_DMA.name})
_EVERYTHING = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Request:
    """An ioctl and its argument.

    Attributes:
        ioctl: name, or the number of an ioctl that does not map.
        iova: the IOVA; None if the request names no IOVA, or if the kernel chooses it.
        length: bytes; None if the request names no length, or if it unmaps everything.
        user_va: address of the memory; None if the request names no memory.
        file: descriptor of the memory of IOMMU_IOAS_MAP_FILE, else None.
    """

    ioctl: str
    iova: int | None = None
    length: int | None = None
    user_va: int | None = None
    file: int | None = None

    @property
    def is_map(self) -> bool:
        """Whether the request makes a mapping."""
        return self.ioctl in _MAPS

    @property
    def is_unmap(self) -> bool:
        """Whether the request ends mappings."""
        return self.ioctl in _UNMAPS


@dataclass(frozen=True, slots=True)
class TracedIoctl:
    """An ioctl of a thread.

    Attributes:
        start: time of the entry, in seconds of the trace's clock.
        end: time of the return; None if the ioctl had not returned.
        result: 0 or more, or a negative errno; None if the ioctl had not returned.
    """

    request: Request
    tid: int
    start: float
    end: float | None
    result: int | None

    @property
    def error(self) -> int:
        """The errno of a failed ioctl; 0 for one that succeeded, or that had not returned."""
        return max(0, -(self.result or 0))


def request_of(fields: Mapping[str, int | str]) -> Request:
    """Return the request of an entry. It lacks the words that the kernel could not read."""
    number = fields.get("cmd")
    try:
        ioctl = MappingIoctl(int(number or 0))
    except ValueError:
        return Request(f"ioctl {number:#x}" if isinstance(number, int) else "ioctl")
    if ioctl not in _WORDS:
        return Request(ioctl.name)
    at_iova, at_length, at_address = _WORDS[ioctl]
    iova, length = _word(fields, at_iova), _word(fields, at_length)
    flags = _upper(fields, 0)
    if ioctl in _WITH_FLAG and not (flags or 0) & FIXED_IOVA:
        iova = None
    return Request(
        ioctl.name,
        iova,
        None if length == _EVERYTHING else length,
        None if at_address is None else _word(fields, at_address),
        _upper(fields, 1) if ioctl is MappingIoctl.IOMMU_IOAS_MAP_FILE else None,
    )


def _word(fields: Mapping[str, int | str], at: int) -> int | None:
    value = fields.get(f"word{at}")
    return value if isinstance(value, int) else None


def _upper(fields: Mapping[str, int | str], at: int) -> int | None:
    word = _word(fields, at)
    return None if word is None else word >> 32


def calls_of(records: Iterable[TraceRecord]) -> list[TracedIoctl]:
    """Return the ioctls, ordered by start. A return without its entry is left out."""
    found: list[TracedIoctl] = []
    open_calls: dict[int, TracedIoctl] = {}
    for record in records:
        if record.name in FUNCTIONS:
            open_calls[record.tid] = TracedIoctl(request_of(record.fields()), record.tid, record.time, None, None)
        elif is_return(record) and record.tid in open_calls:
            one = open_calls.pop(record.tid)
            result = record.fields().get("result")
            found.append(
                TracedIoctl(one.request, one.tid, one.start, record.time, result if isinstance(result, int) else None)
            )
    return sorted([*found, *open_calls.values()], key=lambda one: one.start)


def is_return(record: TraceRecord) -> bool:
    """Tell whether an event is the return of an ioctl."""
    return record.name.endswith(RETURN) and record.name.removesuffix(RETURN) in FUNCTIONS
