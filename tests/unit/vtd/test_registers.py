# SPDX-License-Identifier: MIT
"""CAP and ECAP of real and emulated units, as their kernels logged them ("DMAR: dmar0: ... cap ... ecap ...")."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.vtd import CAP, ECAP, Capabilities, Field, decode, parse_translation_modes, reserved_bits

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# github.com/intel/intel-device-plugins-for-kubernetes/issues/1836: a Sapphire Rapids server without PASID, version 6.0.
SAPPHIRE_RAPIDS = Capabilities(0x19ED008C40780C66, 0x3EE9E86F050DF)
# github.com/utcs-scea/LAKE/issues/10: a Xeon server without scalable mode, version 1.0.
OLDER_XEON = Capabilities(0x8D2078C106F0466, 0xF020DF)
# QEMU 7.2 with snoop-control=off, the machine of the lab.
QEMU = Capabilities(0xD2008C22260286, 0xF00F4A)

registers = st.integers(0, (1 << 64) - 1)


@pytest.mark.parametrize("fields", [CAP, ECAP], ids=["CAP", "ECAP"])
def test_fields_do_not_overlap_and_stand_in_order(fields: tuple[Field, ...]) -> None:
    for above, below in itertools.pairwise(fields):
        assert below.low + below.width <= above.low
    assert len({field.name for field in (*CAP, *ECAP)}) == len(CAP) + len(ECAP)


@given(registers)
def test_fields_and_reserved_bits_are_the_whole_register(register: int) -> None:
    for fields in (CAP, ECAP):
        values = decode(fields, register)
        rebuilt = sum(values[field.name] << field.low for field in fields)
        assert rebuilt + sum(1 << bit for bit in reserved_bits(fields, register)) == register


def test_bits_as_the_specification_writes_them() -> None:
    assert {field.name: field.bits for field in CAP}["MGAW"] == "21:16"
    assert {field.name: field.bits for field in ECAP}["SC"] == "7"


@pytest.mark.parametrize("unit", [SAPPHIRE_RAPIDS, OLDER_XEON, QEMU])
def test_real_units_have_no_bit_that_is_unknown(unit: Capabilities) -> None:
    assert reserved_bits(CAP, unit.cap) == reserved_bits(ECAP, unit.ecap) == ()


def test_sapphire_rapids() -> None:
    unit = SAPPHIRE_RAPIDS
    scalable = ("SMTS", "FSTS", "SSTS", "SSADS", "SMPWCS", "NEST", "RPS")
    assert [unit[name] for name in (*scalable, "SC", "C", "DT", "CM", "PASID", "PRS")] == [1] * 10 + [0] * 3
    assert unit.address_bits == 57
    assert unit.walk_bits == (48, 57)
    assert unit.second_stage_pages == unit.first_stage_pages == (4 * KIB, 2 * MIB, GIB)
    assert unit["PSS"] == 19
    assert unit.pasid_bits == 0  # The unit has a PASID width, but no PASIDs.
    assert unit.domain_ids == 65536


def test_older_xeon() -> None:
    unit = OLDER_XEON
    assert (unit["SC"], unit["C"], unit["SMTS"]) == (1, 1, 0)
    assert unit.walk_bits == (48,)
    assert unit.first_stage_pages == ()
    assert (unit["NFR"], unit["MAMV"], unit["IRO"]) == (7, 18, 32)


def test_the_labs_unit() -> None:
    assert (QEMU["SC"], QEMU["C"], QEMU["CM"]) == (0, 0, 1)
    assert (QEMU.address_bits, QEMU.walk_bits) == (39, (39,))


def test_a_name_of_neither_register() -> None:
    with pytest.raises(KeyError):
        QEMU["SNOOP"]


def test_translation_modes_of_two_units() -> None:
    # iommu_regset of Linux 7.3, shortened: legacy mode, then scalable mode.
    dump = (
        "IOMMU: dmar0 Register Base Address: fed90000\n"
        "Name\t\t\tOffset\t\tContents\n"
        "VER             \t0x00\t\t0x0000000000000010\n"
        "RTADDR          \t0x20\t\t0x0000000002688000\n"
        "IOMMU: dmar1 Register Base Address: fed91000\n"
        "RTADDR          \t0x20\t\t0x0000000002688400\n"
    )
    assert parse_translation_modes(dump) == {"dmar0": False, "dmar1": True}
