# SPDX-License-Identifier: MIT
"""Fixture `iommufd_device_pasid` of the kernel's selftests: HWPTs for single PASIDs of a device."""

import errno

import pytest

from iommufd_py import (
    HwptAllocFlags,
    Ioas,
    Iommufd,
    MockDevice,
    MockDeviceFlags,
    PageFaultPermission,
    VIommuType,
)
from iommufd_py.mock import PASID_RESERVED, hwpt_data
from iommufd_py.uapi.iommufd_test import issue_test_op
from tests.conftest import fails, need_ioctl, need_mock_driver, need_page_faults
from tests.waiting import patience

FOR_PASIDS = HwptAllocFlags.PASID


@pytest.mark.parametrize("variant", ["no_pasid", "has_pasid"])
def test_pasid_attach(iommufd: Iommufd, ioas: Ioas, variant: str) -> None:
    need_mock_driver(iommufd)
    need_ioctl(iommufd, "IOMMU_VEVENTQ_ALLOC", "6.15, as PASIDs")
    need_page_faults()
    device = MockDevice(iommufd, MockDeviceFlags.PASID, target=ioas)
    parent = device.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)
    first, second = (device.alloc_nested(parent, hwpt_data(), flags=FOR_PASIDS) for _ in range(2))
    queue = iommufd.alloc_fault_queue()
    faulting = device.alloc_nested(parent, hwpt_data(), flags=FOR_PASIDS, fault_queue=queue)
    viommu = device.alloc_viommu(parent, VIommuType.SELFTEST)
    device.alloc_nested(viommu, hwpt_data(), flags=FOR_PASIDS)
    stage2 = device.alloc_hwpt(ioas, flags=FOR_PASIDS)

    def attach_only(pasid: int, pt_id: int, on: MockDevice = device) -> None:
        """Attach by PASID_ATTACH, which unlike attach() does not replace."""
        issue_test_op(iommufd.fileno(), "PASID_ATTACH", on.id, "pasid_attach", pasid=pasid, pt_id=pt_id)

    # detaching a PASID that is not attached is no error
    pasid = 100
    issue_test_op(iommufd.fileno(), "PASID_DETACH", device.id, "pasid_detach", pasid=pasid)

    # A device and its PASIDs can be attached together only to HWPTs made for PASIDs.
    device.attach(parent)
    with fails(errno.EINVAL):
        device.attach(stage2, pasid)
    device.attach(stage2)
    device.attach(first, pasid)
    with fails(errno.EINVAL):
        device.attach(parent)
    device.detach(pasid)
    device.check_pasid(pasid, 0)

    if variant == "no_pasid":
        without = MockDevice(iommufd, target=ioas)
        without.attach(first)
        without.attach(ioas)
        for hwpt in (parent, stage2):
            with fails(errno.EINVAL):
                without.attach(hwpt, pasid)

    for unfit in (parent, ioas):
        with fails(errno.EINVAL):
            device.attach(unfit, pasid)
        device.check_pasid(pasid, 0)
    for hwpt in (stage2, first):
        device.attach(hwpt, pasid)
        device.check_pasid(pasid, hwpt.id)
        with fails(errno.EBUSY):
            attach_only(pasid, first.id)
        device.detach(pasid)
        device.check_pasid(pasid, 0)

    pasid = 200
    with fails(errno.EINVAL):
        issue_test_op(iommufd.fileno(), "PASID_REPLACE", device.id, "pasid_replace", pasid=pasid, pt_id=stage2.id)
    device.attach(stage2, pasid)
    with fails(errno.EINVAL):
        device.attach(ioas, pasid)
    device.check_pasid(pasid, stage2.id)
    for nested in (first, second):
        device.attach(nested, pasid)
        device.check_pasid(pasid, nested.id)
    device.detach(pasid)

    # The mock driver fails a replacement at this PASID: the old attachment stays.
    device.attach(stage2, PASID_RESERVED)
    with fails(errno.ENOMEM):
        device.attach(first, PASID_RESERVED)
    device.check_pasid(PASID_RESERVED, stage2.id)
    device.detach(PASID_RESERVED)

    pasid = 2048
    device.attach(faulting, pasid)
    device.check_pasid(pasid, faulting.id)
    device.trigger_fault(0xDEAD_BEAF, PageFaultPermission.WRITE, pasid=pasid, group=2)
    (fault,) = queue.read(timeout=patience(5))
    assert fault.pasid == pasid
    queue.respond(fault)
    device.attach(stage2, pasid)
    device.check_pasid(pasid, stage2.id)
    device.detach(pasid)
    faulting.close()
    queue.close()
    device.attach(ioas)
