# SPDX-License-Identifier: MIT
"""IOVA ranges, and the first fit among the ranges that an IOAS allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import HwptData, IovaRange, IovaRanges

VTD = IovaRanges((IovaRange(0, 0xFEDF_FFFF), IovaRange(0xFEF0_0000, 0x7F_FFFF_FFFF)), 4096)


@pytest.mark.parametrize(("start", "last"), [(1, 0), (-1, 5), (0, 1 << 64)])
def test_impossible_ranges(start: int, last: int) -> None:
    with pytest.raises(ValueError, match="is not an IOVA range"):
        IovaRange(start, last)


class Index:
    """An integer of another library, such as numpy: Python can only convert it."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


def test_an_integer_of_another_library_becomes_an_int() -> None:
    whole = IovaRange(Index(0), Index((1 << 64) - 1))  # type: ignore[arg-type]
    assert whole == IovaRange(0, (1 << 64) - 1)
    assert whole.length == 1 << 64
    assert type(IovaRanges((whole,), Index(4096)).alignment) is int  # type: ignore[arg-type]
    assert type(HwptData(Index(1), b"").type) is int  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 4096, "0-0xfff", (0, 4095)])
def test_ranges_consist_of_ranges(value: object) -> None:
    with pytest.raises(TypeError, match=r"^IovaRanges\(\): ranges must be IovaRange objects, not "):
        IovaRanges((IovaRange(0, 5), value), 4096)  # type: ignore[arg-type]


def test_last_is_inclusive() -> None:
    whole = IovaRange(0, (1 << 64) - 1)
    assert whole.length == 1 << 64
    assert IovaRange(0x1000, 0x1FFF).contains(0x1000, 0x1000)
    assert not IovaRange(0x1000, 0x1FFF).contains(0x1000, 0x1001)


def test_first_fit_steps_over_the_msi_hole() -> None:
    assert VTD.first_fit(1 << 20, 1 << 20) == 0
    assert VTD.first_fit(2 << 20, 2 << 20, lowest=0xFEC0_0000) == 0xFEC0_0000
    assert VTD.first_fit(4 << 20, 4 << 20, lowest=0xFEC0_0000) == 0xFF00_0000
    assert VTD.first_fit(1 << 40, 4096) is None


ranges = st.builds(
    lambda start, length: IovaRange(start, start + length), st.integers(0, 1 << 40), st.integers(0, 1 << 40)
)


@given(ranges, st.integers(1, 1 << 30), st.integers(0, 30), st.integers(0, 1 << 41))
def test_first_fit_is_aligned_inside_and_the_lowest(one: IovaRange, length: int, shift: int, lowest: int) -> None:
    alignment = 1 << shift
    found = IovaRanges((one,), 1).first_fit(length, alignment, lowest=lowest)
    if found is None:
        first = -(-max(one.start, lowest) // alignment) * alignment
        assert not one.contains(first, length)
    else:
        assert found % alignment == 0
        assert found >= lowest
        assert one.contains(found, length)
        assert found - alignment < max(one.start, lowest)
