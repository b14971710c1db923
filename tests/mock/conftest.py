# SPDX-License-Identifier: MIT
from collections.abc import Callable

import pytest

from iommufd_py import Backing, DmaBuffer, MockDevice

PAGE = 4096


@pytest.fixture
def mock(mock_device: MockDevice) -> MockDevice:
    return mock_device


@pytest.fixture
def shared_buffer(dma_buffer: Callable[..., DmaBuffer]) -> DmaBuffer:
    """16 pages of shared memory, which the kernel's cases use throughout."""
    return dma_buffer(16 * PAGE, Backing.MEMFD)
