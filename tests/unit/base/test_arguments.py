# SPDX-License-Identifier: MIT
"""Arguments of calls: timeouts and the length of bytes, as the kernel takes them."""

import math
from array import array
from fractions import Fraction
from uuid import UUID

import pytest

from iommufd_py import ArgumentValueError, HwptData
from iommufd_py.base.arguments import checked, milliseconds
from iommufd_py.base.errors import ArgumentTypeError

LONGEST = (1 << 31) - 1
NUMBERS = array("I", [1, 2])


@pytest.mark.parametrize(
    ("seconds", "found"),
    [(None, None), (0, 0), (0.0001, 1), (1, 1000), (1.5, 1500), (math.inf, LONGEST), (1 << 31, LONGEST)],
)
def test_a_timeout_in_milliseconds(seconds: float | None, found: int | None) -> None:
    assert milliseconds("timeout", seconds) == found


def test_a_number_of_numpy_is_a_timeout_too() -> None:
    """They are integers elsewhere in the interface."""
    numpy = pytest.importorskip("numpy")
    for seconds in (numpy.int64(2), numpy.uint8(2), numpy.float32(2), numpy.float64(2)):
        assert milliseconds("timeout", seconds) == 2000
    with pytest.raises(ArgumentTypeError, match="timeout must be a number"):
        milliseconds("timeout", numpy.bool_(True))


def test_a_number_that_no_float_holds_is_a_timeout_too() -> None:
    for long in (10**400, Fraction(10**400)):
        assert milliseconds("timeout", long) == LONGEST
    for wrong in (-(10**400), Fraction(-(10**400)), math.nan, -0.001):
        with pytest.raises(ArgumentValueError, match="timeout must be 0 or more seconds"):
            milliseconds("timeout", wrong)


def test_a_refused_bool_of_numpy_is_told_from_a_bool() -> None:
    """The message was "must be a bool, not the bool np.False_"."""
    numpy = pytest.importorskip("numpy")

    @checked
    def switch(on: bool) -> None: ...

    with pytest.raises(ArgumentTypeError, match=r"on must be a bool, not the numpy\.bool_? "):
        switch(numpy.bool_(False))


def test_a_released_view_is_refused() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ArgumentValueError, match="content must be bytes, not a memoryview that is released"):
        HwptData(0, view)  # type: ignore[arg-type]


def test_a_message_says_a_uuid() -> None:
    @checked
    def take(token: UUID | None) -> None: ...

    with pytest.raises(ArgumentTypeError, match="token must be a UUID or None, not 5"):
        take(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("view", "content"),
    [
        (memoryview(NUMBERS), NUMBERS.tobytes()),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(b"abcd").cast("B", (2, 2)), b"abcd"),
        (memoryview(b"x").cast("B", ()), b"x"),
        (memoryview(b"abc"), b"abc"),
        (memoryview(b""), b""),
    ],
)
def test_the_length_of_bytes_counts_bytes(view: memoryview, content: bytes) -> None:
    """A structure of numbers had the length of its items, so the kernel got a part of it."""

    @checked
    def taken(data: bytes, *more: bytes) -> list[tuple[int, bytes]]:
        return [(len(one), bytes(one)) for one in (data, *more)]

    assert taken(view, view) == [(len(content), content)] * 2
    assert len(HwptData(0, view).content) == len(content)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="data must be bytes"):
        taken(NUMBERS)  # type: ignore[arg-type]
