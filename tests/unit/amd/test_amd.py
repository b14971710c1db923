# SPDX-License-Identifier: MIT
"""The Extended Feature Register of real and emulated IOMMUs, as their kernels logged it, and what follows from it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.amd import EFR, EFR2, Features, TableFormat, flushes_of_amd, table_format
from iommufd_py.base.coherency import Coherency
from iommufd_py.base.register import Field, decode, reserved_bits

# QEMU 7.2, AMDVI_EXT_FEATURES: prefetch, PPR, GT, IA, GA, HE, HATS and GATS of 6 levels.
QEMU = Features(0x29D3)
# "AMD-Vi: Extended features (0x58f77ef22294ade, 0x0)": a Ryzen of the Zen 2 generation.
ZEN2 = Features(0x58F77EF22294ADE)

registers = st.integers(0, (1 << 64) - 1)


@pytest.mark.parametrize("fields", [EFR, EFR2], ids=["EFR", "EFR2"])
def test_fields_do_not_overlap_and_stand_in_order(fields: tuple[Field, ...]) -> None:
    for above, below in itertools.pairwise(fields):
        assert below.low + below.width <= above.low
    assert len({field.name for field in fields}) == len(fields)


@pytest.mark.slow
@given(registers)
def test_fields_and_reserved_bits_are_the_whole_register(register: int) -> None:
    values = decode(EFR, register)
    rebuilt = sum(values[field.name] << field.low for field in EFR)
    assert rebuilt + sum(1 << bit for bit in reserved_bits(EFR, register)) == register


def test_fields_of_two_known_registers() -> None:
    assert (QEMU.host_levels, QEMU.guest_levels, QEMU.v2_for_dma, QEMU.dirty_tracking) == (6, 6, False, False)
    # Its kernel printed: PPR X2APIC NX GT [5] IA GA PC GA_vAPIC.
    named = {name for name, value in decode(EFR, ZEN2.efr).items() if value}
    assert {"PPRSup", "XTSup", "NXSup", "GTSup", "IASup", "GASup", "PCSup", "GAMSup"} <= named
    assert "PreFSup" not in named
    assert (ZEN2.host_levels, ZEN2.guest_levels, ZEN2.pasid_bits) == (6, 4, 16)
    assert ZEN2.v2_for_dma


def test_a_reserved_code_is_no_number_of_levels() -> None:
    assert Features(3 << 10).host_levels is None
    assert Features(0).guest_levels is None
    assert Features(0).pasid_bits == 0


@pytest.mark.parametrize(
    ("words", "features", "table"),
    [
        ("quiet", ZEN2, TableFormat.V1),
        ("amd_iommu=pgtbl_v2", ZEN2, TableFormat.V2),
        ("amd_iommu=fullflush,pgtbl_v2 amd_iommu=pgtbl_v1", ZEN2, TableFormat.V1),
        ("amd_iommu=pgtbl_v2", QEMU, TableFormat.V1),  # no GIoSup: the kernel falls back
        ("amd_iommu=pgtbl_v2", None, TableFormat.V2),
        ("quiet", Features(ZEN2.efr | 3 << 10), TableFormat.V2),  # no levels of v1
    ],
)
def test_the_format_of_the_tables(words: str, features: Features | None, table: TableFormat) -> None:
    assert table_format(words, features) is table


def test_the_evidence_of_v2_is_a_claim() -> None:
    """The kernel answers "coherent" for both formats; only one of them can force DMA to snoop."""
    v1, v2 = flushes_of_amd(TableFormat.V1, True), flushes_of_amd(TableFormat.V2, True)
    assert v1.coherency is v2.coherency is Coherency.COHERENT
    assert "no Force Coherency bit" in v2.coherency_evidence
    assert "no Force Coherency bit" not in v1.coherency_evidence
    assert flushes_of_amd(TableFormat.V1).coherency_evidence.endswith("(predicted)")
    assert flushes_of_amd(TableFormat.V1, False).data_page_flush is True
    assert v1.page_table_flush is False


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("29d3:0\n", QEMU),
        ("58f77ef22294ade:8000000000000001", Features(ZEN2.efr, 0x8000000000000001)),
        ("29d3", QEMU),
        ("", None),
        ("0x29d3:0", None),
        ("not known", None),
    ],
)
def test_the_registers_in_sysfs(text: str, features: Features | None) -> None:
    assert Features.parse(text) == features
