# SPDX-License-Identifier: MIT
"""A machine with another IOMMU than VT-d, or with none: the tool names it, prints known facts, and never crashes."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import DeviceError, pci
from iommufd_py.host import iommus
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from iommufd_py.vtd.coherency import IommuKind
from tests.vtd.test_cli_info import validated

Cli = Callable[..., subprocess.CompletedProcess[str]]
MACHINE = os.environ.get("IOMMUFD_LAB_MACHINE", "")
KIND = {"q35 amd-iommu": IommuKind.AMD_VI, "q35 virtio-iommu": IommuKind.VIRTIO}.get(MACHINE)
SPARE = TEST_DEVICES[0]
UNSAFE_ALLOWED = Path("/sys/module/iommufd/parameters/allow_unsafe_interrupts").read_text().strip() == "Y"


def test_the_iommu_is_named(cli: Cli) -> None:
    found = [one for one in iommus() if one.kind is not IommuKind.SELFTEST]
    assert [one.kind for one in found] == ([KIND] if KIND else [])
    done = cli("info")
    assert done.returncode == 0, done.stderr
    assert ("no IOMMU is in use" in done.stdout) == (KIND is None)
    if KIND:
        assert str(KIND) in done.stdout
        assert SPARE in found[0].devices


def test_coherency_is_predicted(cli: Cli) -> None:
    if KIND is None:
        done = cli("device", "bind", SPARE)
        assert done.returncode == 1
        assert "vfio-pci did not take" in done.stderr
        assert "the IOMMU on" in done.stderr
        return
    assert cli("device", "bind", SPARE).returncode == 0
    try:
        document = validated(cli("info", "--json", "--ask"), "iommufd-info-1")
    finally:
        assert cli("device", "restore", SPARE).returncode == 0
    (iommu,) = [one for one in document["iommus"] if one["kind"] == KIND.name]
    assert iommu["vtd"] is None
    assert iommu["flushes"]["coherency"] == ("coherent" if KIND is IommuKind.AMD_VI else "non-coherent")


def test_devices_are_shown(cli: Cli) -> None:
    document = validated(cli("device", "show", NVME_DEVICE, "--json"), "iommufd-device-1")
    assert (document["group"] is None) == (KIND is None)
    assert document["device"]["driver"] == "nvme"
    listed = json.loads(cli("device", "list", "--json").stdout)["devices"]
    assert any(one["bdf"] == SPARE for one in listed)


def test_one_mapping(cli: Cli) -> None:
    if KIND is None:
        pytest.skip("there is no IOMMU to map with")
    done = cli("map", "--device", SPARE, "--bind", "--size", "64K", "--iova", "0x100000000")
    if UNSAFE_ALLOWED:
        assert done.returncode == 0, done.stderr
        assert "VFIO_DMA_CC_IOMMU" in done.stdout
    else:
        assert done.returncode == 1, done.stdout
        assert "allow_unsafe_interrupts" in done.stderr
    assert not (Path("/sys/bus/pci/devices") / SPARE / "driver").exists()


def test_the_iommu_itself_is_refused() -> None:
    """An AMD or virtio IOMMU is a PCI function. Without it no device is where its driver thinks."""
    functions = "/sys/devices/pci0000:00"
    directory = Path("/sys/class/iommu")
    units = (
        [one for one in directory.iterdir() if one.resolve().is_relative_to(functions)] if directory.is_dir() else []
    )
    assert bool(units) == (KIND is not None)
    for unit in units:
        bdf = next(part for part in unit.resolve().parts if part.startswith("0000:"))
        with pytest.raises(DeviceError, match=f"{bdf} is in use: it is the IOMMU {unit.name} of this machine"):
            pci.bind_vfio(bdf)
