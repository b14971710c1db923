# SPDX-License-Identifier: MIT
"""The trace of ioctls, on a descriptor that refuses them all. Tests on /dev/iommu check the results."""

import errno
import os
import re
from collections.abc import Iterator

import pytest

from iommufd_py import UnsupportedIoctlError
from iommufd_py.objects.ioctl_trace import IoctlCall, describe_ioctl, ioctl_trace
from iommufd_py.uapi import iommufd as uapi


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def test_failure_is_reported_and_raised(null: int) -> None:
    seen: list[IoctlCall] = []
    with ioctl_trace(seen.append), pytest.raises(UnsupportedIoctlError):
        uapi.ioas_map(null, 7, 0x1000, 4096, 0x2000, 0x6)
    (one,) = seen
    assert (one.fd, one.ioctl, one.result, one.outputs) == (null, "IOMMU_IOAS_MAP", -errno.ENOTTY, {})
    assert one.arguments["ioas_id"] == 7
    assert one.nanoseconds > 0
    assert re.fullmatch(
        rf"IOMMU_IOAS_MAP\(flags=0x6, ioas_id=7, user_va=0x1000, length=4096, iova=0x2000\) on {null} = -ENOTTY, .*s",
        describe_ioctl(one),
    )


def test_the_description_has_the_outputs() -> None:
    one = IoctlCall(3, "IOMMU_IOAS_ALLOC", {}, 0, {"out_ioas_id": 1}, 1500)
    assert describe_ioctl(one) == "IOMMU_IOAS_ALLOC() on 3 = 0 -> out_ioas_id=1, 1.5 us"


def test_traces_nest_and_end(null: int) -> None:
    outer: list[IoctlCall] = []
    inner: list[IoctlCall] = []

    def refused() -> None:
        with pytest.raises(UnsupportedIoctlError):
            uapi.destroy(null, 1)

    with ioctl_trace(outer.append):
        with ioctl_trace(inner.append):
            refused()
        refused()
    refused()
    assert (len(outer), len(inner)) == (2, 1)
