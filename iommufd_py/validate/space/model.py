# SPDX-License-Identifier: MIT
"""A model of pins and exposure that predicts which pages an operation on iommufd must flush. Pure.

It follows the kernel's structures. An IOAS has domains and areas. An area is a slice of a set of pages (struct
iopt_pages), which IOMMU_IOAS_COPY shares. A page of a set is pinned while an area over it is in an IOAS with a domain,
or while an access pins it. The set keeps a mark that it was once mapped into a non-coherent domain.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from iommufd_py.base.coherency import Coherency


@dataclass(eq=False, slots=True)
class PageSet:
    """The pages of one map call, shared by its copies.

    Attributes:
        key: identifies the set for the caller.
        holders: number of areas and accesses that keep each page pinned.
        exposed: pages that a non-coherent domain mapped since they were pinned.
        marked: whether a non-coherent domain mapped a page of the set at any time.
    """

    key: int
    holders: Counter[int] = field(default_factory=Counter)
    exposed: set[int] = field(default_factory=set)
    marked: bool = False


@dataclass(eq=False, slots=True)
class Area:
    """A mapping: *count* pages of a set from *first*, in the IOAS *ioas*."""

    ioas: "IoasModel"
    pages: PageSet
    first: int
    count: int
    pins: list["Pin"] = field(default_factory=list)

    @property
    def indexes(self) -> range:
        """Indexes of the pages that the area maps."""
        return range(self.first, self.first + self.count)


@dataclass(eq=False, slots=True)
class Pin:
    """An access pins *count* pages from *first* of the set, through an area."""

    area: Area
    first: int
    count: int

    @property
    def indexes(self) -> range:
        """Indexes of the pages that the access pins."""
        return range(self.first, self.first + self.count)


@dataclass(eq=False, slots=True)
class IoasModel:
    """An IOAS: its areas and the coherency of its domains."""

    areas: list[Area] = field(default_factory=list)
    domains: list[Coherency] = field(default_factory=list)

    @property
    def is_exposing(self) -> bool:
        """Whether a domain is non-coherent."""
        return Coherency.NON_COHERENT in self.domains


@dataclass(slots=True)
class FlushedPages:
    """The pages that an operation flushes, as (set, index); a page may be listed more than once.

    Attributes:
        enter: pages flushed before they are mapped.
        leave: pages flushed before they are unpinned.
        may: pages that the kernel may flush because of the mark, but need not.
    """

    enter: list[tuple[PageSet, int]] = field(default_factory=list)
    leave: list[tuple[PageSet, int]] = field(default_factory=list)
    may: list[tuple[PageSet, int]] = field(default_factory=list)


def add_area(area: Area) -> FlushedPages:
    """Add an area, as a map or a copy does."""
    flushes = FlushedPages()
    ioas = area.ioas
    if ioas.domains:
        area.pages.holders.update(area.indexes)
    if ioas.is_exposing:
        _expose(area, flushes)
    ioas.areas.append(area)
    return flushes


def remove_areas(areas: Iterable[Area]) -> FlushedPages:
    """Remove areas, as an unmap does. The kernel asks each access to unpin first."""
    flushes = FlushedPages()
    for area in areas:
        for pin in area.pins:
            _release(area.pages, pin.indexes, flushes)
        area.pins.clear()
        if area.ioas.domains:
            _release(area.pages, area.indexes, flushes)
        area.ioas.areas.remove(area)
    return flushes


def add_domain(ioas: IoasModel, coherency: Coherency) -> FlushedPages:
    """Let a domain join."""
    flushes = FlushedPages()
    for area in ioas.areas:
        if not ioas.domains:
            area.pages.holders.update(area.indexes)
        if coherency is Coherency.NON_COHERENT:
            _expose(area, flushes)
    ioas.domains.append(coherency)
    return flushes


def remove_domain(ioas: IoasModel, coherency: Coherency) -> FlushedPages:
    """Let a domain go."""
    flushes = FlushedPages()
    ioas.domains.remove(coherency)
    if not ioas.domains:
        for area in ioas.areas:
            _release(area.pages, area.indexes, flushes)
    return flushes


def add_pin(pin: Pin) -> None:
    """Let an access pin pages, which flushes nothing."""
    pin.area.pages.holders.update(pin.indexes)
    pin.area.pins.append(pin)


def remove_pin(pin: Pin) -> FlushedPages:
    """Let an access unpin."""
    flushes = FlushedPages()
    pin.area.pins.remove(pin)
    _release(pin.area.pages, pin.indexes, flushes)
    return flushes


def _expose(area: Area, flushes: FlushedPages) -> None:
    flushes.enter += [(area.pages, index) for index in area.indexes]
    area.pages.exposed.update(area.indexes)
    area.pages.marked = True


def _release(pages: PageSet, indexes: Iterable[int], flushes: FlushedPages) -> None:
    for index in indexes:
        pages.holders[index] -= 1
        if pages.holders[index]:
            continue
        if index in pages.exposed:
            flushes.leave.append((pages, index))
            pages.exposed.discard(index)
        elif pages.marked:
            flushes.may.append((pages, index))
