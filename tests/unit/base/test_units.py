# SPDX-License-Identifier: MIT
"""Sizes, IOVAs, times and counts: how they are read, printed and rounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.base.units import (
    counted,
    format_bytes,
    format_ns,
    format_ratio,
    format_size,
    parse_iova,
    parse_size,
    round_up,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("4K", 4096),
        ("4k", 4096),
        ("2MiB", 2 << 20),
        ("1 GB", 1 << 30),
        ("512B", 512),
        ("0x1000", 4096),
        ("3T", 3 << 40),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("count", "text"), [(0, "0 processes"), (1, "1 process"), (2, "2 processes")])
def test_a_noun_follows_its_number(count: int, text: str) -> None:
    assert counted(count, "process", "processes") == text
    assert counted(count, "byte") == f"{count} byte{'' if count == 1 else 's'}"


# The signs for kelvin and for long s, letters with and without a dot, spaces and a line feed.
_FOREIGN = ("4\u212a", "4\u0130B", "4K\u0131B", "4\u2003K", "4\u00a0K", "4K\n", "\x1c4K", "\ufeff4K", "0\u03c710")


@pytest.mark.parametrize(
    "text", ["", "K", "-4K", "4.5M", "4Q", "0", "0x", "4K4K", "4iB", "4 Ki", "٤K", "1_0", "9" * 5000, *_FOREIGN]
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@given(st.integers(min_value=1, max_value=1 << 60))
def test_format_size_is_exact(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_message_about_a_long_text_is_short() -> None:
    for parse in (parse_size, parse_iova):
        with pytest.raises(ValueError, match=r"^'9+\.\.\.' is not") as refused:
            parse("9" * 5000)
        assert len(str(refused.value)) < 120


@pytest.mark.parametrize("text", ["", " ", "-1", "1.5", "0x", "٤", "x" * 5000, "0\n", "\u00a00", *_FOREIGN])
def test_parse_iova_speaks_of_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address: write it as in 0x100000000"):
        parse_iova(text)


def test_parse_iova() -> None:
    assert {parse_iova(zero) for zero in ("0", "00", "0x0", "0X00", " 0 ")} == {0}
    assert parse_iova("0x100000000") == parse_iova("4G") == 1 << 32
    with pytest.raises(ValueError, match="64 bits"):
        parse_iova(hex(1 << 64))


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (0.382, "0.382 ns"),
        (999.4, "999 ns"),
        (999.6, "1 us"),
        (21_340, "21.3 us"),
        (149_900, "150 us"),
        (1.2e6, "1.2 ms"),
        (2.5e9, "2.5 s"),
        (999.7e9, "1000 s"),
        (3600e9, "3600 s"),
    ],
)
def test_format_ns(nanoseconds: float, text: str) -> None:
    assert format_ns(nanoseconds) == text


@given(st.floats(min_value=1, max_value=1e12))
def test_format_ns_keeps_three_digits(nanoseconds: float) -> None:
    number, unit = format_ns(nanoseconds).split()
    shown = float(number) * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert shown == pytest.approx(nanoseconds, rel=0.006, abs=0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0004, "0.0004"),
        (0.0000318, "0.0000318"),
        (-0.00000400001, "-0.000004"),
        (0.8, "0.8"),
        (0.98, "0.980"),
        (1, "1.000"),
        (1.0204, "1.020"),
        (1.1, "1.1"),
        (3.416, "3.42"),
        (1000.4, "1000"),
        (-6543.2, "-6543"),
    ],
)
def test_format_ratio(value: float, text: str) -> None:
    assert format_ratio(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (4096, "4 KiB"),
        (1536 << 10, "1.5 MiB"),
        (1023 << 20, "1023 MiB"),
        (1_048_261_427, "1000 MiB"),
        (17 << 30, "17 GiB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@given(st.integers(min_value=0, max_value=(1 << 64) - 1), st.integers(min_value=1, max_value=1 << 30))
def test_a_value_is_rounded_up_by_less_than_a_unit(value: int, unit: int) -> None:
    rounded = round_up(value, unit)
    assert rounded % unit == 0
    assert value <= rounded < value + unit
