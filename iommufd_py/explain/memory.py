# SPDX-License-Identifier: MIT
"""The memory of another process: its areas, the pages behind them, and how contiguous they are."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.objects.buffer import frame_number

_AREA = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)")
_VALUE = re.compile(r"(\w+): +(\d+) kB")
_SHARED = re.compile(r"/memfd:|/dev/shm/|/SYSV|/dev/zero|/dev/hugepages|/anon_hugepage")
_HUGE_FIELDS = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")
_HUGETLB_FIELDS = ("Shared_Hugetlb", "Private_Hugetlb")
# Areas with less than this share of the present memory are irrelevant for maps.
_SMALLEST_SHARE = 0.05
_MOST_AREAS = 5
MOST_LOOKED_AT = 64 << 20
"""The number of bytes of an area whose page frames are read."""


class Kind(StrEnum):
    """The kind of memory behind an area."""

    ANONYMOUS = "anonymous memory"
    HUGETLB = "hugetlb memory"
    SHARED = "shared memory"
    FILE = "file"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Area:
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
    kind: Kind
    present: int
    page_bytes: int
    huge_bytes: int

    @property
    def length(self) -> int:
        """Length in bytes."""
        return self.end - self.start


def parse_areas(smaps: str) -> list[Area]:
    """Read /proc/PID/smaps (Documentation/filesystems/proc.rst)."""
    found = []
    for place, name, values, flags in _sections(smaps):
        hugetlb = sum(values.get(one, 0) for one in _HUGETLB_FIELDS)
        found.append(
            Area(
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


def _kind(name: str, flags: frozenset[str]) -> Kind:
    if "ht" in flags:
        return Kind.HUGETLB
    if flags & {"io", "pf"}:
        return Kind.DEVICE
    if _SHARED.match(name):
        return Kind.SHARED
    # A name in brackets is the heap, a stack, or a name that the process gave with prctl().
    return Kind.FILE if name and not name.startswith("[") else Kind.ANONYMOUS


def largest(areas: Sequence[Area]) -> list[Area]:
    """Return the areas with the most present memory, the largest first, without small areas."""
    total = sum(one.present for one in areas)
    big = [one for one in areas if one.kind is not Kind.DEVICE and one.present >= max(1, total * _SMALLEST_SHARE)]
    return sorted(big, key=lambda one: -one.present)[:_MOST_AREAS]


def area_at(areas: Iterable[Area], address: int) -> Area | None:
    """Return the area of an address."""
    return next((one for one in areas if one.start <= address < one.end), None)


def read_areas(pid: int) -> list[Area]:
    """Return the areas of a process.

    Raises:
        OSError: the process has ended, or belongs to another user.
    """
    return parse_areas(Path(f"/proc/{pid}/smaps").read_text("utf-8", "surrogateescape"))


def physical_runs(pid: int, start: int, length: int) -> Mapping[int, int] | None:
    """Return the number of physically contiguous runs by their bytes at the start of a range; None if hidden.

    The frames are hidden without CAP_SYS_ADMIN. Pages that are not present are left out.
    """
    entries = array("Q")
    with Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
        pagemap.seek(start // PAGE_BYTES * entries.itemsize)
        whole = pagemap.read(min(length, MOST_LOOKED_AT) // PAGE_BYTES * entries.itemsize)
    entries.frombytes(whole[: len(whole) // entries.itemsize * entries.itemsize])
    return runs_of([frame_number(entry) for entry in entries])


def runs_of(frames: Sequence[int]) -> Mapping[int, int] | None:
    """Return the number of runs of consecutive frames by their bytes; None if no frame is known (all are 0)."""
    if not any(frames):
        return None
    runs: Counter[int] = Counter()
    pages = 1
    for before, frame in pairwise([*frames, 0]):
        if before and frame == before + 1:
            pages += 1
            continue
        if before:
            runs[pages * PAGE_BYTES] += 1
        pages = 1
    return dict(sorted(runs.items()))
