# SPDX-License-Identifier: MIT
"""Fixture `iommufd_viommu` of the kernel's selftests: vIOMMUs, virtual devices, their events, caches and queues."""

import errno
import os
from dataclasses import dataclass

import pytest

from iommufd_py import (
    DmaBuffer,
    Hwpt,
    HwptAllocFlags,
    HwptDataType,
    HwptInvalidateType,
    Ioas,
    Iommufd,
    IommufdError,
    MockDevice,
    NestedHwpt,
    PageFaultPermission,
    VDevice,
    VEvent,
    VEventQueueType,
    VIommu,
    VIommuType,
)
from iommufd_py.mock import (
    APERTURE,
    DEVICE_CACHE_DEFAULT,
    DEVICE_CACHE_ENTRIES,
    hwpt_data,
    parse_viommu_data,
    viommu_data,
    viommu_invalidation,
)
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import issue, size_of
from iommufd_py.uapi.ffi import lib
from tests.conftest import fails, need_ioctl, need_mock_driver, need_page_faults
from tests.waiting import patience

PAGE = 4096
ALL = (1 << 64) - 1
VIRT_ID = 0x99
SELFTEST = VIommuType.SELFTEST


@dataclass(frozen=True)
class ViommuSetup:
    """The objects of the variant `mock_viommu`."""

    device: MockDevice
    parent: Hwpt
    viommu: VIommu
    nested: NestedHwpt


@pytest.fixture(params=["no_viommu", "mock_viommu"])
def setup(request: pytest.FixtureRequest, iommufd: Iommufd, ioas: Ioas) -> ViommuSetup | None:
    need_ioctl(iommufd, "IOMMU_VIOMMU_ALLOC", "6.13")
    if request.param == "no_viommu":
        return None
    need_mock_driver(iommufd)
    device = MockDevice(iommufd, target=ioas)
    parent = device.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)
    viommu = device.alloc_viommu(parent, SELFTEST)
    return ViommuSetup(device, parent, viommu, device.alloc_nested(viommu, hwpt_data()))


@pytest.fixture
def there(setup: ViommuSetup | None) -> ViommuSetup:
    """The objects for cases about a vIOMMU. The kernel's suite also skips these in the other variant."""
    if setup is None:
        pytest.skip("nothing to do without a vIOMMU")
    return setup


def test_viommu_auto_destroy(setup: ViommuSetup | None, iommufd: Iommufd) -> None:
    iommufd.close()


def test_viommu_negative_tests(setup: ViommuSetup | None, iommufd: Iommufd, ioas: Ioas) -> None:
    fd = iommufd.fileno()
    if setup is None:
        with fails(errno.ENOENT):
            uapi.viommu_alloc(fd, SELFTEST, 0, 0)
        return
    with fails(errno.ENOENT):
        uapi.viommu_alloc(fd, SELFTEST, setup.device.dev_id, 0)
    with setup.device.alloc_hwpt(ioas) as no_parent, fails(errno.EINVAL):
        setup.device.alloc_viommu(no_parent, SELFTEST)
    with fails(errno.EOPNOTSUPP):
        setup.device.alloc_viommu(setup.parent, 0xDEAD)
    for used in (setup.parent, setup.viommu):
        with fails(errno.EBUSY):
            uapi.destroy(fd, used.id)


def test_viommu_alloc_nested_iopf(there: ViommuSetup, iommufd: Iommufd, ioas: Ioas) -> None:
    need_page_faults()
    queue, data = iommufd.alloc_fault_queue(), hwpt_data()
    for number, flags, fault_id in (
        (errno.ENOENT, HwptAllocFlags.FAULT_ID_VALID, (1 << 32) - 1),
        (errno.EOPNOTSUPP, HwptAllocFlags.FAULT_ID_VALID | 1 << 31, queue.id),
    ):
        with fails(number):
            uapi.hwpt_alloc(
                iommufd.fileno(),
                there.device.dev_id,
                there.viommu.id,
                flags,
                HwptDataType.SELFTEST,
                data.content,
                fault_id,
            )
    faulting = there.device.alloc_nested(there.viommu, data, fault_queue=queue)
    if iommufd.probe()["IOMMU_HW_QUEUE_ALLOC"]:
        with fails(errno.ENOENT):
            there.device.attach(faulting)
    there.viommu.alloc_vdevice(there.device, VIRT_ID)
    there.device.attach(faulting)
    with fails(errno.EBUSY):
        uapi.destroy(iommufd.fileno(), faulting.id)
    there.device.trigger_fault(0xDEAD_BEAF, PageFaultPermission.READ, pasid=1, group=2)
    (fault,) = queue.read(timeout=patience(5))
    queue.respond(fault)
    there.device.attach(ioas)
    faulting.close()
    queue.close()


def test_viommu_alloc_with_data(there: ViommuSetup, iommufd: Iommufd) -> None:
    need_ioctl(iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17")
    viommu = there.device.alloc_viommu(there.parent, SELFTEST, viommu_data(0xBEEF))
    told = parse_viommu_data(viommu.data)
    assert told.echo == 0xBEEF
    offset, length = told.mmap_offset, told.mmap_length
    for wrong_offset, wrong_length in (
        (offset + PAGE, length),
        (offset + 2 * PAGE, length),
        (offset, length // 2),
        (offset, 2 * length),
    ):
        with fails(errno.ENXIO):
            viommu.map_memory(wrong_offset, wrong_length)
    with viommu.map_memory(offset, length) as memory:
        with memory.view as view:
            assert view[:4] == (0xBEEF).to_bytes(4, "little")
        with fails(errno.EBUSY):
            uapi.destroy(iommufd.fileno(), viommu.id)


def test_vdevice_alloc(setup: ViommuSetup | None, iommufd: Iommufd, ioas: Ioas) -> None:
    need_ioctl(iommufd, "IOMMU_VEVENTQ_ALLOC", "6.15")
    if setup is None:
        with fails(errno.ENOENT):
            uapi.vdevice_alloc(iommufd.fileno(), 0, 0, VIRT_ID)
        return
    device, viommu = setup.device, setup.viommu
    kind = VEventQueueType.SELFTEST
    if iommufd.probe()["IOMMU_HW_QUEUE_ALLOC"]:
        with fails(errno.ENOENT):  # no vDevice yet
            device.attach(setup.nested)
    with fails(errno.EINVAL):
        viommu.alloc_event_queue(kind, 0)
    queue = viommu.alloc_event_queue(kind, 2)
    with fails(errno.EEXIST):
        viommu.alloc_event_queue(kind, 2)
    assert queue.read(timeout=0) == []

    def attached_as(virt_id: int) -> VDevice:
        vdevice = viommu.alloc_vdevice(device, virt_id)
        device.attach(setup.nested)
        return vdevice

    def event(virt_id: int, sequence: int) -> VEvent:
        return VEvent(sequence, virt_id.to_bytes(4, "little"))

    vdevice = attached_as(VIRT_ID)
    device.trigger_event()
    # no room for a header, or for the event after it
    for room in (size_of("iommufd_vevent_header") - 1, size_of("iommufd_vevent_header")):
        with fails(errno.EINVAL):
            os.read(queue.fileno(), room)
    assert queue.read(timeout=patience(5)) == [event(VIRT_ID, 0)]
    with fails(errno.EEXIST):
        viommu.alloc_vdevice(device, VIRT_ID)
    device.attach(ioas)
    vdevice.close()

    # The device gets another id, and sends one event more than the queue can hold.
    vdevice = attached_as(0x88)
    for _ in range(3):
        device.trigger_event()
    assert queue.read(timeout=patience(5)) == [event(0x88, 1), event(0x88, 2), VEvent(3, None)]
    device.trigger_event()
    assert queue.read(timeout=patience(5)) == [event(0x88, 4)]
    queue.close()
    device.attach(ioas)
    vdevice.close()


@pytest.mark.parametrize("depth", [1 << 19, (1 << 19) + 1])
def test_veventq_depth(there: ViommuSetup, iommufd: Iommufd, depth: int) -> None:
    """The kernel's case `vdevice_alloc` also checks the deepest queue, on kernels with a limit."""
    need_ioctl(iommufd, "IOMMU_IOAS_NOIOMMU_GET_PA", "7.3, as the bound on a queue's depth")
    if depth > 1 << 19:
        with fails(errno.EINVAL):
            there.viommu.alloc_event_queue(VEventQueueType.SELFTEST, depth)
    else:
        there.viommu.alloc_event_queue(VEventQueueType.SELFTEST, depth)


def test_vdevice_cache(there: ViommuSetup, iommufd: Iommufd) -> None:
    device, viommu = there.device, there.viommu
    fd, selftest = iommufd.fileno(), HwptInvalidateType.SELFTEST
    vdevice = viommu.alloc_vdevice(device, VIRT_ID)

    def check_cache(*values: int) -> None:
        for index, value in enumerate(values):
            device.check_cache(index, value)

    full = DEVICE_CACHE_DEFAULT
    check_cache(full, full, full, full)
    assert viommu.invalidate(selftest) == 0
    entry = viommu_invalidation(VIRT_ID)
    unknown = (0xFFFF_FFFF).to_bytes(4, "little") + viommu_invalidation(VIRT_ID, 1)[4:]
    for number, data_type, entries, entry_bytes in (
        (errno.EINVAL, lib.IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST_INVALID, entry, len(entry)),
        (errno.E2BIG, selftest, entry + b"\xff", len(entry) + 1),
        (errno.EINVAL, selftest, entry[:1], 1),
        (errno.EOPNOTSUPP, selftest, unknown, len(entry)),
        (errno.EINVAL, selftest, viommu_invalidation(VIRT_ID, DEVICE_CACHE_ENTRIES), len(entry)),
        (errno.EINVAL, selftest, viommu_invalidation(0x9), len(entry)),
    ):
        with fails(number):
            uapi.hwpt_invalidate(fd, viommu.id, data_type, entries, entry_bytes)
    for entry_len in (len(entry), 0):  # an entry without a pointer; then also without a length
        with fails(errno.EINVAL):
            issue(
                fd,
                "IOMMU_HWPT_INVALIDATE",
                "iommu_hwpt_invalidate",
                hwpt_id=viommu.id,
                data_type=selftest,
                entry_num=1,
                entry_len=entry_len,
            )
    check_cache(full, full, full, full)

    for number, bad in (
        (errno.EOPNOTSUPP, unknown),
        (errno.EINVAL, viommu_invalidation(VIRT_ID, DEVICE_CACHE_ENTRIES)),
    ):
        with pytest.raises(IommufdError) as caught:
            viommu.invalidate(selftest, entry, bad)
        assert (caught.value.errno, caught.value.arguments["handled"]) == (number, 1)
        check_cache(0, full, full, full)
    assert viommu.invalidate(selftest, viommu_invalidation(VIRT_ID, 1)) == 1
    check_cache(0, 0, full, full)
    assert viommu.invalidate(selftest, viommu_invalidation(VIRT_ID, 2), viommu_invalidation(VIRT_ID, 3)) == 2
    check_cache(0, 0, 0, 0)
    assert viommu.invalidate(selftest, viommu_invalidation(VIRT_ID, everything=True)) == 1
    check_cache(0, 0, 0, 0)
    vdevice.close()


def test_hw_queue(there: ViommuSetup, iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    need_ioctl(iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17")
    fd, viommu, base = iommufd.fileno(), there.viommu, APERTURE.start

    def refused(number: int, queue_type: int, index: int, iova: int, length: int) -> None:
        with fails(number):
            uapi.hw_queue_alloc(fd, viommu.id, queue_type, index, iova, length)

    refused(errno.EOPNOTSUPP, lib.IOMMU_HW_QUEUE_TYPE_DEFAULT, 0, base, PAGE)
    refused(errno.EINVAL, SELFTEST, 0, base, 0)
    refused(errno.EOVERFLOW, SELFTEST, 0, ALL, PAGE)
    refused(errno.ENOENT, SELFTEST, 0, base, PAGE)
    first = ioas.map(shared_buffer, length=PAGE)
    second = ioas.map(shared_buffer, offset=PAGE, length=PAGE)
    refused(errno.EIO, SELFTEST, 1, first.iova, PAGE)
    refused(errno.EINVAL, SELFTEST, lib.IOMMU_TEST_HW_QUEUE_MAX, first.iova, PAGE)

    lower = viommu.alloc_hw_queue(SELFTEST, 0, first)
    refused(errno.EEXIST, SELFTEST, 0, first.iova, PAGE)
    with fails(errno.EBUSY):
        ioas.unmap(first.iova, PAGE)
    second.close()
    upper = viommu.alloc_hw_queue(SELFTEST, 1, first, offset=PAGE // 2, length=PAGE // 2)
    with fails(errno.EBUSY):
        uapi.destroy(fd, lower.id)
    upper.close()
    lower.close()
    first.close()


def test_vdevice_tombstone(there: ViommuSetup, iommufd: Iommufd) -> None:
    """A vDevice and its id end with its device."""
    need_ioctl(iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17, as the tombstones")
    vdevice = there.viommu.alloc_vdevice(there.device, VIRT_ID)
    uapi.destroy(iommufd.fileno(), there.device.id)
    with fails(errno.ENOENT):
        uapi.destroy(iommufd.fileno(), vdevice.id)
    for gone in (vdevice, there.device.attachments.pop(None), there.device):
        gone._mark_closed()
