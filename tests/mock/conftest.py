# SPDX-License-Identifier: MIT
import pytest

from iommufd_py import Iommufd, MockDevice
from tests.conftest import need


@pytest.fixture
def mock(iommufd: Iommufd) -> MockDevice:
    need(iommufd.probe()["IOMMU_TEST_CMD"], "needs a kernel with CONFIG_IOMMUFD_TEST: run it in the lab")
    return MockDevice(iommufd)
