# SPDX-License-Identifier: MIT
"""Cache lines of pages, as bits of an integer. Pure."""

from collections.abc import Iterator, Sequence

from iommufd_py.base.units import PAGE_BYTES

LINE_BYTES = 64
_COUNT = PAGE_BYTES // LINE_BYTES
ALL_LINES = (1 << _COUNT) - 1
"""The lines of a whole page."""


def lines_of(offset: int, size: int) -> int:
    """Return the cache lines of a page that *size* bytes from *offset* touch."""
    first, end = offset // LINE_BYTES, -(-(offset + size) // LINE_BYTES)
    return (1 << end) - (1 << first)


def slices(phys: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Cut a physical range at the page boundaries: (frame, offset in the range, lines)."""
    at, end = phys, phys + length
    while at < end:
        frame, offset = divmod(at, PAGE_BYTES)
        size = min(PAGE_BYTES - offset, end - at)
        yield frame, at - phys, lines_of(offset, size)
        at += size


def depth(flushes: Sequence[int], lines: int) -> tuple[int, int]:
    """Return how often each of *lines* was flushed at least, and any line of the page at most."""
    if all(flushed == ALL_LINES for flushed in flushes):
        return len(flushes), len(flushes)
    bits = [1 << line for line in range(_COUNT)]
    depths = {bit: sum(bool(flushed & bit) for flushed in flushes) for bit in bits}
    return min(found for bit, found in depths.items() if bit & lines), max(depths.values())
