# SPDX-License-Identifier: MIT
"""Messages show every wrong value in a short form."""

from decimal import Decimal

import pytest

from iommufd_py import DmaBuffer, ToolError, pci
from iommufd_py.base.shown import shown


class Failing:
    def __repr__(self) -> str:
        raise RuntimeError


class Lines:
    def __repr__(self) -> str:
        return "Lines(\n  \x1b[31m1,\r\n  2)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("thp", "'thp'"),
        ("x" * 5000, "'" + "x" * 40 + "...'"),
        (7, "7"),
        (-1, "-1"),
        (1 << 64, "0x10000000000000000"),
        (10**5000, hex(10**5000)[:40] + "..."),
        (None, "None"),
        ([1], "the list [1]"),
        ([10**5000], "the list"),
        (Decimal("3"), "the decimal.Decimal Decimal('3')"),
        (Failing(), f"the {__name__}.Failing"),
        (Lines(), f"the {__name__}.Lines Lines( \\x1b[31m1, 2)"),
    ],
    ids=[str(number) for number in range(12)],  # pytest cannot write a number with thousands of digits either
)
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("value", [None, 1, b"0000:00:10.0", Failing(), ["0000:00:10.0"]])
def test_an_address_is_text(value: object) -> None:
    for ask in (pci.pci_device, pci.uses, pci.bind_vfio, pci.restore):
        with pytest.raises(ToolError, match="a PCI address must be a string, not "):
            ask(value)  # type: ignore[operator]


@pytest.mark.parametrize("value", [None, "13", "../../..", -1, 1 << 31, 1 << 200, 1.0, True])
def test_a_group_is_a_number(value: object) -> None:
    with pytest.raises(ToolError, match=r"iommu_group\(\): number must "):
        pci.iommu_group(value)  # type: ignore[arg-type]


def test_a_number_with_thousands_of_digits_is_refused_in_one_sentence() -> None:
    with pytest.raises(ToolError, match=r"^DmaBuffer\(\): length must fit in 64 bits, not 0x"):
        DmaBuffer(10**5000)
    with DmaBuffer(4096) as buffer, pytest.raises(ToolError, match="is not inside"):
        buffer.check_range(10**5000, 1)
