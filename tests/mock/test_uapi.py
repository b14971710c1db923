# SPDX-License-Identifier: MIT
"""The bindings that no object uses yet, each once against the mock driver: right structure, right out-fields."""

import errno
import os
import struct
from collections.abc import Iterator

import pytest

from iommufd_py import DmaBuffer, HwptAllocFlags, Ioas, Iommufd, IommufdError, MockDevice
from iommufd_py.enums import HwptDataType
from iommufd_py.ffi import lib
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import iommufd_test
from iommufd_py.uapi.call import address_of_buffer
from tests.conftest import need_ioctl

PAGE = 4096
BASE = 1 << 24


@pytest.fixture
def fd(iommufd: Iommufd) -> int:
    return iommufd.fileno()


@pytest.fixture
def parent(mock: MockDevice, ioas: Ioas) -> int:
    return mock.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT).id


@pytest.fixture
def viommu(fd: int, mock: MockDevice, parent: int) -> Iterator[int]:
    need_ioctl(mock.iommufd, "IOMMU_VIOMMU_ALLOC", "6.13")
    data = bytearray(struct.pack("=IIQQ", 0xBEEF, 0, 0, 0))
    made = uapi.viommu_alloc(fd, lib.IOMMU_VIOMMU_TYPE_SELFTEST, mock.dev_id, parent, data)
    assert struct.unpack("=II", data[:8]) == (0xBEEF, 0xBEEF), "the driver echoes in_data to out_data"
    yield made
    uapi.destroy(fd, made)


def test_dirty_tracking(fd: int, mock: MockDevice, ioas: Ioas) -> None:
    ioas.huge_pages = False  # a larger leaf has one dirty bit for all of it
    hwpt = mock.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    with DmaBuffer(64 * PAGE) as buffer, ioas.map(buffer, BASE):
        uapi.hwpt_set_dirty_tracking(fd, hwpt.id, True)
        touched = bytearray(8)
        touched[0], touched[7] = 0b101, 0x80
        iommufd_test.command(
            fd,
            "DIRTY",
            hwpt.id,
            "dirty",
            iova=BASE,
            length=buffer.length,
            page_size=PAGE,
            uptr=address_of_buffer(touched),
        )
        for expected in (touched, bytearray(8)):  # reading clears
            found = bytearray(8)
            uapi.hwpt_get_dirty_bitmap(fd, hwpt.id, BASE, buffer.length, PAGE, found)
            assert found == expected
        uapi.hwpt_set_dirty_tracking(fd, hwpt.id, False)


def test_nested_hwpt_and_invalidate(fd: int, mock: MockDevice, parent: int) -> None:
    data = struct.pack("=II", lib.IOMMU_TEST_IOTLB_DEFAULT, 0)
    nested = uapi.hwpt_alloc(fd, mock.dev_id, parent, data_type=HwptDataType.SELFTEST, data=data)

    def check_iotlb(value: int) -> None:
        iommufd_test.command(fd, "MD_CHECK_IOTLB", nested, "check_iotlb", id=1, iotlb=value)

    check_iotlb(lib.IOMMU_TEST_IOTLB_DEFAULT)
    entries = struct.pack("=IIII", 0, 1, 0, 2)  # flags, iotlb_id, of two entries
    taken = uapi.hwpt_invalidate(fd, nested, lib.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST, entries, 8)
    assert taken == 2
    check_iotlb(0)
    with pytest.raises(IommufdError) as caught:
        check_iotlb(lib.IOMMU_TEST_IOTLB_DEFAULT)
    assert caught.value.errno == errno.EINVAL
    uapi.destroy(fd, nested)


def test_fault_queue(fd: int, mock: MockDevice, ioas: Ioas) -> None:
    queue = uapi.fault_queue_alloc(fd)
    assert os.fstat(queue.fd)
    hwpt = uapi.hwpt_alloc(fd, mock.dev_id, ioas.id, HwptAllocFlags.FAULT_ID_VALID, fault_id=queue.object_id)
    with pytest.raises(IommufdError, match="EBUSY"):
        uapi.destroy(fd, queue.object_id)
    uapi.destroy(fd, hwpt)
    os.close(queue.fd)
    uapi.destroy(fd, queue.object_id)


def test_vdevice_and_event_queue(fd: int, mock: MockDevice, viommu: int) -> None:
    need_ioctl(mock.iommufd, "IOMMU_VEVENTQ_ALLOC", "6.15")
    data = struct.pack("=II", lib.IOMMU_TEST_IOTLB_DEFAULT, 0)
    nested = uapi.hwpt_alloc(fd, mock.dev_id, viommu, data_type=HwptDataType.SELFTEST, data=data)
    vdevice = uapi.vdevice_alloc(fd, viommu, mock.dev_id, 0x99)
    mock._attach(nested)
    queue = uapi.veventq_alloc(fd, viommu, lib.IOMMU_VEVENTQ_TYPE_SELFTEST, 4)
    iommufd_test.command(fd, "TRIGGER_VEVENT", mock.dev_id, "trigger_vevent", dev_id=mock.dev_id)
    flags, sequence, virt_id = struct.unpack("=III", os.read(queue.fd, 4096))
    assert (flags, sequence, virt_id) == (0, 0, 0x99)
    os.close(queue.fd)
    mock._detach()
    for made in (queue.object_id, vdevice, nested):
        uapi.destroy(fd, made)


def test_hw_queue(fd: int, mock: MockDevice, ioas: Ioas, viommu: int) -> None:
    need_ioctl(mock.iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17")
    with DmaBuffer(PAGE) as buffer:
        mapping = ioas.map(buffer, BASE)
        queue = uapi.hw_queue_alloc(fd, viommu, lib.IOMMU_HW_QUEUE_TYPE_SELFTEST, 0, BASE, PAGE)
        with pytest.raises(IommufdError, match="EBUSY"):
            uapi.ioas_unmap(fd, ioas.id, BASE, PAGE)
        uapi.destroy(fd, queue)
        mapping.close()


def test_change_process(fd: int, iommufd: Iommufd) -> None:
    need_ioctl(iommufd, "IOMMU_IOAS_CHANGE_PROCESS", "6.13")
    uapi.ioas_change_process(fd)


def test_noiommu_get_pa_of_an_ioas_with_an_iommu(fd: int, iommufd: Iommufd, mock: MockDevice, ioas: Ioas) -> None:
    need_ioctl(iommufd, "IOMMU_IOAS_NOIOMMU_GET_PA", "7.3")
    mock.attach(ioas)
    with DmaBuffer(PAGE) as buffer, ioas.map(buffer, BASE), pytest.raises(IommufdError) as caught:
        uapi.ioas_noiommu_get_pa(fd, ioas.id, BASE, PAGE)
    assert caught.value.errno == errno.EOPNOTSUPP
