# SPDX-License-Identifier: MIT
"""A device behind a real or emulated VT-d: the lab's, or IOMMUFD_BDF=0000:3b:00.0 on hardware."""

import os
from collections.abc import Iterator

import pytest

from iommufd_py import Iommufd, VfioDevice, pci
from iommufd_py.lab.machine import TEST_DEVICES
from tests.conftest import IN_LAB, need


@pytest.fixture(scope="session")
def bdf() -> Iterator[str]:
    address = os.environ.get("IOMMUFD_BDF") or (TEST_DEVICES[0] if IN_LAB else "")
    need(bool(address), "needs a device: run 'iommufd lab run -- pytest tests/vtd', or set IOMMUFD_BDF to one to spare")
    with pci.vfio_bound(address):
        yield address


@pytest.fixture
def device(iommufd: Iommufd, bdf: str) -> VfioDevice:
    return VfioDevice(iommufd, bdf)
