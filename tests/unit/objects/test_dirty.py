# SPDX-License-Identifier: MIT
"""A bitmap of dirty pages, as pages and as IOVA ranges."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import ArgumentValueError, DirtyBitmap
from iommufd_py.objects.dirty import zeroed_bits
from tests.bad_values import ADDRESS, BYTES, Case, hold

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


@pytest.mark.parametrize("page_bytes", [3, 6, 4095, 12288, (1 << 63) + 1])
def test_pages_of_other_sizes_than_powers_of_two_are_refused(page_bytes: int) -> None:
    """For 12288 the kernel would write the bits of 4096, three times as many, into the memory of other objects."""
    with pytest.raises(ArgumentValueError, match="page_bytes must be a power of two"):
        zeroed_bits("read()", 4 << 20, page_bytes)
    assert len(zeroed_bits("read()", 4 << 20, 4096)) == 128


@pytest.mark.parametrize(
    ("length", "bits"), [(PAGE, b""), (9 * PAGE, b"\1"), (8 * PAGE + 1, b"\1"), (1 << 63, b"\1" * 9)]
)
def test_too_few_bits_for_the_pages_are_refused(length: int, bits: bytes) -> None:
    """The mock driver would read the bits of the other pages from memory behind them."""
    with pytest.raises(ArgumentValueError, match=rf"bits has {len(bits)} bytes, too few for \d+ pages$"):
        DirtyBitmap(BASE, length, PAGE, bits)


def test_a_wrong_bitmap_is_refused_in_one_sentence() -> None:
    right = {"iova": 0, "length": PAGE, "page_bytes": PAGE, "bits": b"\1"}
    hold(Case(DirtyBitmap, {"iova": ADDRESS, "length": ADDRESS, "page_bytes": ADDRESS, "bits": BYTES}, right))
    for name in ("length", "page_bytes"):
        with pytest.raises(ArgumentValueError, match=f"{name} must be from 1 to"):
            DirtyBitmap(**{**right, name: 0})  # type: ignore[arg-type]
