# SPDX-License-Identifier: MIT
"""Tags of machines, and how labgrid reads them."""

from dataclasses import replace

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.fleet.tags import bdf_of, exporter_file, machine_tags, place_commands
from iommufd_py.host import Iommu
from iommufd_py.pci import PciDevice
from iommufd_py.vtd import Capabilities, DmarUnit
from iommufd_py.vtd.coherency import IommuKind
from tests.unit.results.bench_results import ENVIRONMENT

_SC = 1 << 7


def unit(name: str, ecap: int, *devices: str, scalable: bool | None = False) -> Iommu:
    described = DmarUnit(name, 0xFED90000, "1.0", Capabilities(0xD2008C40660462, ecap), 64, 1, scalable, devices)
    return Iommu(name, IommuKind.INTEL_VTD, described, {}, None, None, devices)


def device(bdf: str, iommu: str, ids: str = "8086:0b25", class_code: str = "088000") -> PciDevice:
    return PciDevice(bdf, ids, class_code, "", 1, iommu, "", None, (), "", "")


GPU, DSA, BRIDGE = "0000:00:02.0", "0000:6a:01.0", "0000:00:01.0"
UNITS = (unit("dmar0", 0xF00F4A & ~_SC, GPU), unit("dmar1", 0xF00F4A | _SC, DSA, BRIDGE))
DEVICES = (
    device(BRIDGE, "dmar1", "8086:4321", "060400"),
    device(GPU, "dmar0", "8086:56a0", "030000"),
    device(DSA, "dmar1"),
    device("0000:ff:00.0", "", "8086:1111"),
)


def test_units_that_differ_are_mixed() -> None:
    found = machine_tags(replace(ENVIRONMENT, cpu="Intel(R) Xeon(R) Gold 6430"), UNITS, DEVICES, ())
    assert found == {
        "platform": "bare_metal",
        "cpu": "intel_r_xeon_r_gold_6430",
        "iommu": "vtd",
        "coherency": "mixed",
        "sc": "mixed",
        "scalable": "0",
        "pci_8086_56a0": "1",
        "pci_8086_0b25": "1",
    }


def test_of_a_device_that_is_lent_only_its_own_iommu_counts() -> None:
    found = machine_tags(ENVIRONMENT, UNITS, DEVICES, (GPU,))
    assert (found["coherency"], found["sc"], found["bdf"]) == ("non_coherent", "0", "0000_00_02_0")
    assert "pci_8086_0b25" not in found
    assert bdf_of(found) == GPU
    assert machine_tags(ENVIRONMENT, UNITS, DEVICES, (DSA,))["coherency"] == "coherent"


@pytest.mark.parametrize("bdf", ["0000:ff:00.0", "0000:01:00.0"])
def test_a_device_without_iommu_is_not_lent(bdf: str) -> None:
    with pytest.raises(ToolError, match=f"{bdf} is not a PCI function behind an IOMMU"):
        machine_tags(ENVIRONMENT, UNITS, DEVICES, (bdf,))


def test_a_machine_without_iommu_says_so() -> None:
    mock = Iommu("iommufd_selftest_iommu.0", IommuKind.SELFTEST, None, {}, None, None, ("mock",))
    found = machine_tags(ENVIRONMENT, (mock,), (), ())
    assert found == {"platform": "bare_metal", "cpu": "cpu", "iommu": "none"}
    assert bdf_of(found) is None


@pytest.mark.slow
def test_labgrid_takes_the_tags_and_the_exporter_file() -> None:
    from labgrid.remote.common import TAG_KEY, TAG_VAL
    from labgrid.util.yaml import load

    found = machine_tags(ENVIRONMENT, UNITS, DEVICES, (DSA,))
    for key, value in found.items():
        # labgrid itself checks only the first character.
        assert TAG_KEY.fullmatch(key)
        assert all(TAG_VAL.fullmatch(one) for one in value)
    assert place_commands("spr0", found)[2].startswith("labgrid-client -p spr0 set-tags platform=bare_metal ")
    assert load(exporter_file("spr0", "spr0.lab"))["spr0"]["NetworkService"]["address"] == "spr0.lab"
    for name in ("123", "no", "1e3", "null"):  # Names that YAML without quotation marks takes for something else.
        assert list(load(exporter_file(name, name))) == [name]
