# SPDX-License-Identifier: MIT
import pytest

from iommufd_py import Iommufd, MockDevice
from tests.conftest import need_mock_driver


@pytest.fixture
def mock(iommufd: Iommufd) -> MockDevice:
    need_mock_driver(iommufd)
    return MockDevice(iommufd)
