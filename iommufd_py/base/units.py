# SPDX-License-Identifier: MIT
"""Sizes, addresses and times: read them from text, write them as text, round them."""

import re

from iommufd_py.base.shown import shown

# The base page of the IOMMU page tables and of the figures "per 4K page"; not necessarily the CPU's page size.
PAGE_BYTES = 4096

_SUFFIXES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# A number with more digits exceeds every file, mapping and address space.
_MOST_DIGITS = 30
# Without re.ASCII, K is also the sign for kelvin (U+212A), and a space is also one that no line can be broken at.
_FLAGS = re.IGNORECASE | re.ASCII
_NUMBER = rf"0x[0-9a-f]{{1,{_MOST_DIGITS}}}|[0-9]{{1,{_MOST_DIGITS}}}"
_SIZE = re.compile(rf" *({_NUMBER}) *(?:([KMGT])(?:i?B)?|B?) *", _FLAGS)
_ZERO = re.compile(r" *(0x0+|0+) *", _FLAGS)


def parse_size(text: str) -> int:
    """Return the bytes that *text* names: ``4096``, ``4K``, ``2MiB``, ``0x1000``; K, M, G, T are powers of 1024.

    Raises:
        ValueError: *text* is not a size, or not above zero.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not a size: write bytes, or a number with K, M, G or T")
    size = int(match[1], 0 if match[1].lower().startswith("0x") else 10) * _SUFFIXES[(match[2] or "").upper()]
    if size == 0:
        raise ValueError(f"{shown(text)} is zero: a size must be at least one byte")
    return size


def format_size(size_bytes: int) -> str:
    """Return *size_bytes* in the largest unit that divides it: ``4K``, ``2M``, ``4097``."""
    for suffix in ("T", "G", "M", "K"):
        unit = _SUFFIXES[suffix]
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{suffix}"
    return str(size_bytes)


def round_up(value: int, unit: int) -> int:
    """Return the lowest multiple of *unit* that is not less than *value*."""
    return -(-value // unit) * unit


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 scenario``, ``2 scenarios``. *plural* is for nouns that do not add an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def format_bytes(count: int) -> str:
    """Format a number of bytes with three digits: ``16.2 GiB``."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{three_digits(count / factor)} {unit}"
    return counted(count, "byte")


def three_digits(value: float) -> str:
    """Format a number with three digits and no exponent. A larger number has all its digits before the point."""
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    text = f"{value:.3g}"
    # 0.0000318 and not 3.18e-05.
    return f"{float(text):.{2 - int(text.partition('e')[2])}f}".rstrip("0") if "e" in text else text


def format_ratio(value: float) -> str:
    """Format a ratio with three digits, and in thousandths on both sides of 1: ``0.986``, ``1.021``, ``1.4``.

    Three digits above 1 are hundredths, too coarse for a margin of 2 %: both 1.018 and 1.022 would be 1.02.
    """
    return f"{value:.3f}" if 0.9 <= value < 1.1 else three_digits(value)


def format_percent(share: float) -> str:
    """Format a share with up to three digits: ``2%``, ``2.5%``, ``0.01%``. A margin of 2.5 % is not one of 2 %."""
    return f"{three_digits(share * 100)}%"


def parse_iova(text: str) -> int:
    """Return the IOVA that *text* names, hexadecimal with ``0x`` or decimal or a size such as ``4G``.

    Raises:
        ValueError: *text* is not an address of 64 bits.
    """
    if _ZERO.fullmatch(text):
        return 0
    try:
        iova = parse_size(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an address: write it as in 0x100000000, 4096 or 4G") from None
    if iova >= 1 << 64:
        raise ValueError(f"{shown(text)} does not fit in 64 bits")
    return iova


def format_ns(nanoseconds: float) -> str:
    """Return a time with three significant digits and a unit that suits it: ``812 ns``, ``21.3 us``, ``1.20 ms``."""
    for unit, factor in (("ns", 1.0), ("us", 1e3), ("ms", 1e6)):
        value = nanoseconds / factor
        if value < 999.5:
            # A sample is a whole number of nanoseconds. The time for one page of many can be a part of one.
            return f"{value:.0f} {unit}" if unit == "ns" and value >= 1 else f"{three_digits(value)} {unit}"
    return f"{three_digits(nanoseconds / 1e9)} s"
