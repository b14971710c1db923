# SPDX-License-Identifier: MIT
"""The cases of tools/testing/selftests/vfio/vfio_iommufd_setup_test.c: fixture vfio_cdev."""

import errno
import os
from collections.abc import Iterator

import pytest

from iommufd_py import InvalidFieldError, Iommufd, IommufdError, ObjectNotFoundError
from iommufd_py.uapi import vfio
from iommufd_py.vfio.sysfs import find_cdev


@pytest.fixture
def vfio_cdev(iommufd: Iommufd, bdf: str) -> Iterator[int]:
    cdev = os.open(find_cdev(bdf), os.O_RDWR | os.O_CLOEXEC)
    yield cdev
    os.close(cdev)


def test_bind(vfio_cdev: int, iommufd: Iommufd) -> None:
    vfio.device_bind_iommufd(vfio_cdev, iommufd.fileno())
    assert vfio.device_get_info(vfio_cdev).num_regions


def test_get_info_without_bind_fails(vfio_cdev: int) -> None:
    with pytest.raises(InvalidFieldError, match="not bound to an iommufd yet"):
        vfio.device_get_info(vfio_cdev)


def test_bind_bad_iommufd_fails(vfio_cdev: int) -> None:
    for bad in (-2, vfio_cdev):
        with pytest.raises(IommufdError, match="VFIO_DEVICE_BIND_IOMMUFD") as caught:
            vfio.device_bind_iommufd(vfio_cdev, bad)
        assert caught.value.errno in (errno.EINVAL, errno.EBADF, errno.EBADFD)


def test_repeated_bind_fails(vfio_cdev: int, iommufd: Iommufd) -> None:
    vfio.device_bind_iommufd(vfio_cdev, iommufd.fileno())
    with pytest.raises(InvalidFieldError, match="the device is bound already"):
        vfio.device_bind_iommufd(vfio_cdev, iommufd.fileno())


def test_attach_detatch_pt(vfio_cdev: int, iommufd: Iommufd) -> None:
    vfio.device_bind_iommufd(vfio_cdev, iommufd.fileno())
    ioas = iommufd.alloc_ioas()
    assert vfio.device_attach_iommufd_pt(vfio_cdev, ioas.id) != ioas.id  # the HWPT that the kernel made
    vfio.device_detach_iommufd_pt(vfio_cdev)


def test_attach_invalid_pt_fails(vfio_cdev: int, iommufd: Iommufd) -> None:
    vfio.device_bind_iommufd(vfio_cdev, iommufd.fileno())
    with pytest.raises(ObjectNotFoundError, match="no IOAS or HWPT with this id"):
        vfio.device_attach_iommufd_pt(vfio_cdev, (1 << 32) - 1)
