# SPDX-License-Identifier: MIT
from collections.abc import Iterator

import pytest

from iommufd_py import Backing, DmaBuffer, Iommufd, MockDevice
from iommufd_py.mock import check_refs
from tests.conftest import need_mock_driver

PAGE = 4096


@pytest.fixture
def mock(iommufd: Iommufd) -> MockDevice:
    need_mock_driver(iommufd)
    return MockDevice(iommufd)


@pytest.fixture
def shared_buffer(iommufd: Iommufd) -> Iterator[DmaBuffer]:
    """16 pages of shared memory, which the kernel's cases use throughout; unpinned once the iommufd is closed."""
    with DmaBuffer(16 * PAGE, Backing.MEMFD) as buffer:
        yield buffer
        iommufd.close()
        with Iommufd() as again:
            check_refs(again, buffer.user_va, buffer.length, 0)
