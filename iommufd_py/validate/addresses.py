# SPDX-License-Identifier: MIT
"""Find the addresses of the struct pages and of the direct map, by means of pages with known frame numbers. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from iommufd_py.base.errors import SkipError
from iommufd_py.base.units import PAGE_BYTES

# The direct map starts at a multiple of this, with and without randomization (arch/x86/mm/kaslr.c).
_DIRECT_MAP_ALIGNMENT = 1 << 30
# A struct page has 64 bytes, or more with debugging options, and always a multiple of a word.
_STRUCT_SIZES = range(48, 257, 8)

_UNKNOWN_FUNCTION = "the unpin of the pages cannot be observed: the kernel unpins them in an unknown function"
_NO_ARRAY = "the unpin of the pages cannot be observed: struct pages do not lie in one array"


@dataclass(frozen=True, slots=True)
class PageStructs:
    """The kernel's array of struct page, which turns the arguments of unpins into frame numbers.

    Attributes:
        base: address of the struct page of frame 0.
        size: bytes of one struct page.
    """

    base: int
    size: int

    @classmethod
    def solve(cls, known: Iterable[tuple[int, int]]) -> "PageStructs":
        """Find the array from (address, frame) pairs.

        Raises:
            SkipError: there are too few pairs, or no array fits them, as with a memory model without such an array.
        """
        pairs = sorted(set(known))
        if len({frame for _, frame in pairs}) < 2:
            raise SkipError(_UNKNOWN_FUNCTION)
        (low_address, low_frame), (high_address, high_frame) = pairs[0], pairs[-1]
        size, rest = divmod(high_address - low_address, high_frame - low_frame) if high_frame > low_frame else (0, 1)
        base = low_address - low_frame * size
        if rest or any(base + frame * size != address for address, frame in pairs):
            raise SkipError(_NO_ARRAY)
        return cls(base, size)

    @classmethod
    def find(cls, seen: Sequence[tuple[Collection[int], int]]) -> "PageStructs":
        """Find the array from recorded addresses: some are of known pages, the others are of unknown pages.

        On a busy host the kernel unpins other pages at the same time. An interrupt does so even in the context of this
        thread. Only the addresses of the known pages are a linear function of their frame numbers.

        Args:
            seen: for each known page, the addresses recorded during its unpin, and its frame number.

        Raises:
            SkipError: no array fits, or several do.
        """
        if not all(addresses for addresses, _ in seen):
            raise SkipError(_UNKNOWN_FUNCTION)
        found = set()
        (firsts, frame), (seconds, other), *rest = seen
        for pair in product(set(firsts), set(seconds)):
            try:
                structs = cls.solve(zip(pair, (frame, other), strict=True))
            except SkipError:
                continue
            if structs.size in _STRUCT_SIZES and all(
                structs.base + one * structs.size in addresses for addresses, one in rest
            ):
                found.add(structs)
        if len(found) != 1:
            raise SkipError(_NO_ARRAY)
        return found.pop()

    def frame(self, address: int) -> int:
        """Return the frame number of a struct page."""
        return (address - self.base) // self.size


def direct_map_base(flushed: Iterable[tuple[frozenset[int], int]]) -> int | None:
    """Find the address of the kernel's direct map of all memory.

    Args:
        flushed: for each of some known pages, the virtual addresses that were flushed while it was mapped and
            unmapped, and its frame number.

    Returns:
        The address of physical memory 0, or None if no address fits all pages.
    """
    candidates: set[int] | None = None
    for addresses, frame in flushed:
        phys = frame * PAGE_BYTES
        found = {address - phys for address in addresses if (address - phys) % _DIRECT_MAP_ALIGNMENT == 0}
        candidates = found if candidates is None else candidates & found
    return candidates.pop() if candidates is not None and len(candidates) == 1 else None
