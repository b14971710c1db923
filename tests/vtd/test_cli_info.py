# SPDX-License-Identifier: MIT
"""`iommufd info`, compared with sysfs and with answers of the kernel."""

import json
import os
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from iommufd_py import Coherency, Iommufd, VfioDevice, pci
from iommufd_py.host import NONCOHERENT_KNOB, iommus
from iommufd_py.lab.machine import TEST_DEVICES
from iommufd_py.vtd import CAP, ECAP, dmar_units
from tests.conftest import IN_LAB

pytestmark = pytest.mark.skipif(not IN_LAB, reason="compares with the lab's machine; run it in the lab")

Cli = Callable[..., subprocess.CompletedProcess[str]]
MACHINE = os.environ.get("IOMMUFD_LAB_MACHINE", "")
SPARE = TEST_DEVICES[1]


def validated(done: subprocess.CompletedProcess[str], name: str, status: int = 0) -> dict:
    """Return the JSON document on stdout, checked against its schema."""
    assert done.returncode == status, done.stderr
    schema = json.loads((resources.files("iommufd_py.cli") / "schemas" / f"{name}.json").read_text())
    document = json.loads(done.stdout)
    jsonschema.Draft202012Validator(schema).validate(document)
    return document


def test_units_are_what_sysfs_says() -> None:
    (unit,) = dmar_units()
    attributes = Path("/sys/class/iommu", unit.name, "intel-iommu")
    for name, value in (("cap", unit.capabilities.cap), ("ecap", unit.capabilities.ecap), ("address", unit.address)):
        assert int((attributes / name).read_text(), 16) == value
    assert unit.capabilities.domain_ids == unit.domains_supported
    assert unit.scalable == ("x-scalable-mode=on" in MACHINE)
    assert unit.capabilities["SC"] == ("snoop-control=on" in MACHINE)
    assert {one.bdf for one in pci.list_devices() if one.iommu == unit.name} == set(unit.devices)
    assert SPARE in unit.devices


def test_prediction_is_what_the_kernel_answers() -> None:
    if NONCOHERENT_KNOB.exists() and NONCOHERENT_KNOB.read_text().strip() == "Y":
        pytest.skip("the test knob makes every HWPT non-coherent")
    (iommu,) = [one for one in iommus() if SPARE in one.devices]
    with pci.vfio_bound(SPARE), Iommufd() as iommufd:
        device = VfioDevice(iommufd, SPARE)
        assert device.hw_info().vtd_registers == (iommu.unit.capabilities.cap, iommu.unit.capabilities.ecap)
        evidence = device.alloc_hwpt(iommufd.alloc_ioas()).evidence
    predicted, asked = iommu.flushes(), iommu.flushes(evidence.dma_cc)
    assert predicted.coherency is asked.coherency is evidence.coherency
    assert predicted.data_page_flush is (evidence.coherency is Coherency.NON_COHERENT)
    # QEMU's page walks never snoop.
    assert predicted.page_table_flush is True


def test_json_is_as_described_and_asks_the_kernel(cli: Cli) -> None:
    with pci.vfio_bound(SPARE):
        document = validated(cli("info", "--json", "--ask"), "iommufd-info-1")
    (unit,) = [one for one in document["iommus"] if one["kind"] == "INTEL_VTD"]
    assert set(unit["asked"]) == {SPARE}
    assert unit["asked"][SPARE]["coherency"] == unit["flushes"]["coherency"]
    assert document["kernel"]["ioctls"]["IOMMU_IOAS_MAP"] is True
    assert document["kernel"]["container"]["served_by"] == "vfio"
    assert document["kernel"]["container"]["extensions"]["TYPE1V2_IOMMU"] is True
    assert (document["kernel"]["vfio_cdev"], document["kernel"]["vfio_pci"]) == (True, True)
    assert document["machine"]["machine"] == MACHINE


def test_text_names_every_field_of_both_registers(cli: Cli) -> None:
    done = cli("info", "--registers")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for field in (*CAP, *ECAP):
        assert any(line.split()[:2] == [field.name, field.bits] for line in lines), field.name
    assert "coherent: ECAP.SC=" in done.stdout
    assert ("of data pages: not needed" in done.stdout) == ("snoop-control=on" in MACHINE)
    assert "of page tables: needed: ECAP." in done.stdout
