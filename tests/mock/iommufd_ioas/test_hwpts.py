# SPDX-License-Identifier: MIT
"""The cases of fixture `iommufd_ioas` about HWPTs: nested ones, attaching, and the hardware's description."""

import errno

import pytest

from iommufd_py import (
    HwptAllocFlags,
    HwptData,
    HwptDataType,
    HwptInvalidateType,
    Ioas,
    Iommufd,
    IommufdError,
    MockDevice,
    MockDeviceFlags,
    NestedHwpt,
    PageFaultPermission,
)
from iommufd_py.mock import (
    IOTLB_DEFAULT,
    IOTLB_ENTRIES,
    PASID_WIDTH,
    check_iotlb,
    hwpt_data,
    hwpt_invalidation,
)
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import address_of_buffer, issue
from iommufd_py.uapi.enums import HwInfoType
from iommufd_py.uapi.ffi import lib
from iommufd_py.uapi.iommufd_test import issue_test_op
from tests.conftest import fails, need_page_faults
from tests.mock.iommufd_ioas.conftest import IoasVariant
from tests.waiting import patience

PAGE = 4096


def check_iotlb_all(nested: NestedHwpt, *values: int) -> None:
    for index, value in enumerate(values):
        check_iotlb(nested, index, value)


def refuse_nested_hwpts(device: MockDevice, ioas: Ioas) -> None:
    """Try all arguments with which no nested HWPT can be made."""
    iommufd, fd = ioas.iommufd, ioas.iommufd.fileno()
    with fails(errno.ENOENT):
        uapi.hwpt_alloc(fd, ioas.id, device.dev_id)
    with fails(errno.EINVAL):
        uapi.hwpt_alloc(fd, device.dev_id, device.dev_id)
    with fails(errno.EOPNOTSUPP):
        uapi.hwpt_alloc(fd, device.dev_id, ioas.id, HwptAllocFlags.NEST_PARENT | HwptAllocFlags.FAULT_ID_VALID)

    parent = device.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)
    no_parent = device.alloc_hwpt(ioas)
    good = hwpt_data()
    with fails(errno.EINVAL):
        device.alloc_nested(parent, HwptData(HwptDataType.NONE, good.content))
    with fails(errno.EOPNOTSUPP):
        device.alloc_nested(parent, HwptData(HwptDataType.SELFTEST + 1, good.content))
    with fails(errno.EINVAL):  # shorter than the mandatory field
        device.alloc_nested(parent, HwptData(HwptDataType.SELFTEST, good.content[:3]))
    with fails(errno.EFAULT):
        issue(
            fd,
            "IOMMU_HWPT_ALLOC",
            "iommu_hwpt_alloc",
            dev_id=device.dev_id,
            pt_id=parent.id,
            data_type=HwptDataType.SELFTEST,
            data_len=len(good.content),
        )
    with fails(errno.EOPNOTSUPP):
        device.alloc_nested(parent, good, flags=HwptAllocFlags.NEST_PARENT)
    with fails(errno.EINVAL):
        device.alloc_nested(no_parent, good)
    with fails(errno.ENOENT):
        uapi.hwpt_alloc(
            fd,
            device.dev_id,
            parent.id,
            HwptAllocFlags.FAULT_ID_VALID,
            HwptDataType.SELFTEST,
            good.content,
            fault_id=(1 << 32) - 1,
        )
    nested = device.alloc_nested(parent, good)
    with fails(errno.EINVAL):
        uapi.hwpt_alloc(fd, device.dev_id, nested.id, 0, HwptDataType.SELFTEST, good.content)
    with fails(errno.EBUSY):
        uapi.destroy(iommufd.fileno(), parent.id)
    # The object may also be a vIOMMU, so the kernel checks its kind after it has found it.
    with fails(errno.EINVAL if iommufd.probe()["IOMMU_VIOMMU_ALLOC"] else errno.ENOENT):
        uapi.hwpt_invalidate(fd, parent.id, HwptInvalidateType.SELFTEST, hwpt_invalidation(), 8)
    parent.close()
    no_parent.close()


def refuse_invalidations(nested: NestedHwpt) -> None:
    """Try every kind of bad entry; none of them invalidates anything."""
    fd, entry = nested.iommufd.fileno(), hwpt_invalidation()
    selftest = HwptInvalidateType.SELFTEST
    unknown = (0xFFFF_FFFF).to_bytes(4, "little") + bytes(4)
    too_many = (1 << 19) + 1
    assert nested.invalidate(selftest) == 0
    for number, data_type, entries, entry_bytes in (
        (errno.EINVAL, lib.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID, entry, len(entry)),
        (errno.EINVAL, selftest, entry + b"\xff", len(entry) + 1),
        (errno.EINVAL, selftest, entry[:1], 1),
        (errno.EINVAL, selftest, bytes(PAGE + 1), PAGE + 1),
        (errno.EINVAL, selftest, bytes(too_many * len(entry)), len(entry)),
        (errno.EOPNOTSUPP, selftest, unknown, len(entry)),
        (errno.EINVAL, selftest, hwpt_invalidation(IOTLB_ENTRIES), len(entry)),
    ):
        with fails(number):
            uapi.hwpt_invalidate(fd, nested.id, data_type, entries, entry_bytes)
    for fields in ({"entry_len": len(entry)}, {"data_uptr": address_of_buffer(bytearray(entry)), "entry_len": 0}):
        with fails(errno.EINVAL):
            issue(
                fd,
                "IOMMU_HWPT_INVALIDATE",
                "iommu_hwpt_invalidate",
                hwpt_id=nested.id,
                data_type=selftest,
                entry_num=1,
                **fields,
            )
    check_iotlb_all(nested, *[IOTLB_DEFAULT] * IOTLB_ENTRIES)


def test_alloc_hwpt_nested(devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas) -> None:
    if not devices:
        for pt_id in (ioas.id, 0):
            with fails(errno.ENOENT):
                uapi.hwpt_alloc(iommufd.fileno(), 0, pt_id, 0, HwptDataType.SELFTEST, hwpt_data().content)
        return
    device = devices[-1]
    refuse_nested_hwpts(device, ioas)
    parent = device.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)
    first, second = (device.alloc_nested(parent, hwpt_data()) for _ in range(2))
    refuse_invalidations(first)

    # one good entry, then a bad one
    selftest = HwptInvalidateType.SELFTEST
    for number, bad in (
        (errno.EOPNOTSUPP, (0xFFFF_FFFF).to_bytes(4, "little") + (1).to_bytes(4, "little")),
        (errno.EINVAL, hwpt_invalidation(IOTLB_ENTRIES)),
    ):
        with pytest.raises(IommufdError) as caught:
            first.invalidate(selftest, hwpt_invalidation(0), bad)
        assert (caught.value.errno, caught.value.arguments["handled"]) == (number, 1)
        check_iotlb_all(first, 0, IOTLB_DEFAULT, IOTLB_DEFAULT, IOTLB_DEFAULT)
    assert first.invalidate(selftest, hwpt_invalidation(1)) == 1
    check_iotlb_all(first, 0, 0, IOTLB_DEFAULT, IOTLB_DEFAULT)
    assert first.invalidate(selftest, hwpt_invalidation(2), hwpt_invalidation(3)) == 2
    check_iotlb_all(first, 0, 0, 0, 0)
    assert second.invalidate(selftest, hwpt_invalidation(everything=True)) == 1
    check_iotlb_all(second, 0, 0, 0, 0)

    need_page_faults()
    # A device moves from one HWPT to the next, and holds its present one.
    queue = iommufd.alloc_fault_queue()
    faulting = device.alloc_nested(parent, hwpt_data(), fault_queue=queue)
    for nested in (first, second, faulting):
        device.attach(nested)
        with fails(errno.EBUSY):
            uapi.destroy(iommufd.fileno(), nested.id)
    first.close()
    device.trigger_fault(0xDEAD_BEAF, PageFaultPermission.READ | PageFaultPermission.WRITE, pasid=1, group=2)
    (fault,) = queue.read(timeout=patience(5))
    queue.respond(fault)
    device.attach(parent)
    second.close()
    faulting.close()
    device.attach(ioas)
    parent.close()
    queue.close()


def test_hwpt_attach(devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas) -> None:
    if devices:
        hwpt = devices[0].alloc_hwpt(ioas)
        MockDevice(iommufd, target=hwpt)
    else:
        with fails(errno.ENOENT):
            issue_test_op(iommufd.fileno(), "MOCK_DOMAIN", 0)


def test_get_hw_info(devices: list[MockDevice], variant: IoasVariant, iommufd: Iommufd, ioas: Ioas) -> None:
    def ask(dev_id: int, room: int, data_type: int | None = None) -> bytes:
        data = bytearray(b"\xaa" * room)
        answer = issue(
            iommufd.fileno(),
            "IOMMU_GET_HW_INFO",
            "iommu_hw_info",
            flags=0 if data_type is None else lib.IOMMU_HW_INFO_FLAG_INPUT_TYPE,
            dev_id=dev_id,
            data_len=room,
            data_uptr=address_of_buffer(data) if room else 0,
            **({} if data_type is None else {"in_data_type": data_type}),
        )
        assert (answer.out_data_type, answer.data_len) == (HwInfoType.SELFTEST, len(whole))
        return bytes(data)

    whole = bytes(4) + lib.IOMMU_HW_INFO_SELFTEST_REGVAL.to_bytes(4, "little")
    if not devices:
        with fails(errno.ENOENT):
            ask(0, len(whole))
        return
    dev_id = devices[0].dev_id
    assert ask(dev_id, 0) == b""
    assert ask(dev_id, len(whole)) == whole
    assert ask(dev_id, len(whole) + 8) == whole + bytes(8)
    assert ask(dev_id, 4) == whole[:4]
    assert devices[0].hw_info().max_pasid_log2 == 0
    if iommufd.probe()["IOMMU_HW_QUEUE_ALLOC"]:  # kernels with this flag also have the wanted type
        with fails(errno.EOPNOTSUPP):
            ask(dev_id, len(whole), HwInfoType.SELFTEST + 1)
        assert ask(dev_id, len(whole), HwInfoType.SELFTEST) == whole
    if variant.pasid and iommufd.probe()["IOMMU_VEVENTQ_ALLOC"]:  # and PASIDs
        assert MockDevice(iommufd, MockDeviceFlags.PASID).hw_info().max_pasid_log2 == PASID_WIDTH
