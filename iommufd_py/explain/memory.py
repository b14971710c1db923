# SPDX-License-Identifier: MIT
"""The memory of another process: its areas, the pages behind them, and how contiguous they are."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from iommufd_py.base.sysfs import limit_named
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.objects.pagemap import contiguous_runs, page_frames

_AREA = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)")
_VALUE = re.compile(r"(\w+): +([0-9]{1,20}) kB")
_SHARED = re.compile(r"/memfd:|/dev/shm/|/SYSV|/dev/zero|/dev/hugepages|/anon_hugepage")
_HUGE_FIELDS = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")
_HUGETLB_FIELDS = ("Shared_Hugetlb", "Private_Hugetlb")
# Areas with less than this share of the present memory are irrelevant for maps.
_SMALLEST_SHARE = 0.05
_MOST_AREAS = 5
MOST_LOOKED_AT = 64 << 20
"""Number of bytes at the start of an area; only their page frames are read."""


class MemoryKind(StrEnum):
    """The kind of memory behind an area."""

    ANONYMOUS = "anonymous memory"
    HUGETLB = "hugetlb memory"
    SHARED = "shared memory"
    FILE = "file"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class MemoryArea:
    """One area of a process's memory, as /proc/PID/smaps describes it.

    Attributes:
        start: first address.
        end: first address after it.
        name: name of the file; empty for anonymous memory.
        kind: kind of memory behind it.
        present: number of bytes that are in memory.
        page_bytes: size of its pages.
        huge_bytes: number of bytes in transparent huge pages.
    """

    start: int
    end: int
    name: str
    kind: MemoryKind
    present: int
    page_bytes: int
    huge_bytes: int

    @property
    def length(self) -> int:
        """Length in bytes."""
        return self.end - self.start


def parse_areas(smaps: str) -> list[MemoryArea]:
    """Read /proc/PID/smaps (Documentation/filesystems/proc.rst)."""
    found = []
    for place, name, values, flags in _sections(smaps):
        hugetlb = sum(values.get(one, 0) for one in _HUGETLB_FIELDS)
        found.append(
            MemoryArea(
                place[0],
                place[1],
                name,
                _kind(name, flags),
                values.get("Rss", 0) + hugetlb,
                values.get("KernelPageSize", PAGE_BYTES),
                sum(values.get(one, 0) for one in _HUGE_FIELDS),
            )
        )
    return found


def _sections(smaps: str) -> Iterator[tuple[tuple[int, int], str, dict[str, int], frozenset[str]]]:
    place: tuple[int, int] | None = None
    name, values, flags = "", dict[str, int](), frozenset[str]()
    for line in smaps.split("\n"):
        if match := _AREA.fullmatch(line):
            if place:
                yield place, name, values, flags
            place, name = (int(match[1], 16), int(match[2], 16)), match[3]
            values, flags = {}, frozenset()
        elif match := _VALUE.fullmatch(line):
            values[match[1]] = int(match[2]) << 10
        elif line.startswith("VmFlags:"):
            flags = frozenset(line.split()[1:])
    if place:
        yield place, name, values, flags


def _kind(name: str, flags: frozenset[str]) -> MemoryKind:
    if "ht" in flags:
        return MemoryKind.HUGETLB
    if flags & {"io", "pf"}:
        return MemoryKind.DEVICE
    if _SHARED.match(name):
        return MemoryKind.SHARED
    # A name in brackets is the heap, a stack, or a name that the process gave with prctl().
    return MemoryKind.FILE if name and not name.startswith("[") else MemoryKind.ANONYMOUS


def largest(areas: Sequence[MemoryArea]) -> list[MemoryArea]:
    """Return the areas with the most present memory, the largest first, without small areas."""
    total = sum(one.present for one in areas)
    big = [one for one in areas if one.kind is not MemoryKind.DEVICE and one.present >= max(1, total * _SMALLEST_SHARE)]
    return sorted(big, key=lambda one: -one.present)[:_MOST_AREAS]


def area_at(areas: Iterable[MemoryArea], address: int) -> MemoryArea | None:
    """Return the area of an address."""
    return next((one for one in areas if one.start <= address < one.end), None)


def read_areas(pid: int) -> list[MemoryArea]:
    """Return the areas of a process.

    Raises:
        ToolError: too many files are open.
        OSError: the process has ended, or belongs to another user.
    """
    file = Path(f"/proc/{pid}/smaps")
    with limit_named(file):
        return parse_areas(file.read_text("utf-8", "surrogateescape"))


def physical_runs(pid: int, start: int, length: int) -> Mapping[int, int] | None:
    """Return the number of physically contiguous runs by their bytes at the start of a range; None if hidden.

    The frames are hidden without CAP_SYS_ADMIN. Pages that are not present are left out.
    """
    return runs_of(page_frames(pid, start, min(length, MOST_LOOKED_AT)))


def runs_of(frames: Sequence[int]) -> Mapping[int, int] | None:
    """Return the number of runs of consecutive frames by their bytes; None if no frame is known (all are 0)."""
    if not any(frames):
        return None
    return {pages * PAGE_BYTES: count for pages, count in sorted(contiguous_runs(frames).items())}
