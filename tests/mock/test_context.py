# SPDX-License-Identifier: MIT
"""The iommufd itself, without a device."""

import errno
import os
from pathlib import Path

import pytest

from iommufd_py import (
    ClosedError,
    DmaBuffer,
    InvalidFieldError,
    Ioas,
    Iommufd,
    IommufdError,
    NotSupportedError,
    ToolError,
)
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.enums import VfioIoasOp
from tests.conftest import need_ioctl

# Ioctls of the oldest supported kernel, 6.12, without any option.
BASIC = {
    "IOMMU_DESTROY", "IOMMU_IOAS_ALLOC", "IOMMU_IOAS_ALLOW_IOVAS", "IOMMU_IOAS_COPY", "IOMMU_IOAS_IOVA_RANGES",
    "IOMMU_IOAS_MAP", "IOMMU_IOAS_UNMAP", "IOMMU_OPTION", "IOMMU_VFIO_IOAS", "IOMMU_HWPT_ALLOC", "IOMMU_GET_HW_INFO",
    "IOMMU_HWPT_SET_DIRTY_TRACKING", "IOMMU_HWPT_GET_DIRTY_BITMAP", "IOMMU_HWPT_INVALIDATE", "IOMMU_FAULT_QUEUE_ALLOC",
}  # fmt: skip


def test_probe_names_the_ioctls_and_makes_no_object(iommufd: Iommufd) -> None:
    found = iommufd.probe()
    assert set(found) == set(uapi.IOCTLS)
    assert {name for name, there in found.items() if there} >= BASIC
    # If probing had allocated an object, the first IOAS would not get the first id.
    with Iommufd() as untouched:
        first = untouched.alloc_ioas().id
    assert iommufd.alloc_ioas().id == first


def test_probe_tells_an_absent_ioctl(iommufd: Iommufd, monkeypatch: pytest.MonkeyPatch) -> None:
    # VFIO_GROUP_GET_STATUS is an ioctl of another file: /dev/iommu answers ENOTTY, as for an unknown ioctl.
    monkeypatch.setattr(uapi, "IOCTLS", ("IOMMU_IOAS_MAP", "VFIO_GROUP_GET_STATUS"))
    assert iommufd.probe() == {"IOMMU_IOAS_MAP": True, "VFIO_GROUP_GET_STATUS": False}


def test_unknown_object(iommufd: Iommufd) -> None:
    with pytest.raises(IommufdError, match=r"IOMMU_DESTROY\(id=4242\): ENOENT") as caught:
        uapi.destroy(iommufd.fileno(), 4242)
    assert caught.value.errno == errno.ENOENT


def test_adopt_takes_over_an_open_descriptor(iommufd: Iommufd) -> None:
    adopted = Iommufd.adopt(os.dup(iommufd.fileno()))
    descriptor = adopted.fileno()
    adopted.alloc_ioas()
    adopted.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(ClosedError):
        adopted.fileno()


def test_absent_file_says_what_to_do() -> None:
    with pytest.raises(ToolError, match="there is no /dev/no-iommu"):
        Iommufd(Path("/dev/no-iommu"))


def test_file_without_access_says_what_to_do(iommufd: Iommufd) -> None:
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            Iommufd()
        except ToolError as failure:
            os._exit(0 if "run as root" in str(failure) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert DEV_IOMMU.exists()


def test_a_forked_process_that_leaves_the_block_closes_nothing(iommufd: Iommufd) -> None:
    with iommufd.alloc_ioas() as ioas, DmaBuffer(4096) as buffer, ioas.map(buffer) as mapping:
        child = os.fork()
        if not child:
            try:
                with iommufd, ioas, buffer, mapping:
                    raise SystemExit
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        mapping.close()  # The kernel refuses this if the mapping is gone.
        ioas.map(buffer).close()


def test_rlimit_mode_only_before_the_first_object(iommufd: Iommufd) -> None:
    assert iommufd.rlimit_mode == 0
    iommufd.rlimit_mode = 1
    assert iommufd.rlimit_mode == 1
    iommufd.alloc_ioas()
    with pytest.raises(IommufdError, match="EBUSY: the accounting mode can only change") as caught:
        iommufd.rlimit_mode = 0
    assert caught.value.errno == errno.EBUSY


def test_dma_cc_leaves_the_compatibility_ioas_as_it_was(iommufd: Iommufd) -> None:
    first, second = iommufd.alloc_ioas(), iommufd.alloc_ioas()
    assert second.dma_cc()
    with pytest.raises(IommufdError) as caught:
        uapi.vfio_ioas(iommufd.fileno(), VfioIoasOp.GET)
    assert caught.value.errno == errno.ENODEV
    uapi.vfio_ioas(iommufd.fileno(), VfioIoasOp.SET, first.id)
    assert second.dma_cc()
    assert uapi.vfio_ioas(iommufd.fileno(), VfioIoasOp.GET) == first.id


def test_unknown_option(iommufd: Iommufd) -> None:
    with pytest.raises(NotSupportedError, match="EOPNOTSUPP") as caught:
        uapi.option_get(iommufd.fileno(), 99, object_id=0)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_change_process(iommufd: Iommufd, ioas: Ioas) -> None:
    need_ioctl(iommufd, "IOMMU_IOAS_CHANGE_PROCESS", "6.14")
    iommufd.change_process()
    with DmaBuffer(4096) as buffer, ioas.map(buffer), pytest.raises(InvalidFieldError, match="made by IOMMU_IOAS_MAP:"):
        iommufd.change_process()
