# SPDX-License-Identifier: MIT
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import DirtyBitmap

PAGE = 4096
BASE = 1 << 24


@given(st.sets(st.integers(0, 199)))
def test_a_bitmap_as_pages_and_as_ranges(pages: set[int]) -> None:
    bits = bytearray(25)
    for page in pages:
        bits[page // 8] |= 1 << page % 8
    bitmap = DirtyBitmap(BASE, 200 * PAGE, PAGE, bytes(bits))
    assert len(bitmap) == len(pages)
    assert {page for page in range(-1, 201) if BASE + page * PAGE in bitmap} == pages
    ranges = list(bitmap.ranges())
    assert {
        page for one in ranges for page in range((one.start - BASE) // PAGE, (one.last + 1 - BASE) // PAGE)
    } == pages
    # Neighbours are joined, so there is a gap between any two ranges.
    assert all(before.last + 1 < after.start for before, after in pairwise(ranges))
