# SPDX-License-Identifier: MIT
"""The areas of an IOAS, and the free ranges between them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from iommufd_py import IovaRange

CPU_PAGE = 4096
LAST = (1 << 64) - 1


def holes(used: Iterable[IovaRange], within: IovaRange) -> Iterator[IovaRange]:
    """Yield the parts of *within* that *used* leaves free, in ascending order."""
    free = within.start
    for one in sorted(used):
        if one.start > within.last:
            break
        if one.start > free:
            yield IovaRange(free, one.start - 1)
        free = max(free, one.last + 1)
    if free <= within.last:
        yield IovaRange(free, within.last)


def fit(hole: IovaRange, length: int, granule: int, in_page: int) -> int | None:
    """Return the first IOVA in *hole* that is *in_page* beyond a multiple of *granule*, if *length* fits there."""
    first = -(-hole.start // granule) * granule | in_page
    return first if first < hole.last and hole.last - first >= length - 1 else None


@dataclass(frozen=True, eq=False, slots=True)
class Pages:
    """The memory of one map call (struct iopt_pages). Each page of it is pinned once, for any number of areas."""

    memory: str
    writable: bool


@dataclass(frozen=True, eq=False, slots=True)
class IoptArea:
    """One mapped range (struct iopt_area), which shows *pages* from byte *offset* of their buffer."""

    span: IovaRange
    pages: Pages
    offset: int
    readable: bool
    writable: bool

    def __lt__(self, other: "IoptArea") -> bool:
        return self.span < other.span

    @property
    def iova(self) -> int:
        return self.span.start

    @property
    def length(self) -> int:
        return self.span.length

    def offset_of(self, iova: int) -> int:
        return self.offset + iova - self.iova

    def page_numbers(self, span: IovaRange | None = None) -> range:
        """Return the numbers of the buffer's pages behind *span*, or behind the whole area."""
        span = span or self.span
        first, last = max(span.start, self.span.start), min(span.last, self.span.last)
        return range(self.offset_of(first) // CPU_PAGE, self.offset_of(last) // CPU_PAGE + 1)

    def aligned_to(self, alignment: int) -> bool:
        return not (self.iova % alignment or self.length % alignment or self.offset % CPU_PAGE % alignment)


@dataclass(slots=True)
class IoasState:
    """One IOAS."""

    areas: list[IoptArea] = field(default_factory=list)
    reserved: list[IovaRange] = field(default_factory=list)
    allowed: list[IovaRange] = field(default_factory=list)
    huge_pages: bool = True

    def overlapping(self, span: IovaRange) -> list[IoptArea]:
        return [area for area in self.areas if area.span.overlaps(span)]

    def contiguous(self, span: IovaRange) -> tuple[list[IoptArea], bool]:
        """Return the areas that cover *span* without a hole from its start, and whether they cover all of it."""
        covering: list[IoptArea] = []
        next_iova = span.start
        for area in self.overlapping(span):
            if area.iova > next_iova:
                break
            covering.append(area)
            next_iova = area.span.last + 1
        return covering, next_iova > span.last
