# SPDX-License-Identifier: MIT
"""Every ioctl and device feature of the declared ABI has a function, except those that this file lists."""

import re
from pathlib import Path

import pytest

from iommufd_py import DeviceFeature

ROOT = Path(__file__).parents[3]

WITHOUT = {
    # Only sPAPR TCE has this ioctl.
    "VFIO_IOMMU_ENABLE",
    "VFIO_IOMMU_DISABLE",
}

FEATURES_WITHOUT = {
    # Nobody has asked for the power states yet.
    "LOW_POWER_ENTRY",
    "LOW_POWER_ENTRY_WITH_WAKEUP",
    "LOW_POWER_EXIT",
    # Devices on the bus CDX, and those of s390. The lab has none.
    "BUS_MASTER",
    "ZPCI_ERROR",
    # The lab's one device that can be migrated reports no dirty page and never begins its stream anew.
    "DMA_LOGGING_START",
    "DMA_LOGGING_STOP",
    "DMA_LOGGING_REPORT",
    "MIG_PRECOPY_INFOV2",
}


def declared(header: str) -> set[str]:
    text = (ROOT / "cffi_build/abi" / header).read_text()
    found = set(re.findall(r"^\t((?:IOMMU|VFIO)_\w+) = 0x3b[0-9a-f]{2},", text, re.MULTILINE))
    assert found, f"{header} declares no ioctl in the form that is looked for"
    return found


@pytest.mark.parametrize(("header", "without"), [("iommufd.h", set()), ("vfio.h", WITHOUT)])
def test_every_ioctl_has_a_function_but_for_those_listed(header: str, without: set[str]) -> None:
    sources = "".join(path.read_text() for path in (ROOT / "iommufd_py/uapi").glob("*.py"))
    assert {name for name in declared(header) if f'"{name}"' not in sources} == without


def test_every_device_feature_has_a_function_but_for_those_listed() -> None:
    folders = (ROOT / "iommufd_py" / name for name in ("uapi", "vfio"))
    sources = "".join(path.read_text() for folder in folders for path in folder.glob("*.py"))
    used = set(re.findall(r"\bDeviceFeature\.(\w+)", sources))
    assert set(DeviceFeature.__members__) - used == FEATURES_WITHOUT
