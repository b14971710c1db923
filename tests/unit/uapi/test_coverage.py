# SPDX-License-Identifier: MIT
"""The ioctls of the declared ABI that have no function. The README may claim all others."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

WITHOUT = {
    # Migration of devices. The lab has no device that supports it.
    "VFIO_MIG_GET_PRECOPY_INFO",
    # Only sPAPR TCE has this ioctl.
    "VFIO_IOMMU_ENABLE",
    "VFIO_IOMMU_DISABLE",
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
