# SPDX-License-Identifier: MIT
"""The cases of fixture `iommufd_ioas` about dma-bufs."""

import errno

import pytest

from iommufd_py import (
    Ioas,
    Iommufd,
    MockDevice,
    NotSupportedError,
)
from iommufd_py.mock import (
    MockDmabuf,
)
from tests.conftest import fails

PAGE = 4096


@pytest.fixture
def dmabuf(iommufd: Iommufd, ioas: Ioas) -> MockDmabuf:
    try:
        return MockDmabuf(iommufd, 4 * PAGE)
    except NotSupportedError:
        pytest.skip("this kernel's mock driver makes no dma-buf (since Linux 6.19)")


def test_dmabuf_simple(ioas: Ioas, dmabuf: MockDmabuf) -> None:
    length = dmabuf.length
    for start, size in ((0, 0), (length, length), (0, length + 1)):
        with fails(errno.EINVAL):
            ioas.map_fd(dmabuf.fileno(), start, size)
    ioas.map_fd(dmabuf.fileno(), 0, length)


def test_dmabuf_revoke(devices: list[MockDevice], ioas: Ioas, dmabuf: MockDmabuf) -> None:
    fd, length = dmabuf.fileno(), dmabuf.length
    first = ioas.map_fd(fd, 0, length)
    dmabuf.revoke()
    if devices:
        devices[-1].alloc_hwpt(ioas)
    with fails(errno.ENODEV):
        ioas.map_fd(fd, 0, length)
    dmabuf.revoke(False)
    ioas.map_fd(fd, 0, length)
    ioas.unmap(first, length)
    assert ioas.map_fd(fd, 0, length, first) == first
