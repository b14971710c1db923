# SPDX-License-Identifier: MIT
"""Fixture `iommufd_ioas` of the kernel's selftests: an IOAS without and with domains, and with tiny batches."""

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iommufd_py import (
    Backing,
    DmaBuffer,
    HwptAllocFlags,
    HwptData,
    HwptDataType,
    HwptInvalidateType,
    Ioas,
    Iommufd,
    IommufdError,
    IovaRange,
    MapFlags,
    MockAccess,
    MockDevice,
    MockDeviceFlags,
    NestedHwpt,
    NotSupportedError,
    PageFaultPermission,
)
from iommufd_py.mock import (
    APERTURE,
    IOTLB_DEFAULT,
    IOTLB_ENTRIES,
    PAGE_BYTES,
    PASID_WIDTH,
    MockDmabuf,
    add_reserved,
    check_iotlb,
    check_map,
    hwpt_data,
    hwpt_invalidation,
    limit_memory,
)
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import address_of_buffer, issue
from iommufd_py.uapi.enums import HwInfoType
from iommufd_py.uapi.ffi import lib
from iommufd_py.uapi.iommufd_test import command
from tests.conftest import fails, need_flush_count, need_huge_pages, need_ioctl, need_mock_driver, need_page_faults
from tests.mock.conftest import check_device_cache
from tests.mock.processes import fork, in_child, wait
from tests.waiting import patience

PAGE = 4096
ALL = (1 << 64) - 1


@dataclass(frozen=True)
class Variant:
    domains: int = 0
    memory_limit: int | None = None
    pasid: bool = False


VARIANTS = {
    "no_domain": Variant(),
    "mock_domain": Variant(domains=1, pasid=True),
    "two_mock_domain": Variant(domains=2),
    "mock_domain_limit": Variant(domains=1, memory_limit=16),
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    return VARIANTS[request.param]


@pytest.fixture(autouse=True)
def devices(variant: Variant, iommufd: Iommufd, ioas: Ioas) -> Iterator[list[MockDevice]]:
    """The variant's devices, each with a separate domain on the IOAS."""
    need_ioctl(iommufd, "IOMMU_TEST_CMD", "with CONFIG_IOMMUFD_TEST")
    if variant.domains:
        need_mock_driver(iommufd)
    limit_memory(iommufd, variant.memory_limit)
    made = [MockDevice(iommufd, target=ioas) for _ in range(variant.domains)]
    for device in made:
        check_device_cache(device)
    yield made
    with Iommufd() as another:
        limit_memory(another, None)


@pytest.fixture
def base(devices: list[MockDevice]) -> int:
    """The lowest IOVA that the variant can map."""
    return APERTURE.start if devices else 0


def test_ioas_auto_destroy(iommufd: Iommufd) -> None:
    iommufd.close()


def test_ioas_destroy(devices: list[MockDevice], ioas: Ioas) -> None:
    if devices:
        with fails(errno.EBUSY):
            uapi.destroy(ioas.iommufd.fileno(), ioas.id)
    else:
        ioas.close()


# --- nested HWPTs ------------------------------------------------------------------------------------------------


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
            command(iommufd.fileno(), "MOCK_DOMAIN", 0)


def test_get_hw_info(devices: list[MockDevice], variant: Variant, iommufd: Iommufd, ioas: Ioas) -> None:
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


# --- areas -------------------------------------------------------------------------------------------------------


def test_ioas_area_destroy(devices: list[MockDevice], ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    ioas.map_user_va(shared_buffer.user_va, PAGE, base)
    if devices:
        with fails(errno.EBUSY):
            uapi.destroy(ioas.iommufd.fileno(), ioas.id)
    else:
        ioas.close()


def test_ioas_area_auto_destroy(ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    for i in range(10):
        ioas.map_user_va(shared_buffer.user_va, PAGE, base + i * PAGE)
    ioas.iommufd.close()


def test_area(ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    for i in range(10):
        with fails(errno.ENOENT):
            ioas.unmap(i * PAGE, PAGE)
    for i in range(10):
        ioas.map_user_va(shared_buffer.user_va, PAGE, base + i * PAGE)
    for i in range(10):
        assert ioas.unmap(base + i * PAGE, PAGE) == PAGE

    # Two pages in one area: half of it cannot be unmapped, and nothing can be mapped over it.
    ioas.map_user_va(shared_buffer.user_va, 2 * PAGE, base + 16 * PAGE)
    for page in (16, 17):
        with fails(errno.ENOENT):
            ioas.unmap(base + page * PAGE, PAGE)
    for page, pages in ((16, 2), (16, 1), (17, 1), (15, 2), (15, 3)):
        with fails(errno.EEXIST):
            ioas.map_user_va(shared_buffer.user_va, pages * PAGE, base + page * PAGE)
    assert ioas.unmap_all() == 2 * PAGE
    assert ioas.unmap_all() == 0


def test_unmap_fully_contained_areas(ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    base += 4 * PAGE  # room before the first
    for i in range(4):
        ioas.map_user_va(shared_buffer.user_va, 8 * PAGE, base + i * 16 * PAGE)
    for start in (base - 4 * PAGE, base + (3 * 16 + 4) * PAGE):
        with fails(errno.ENOENT):
            ioas.unmap(start, 8 * PAGE)
    assert ioas.unmap(base - 4 * PAGE, (4 + 3 * 16 + 8) * PAGE) == 4 * 8 * PAGE


@pytest.fixture
def aligned_va(iommufd: Iommufd) -> Iterator[int]:
    """The address of 2M of memory, aligned to 2M: the kernel gives an IOVA at most the alignment of its memory."""
    need_huge_pages()
    with DmaBuffer(2 << 20, Backing.THP) as buffer:
        yield buffer.user_va
        iommufd.close()


def auto_iovas(ioas: Ioas, user_va: int) -> list[int]:
    """Map 1 to 10 pages at IOVAs of the kernel's choice, which must be aligned to the length's lowest bit; unmap."""
    iovas = []
    for pages in range(1, 11):
        iova = ioas.map_user_va(user_va, pages * PAGE)
        assert iova % (pages * PAGE & -(pages * PAGE)) == 0
        iovas.append(iova)
    for pages, iova in enumerate(iovas, 1):
        ioas.unmap(iova, pages * PAGE)
    return iovas


def test_area_auto_iova(devices: list[MockDevice], ioas: Ioas, aligned_va: int) -> None:
    singles = [ioas.map_user_va(aligned_va, PAGE) for _ in range(10)]
    assert len(set(singles)) == 10
    for iova in singles:
        ioas.unmap(iova, PAGE)
    # Without a domain nothing is pinned, so the memory need not exist.
    auto_iovas(ioas, aligned_va if devices else 1 << 31)

    reserved = IovaRange(4 * PAGE, 104 * PAGE - 1)
    add_reserved(ioas, reserved.start, 100 * PAGE)
    for pages, iova in enumerate(auto_iovas(ioas, aligned_va), 1):
        assert iova > reserved.last or iova + pages * PAGE <= reserved.start

    with fails(errno.EADDRINUSE):
        ioas.allow_iovas([IovaRange(PAGE, 600 * PAGE)])
    allowed = (
        IovaRange(APERTURE.start + PAGE, APERTURE.start + 600 * PAGE - 1)
        if devices
        else IovaRange(200 * PAGE, 600 * PAGE - 1)
    )
    ioas.allow_iovas([allowed])
    for pages, iova in enumerate(auto_iovas(ioas, aligned_va), 1):
        assert allowed.contains(iova, pages * PAGE)


def test_reserved_overflow(ioas: Ioas, aligned_va: int) -> None:
    """Reserve all but the last 32K, from an odd address: the search for a free IOVA must not wrap around."""
    add_reserved(ioas, 6, 0xFFFF_FFFF_FFFF_8001)
    with fails(errno.ENOSPC):
        ioas.map_user_va(aligned_va, 5 * PAGE)


def test_area_allowed(ioas: Ioas, base: int) -> None:
    wanted = IovaRange(base, base + 600 * PAGE)
    ioas.allow_iovas([wanted])
    with fails(errno.EADDRINUSE):
        add_reserved(ioas, base + PAGE, PAGE)
    ioas.allow_iovas([])
    add_reserved(ioas, base + PAGE, PAGE)
    with fails(errno.EADDRINUSE):
        ioas.allow_iovas([wanted])


def test_copy_area(iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    source = ioas.map(shared_buffer, base, length=PAGE)
    assert ioas.copy(source, base + PAGE, flags=MapFlags.WRITEABLE).iova == base + PAGE
    assert iommufd.alloc_ioas().copy(source, 0, flags=MapFlags.WRITEABLE).iova == 0


def test_copy_unaligned_areas(iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Each area of the source must be aligned for the destination; mainline maps beyond the memory otherwise."""
    need_flush_count(iommufd)  # the fix came with it
    start = APERTURE.start
    source = iommufd.alloc_ioas()
    source.map_user_va(shared_buffer.user_va, PAGE_BYTES, start)
    source.map_user_va(shared_buffer.user_va + PAGE, PAGE - PAGE_BYTES, start + PAGE_BYTES)
    ioas.huge_pages = False
    with fails(errno.EINVAL):
        ioas.copy_iova(source, start, PAGE, start)
    assert ioas.unmap_all() == 0
    ioas.map_user_va(shared_buffer.user_va, PAGE, start)


def test_iova_ranges(devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas) -> None:
    everything = APERTURE if devices else IovaRange(0, ALL)

    def ask(room: int) -> tuple[int, bytes]:
        ranges = bytearray(16 * 4)
        try:
            answer = issue(
                iommufd.fileno(),
                "IOMMU_IOAS_IOVA_RANGES",
                "iommu_ioas_iova_ranges",
                ioas_id=ioas.id,
                num_iovas=room,
                allowed_iovas=address_of_buffer(ranges),
            )
        except OSError as failure:
            assert failure.errno == errno.EMSGSIZE
            return -1, bytes(ranges)
        return int(answer.num_iovas), bytes(ranges)

    found = ioas.iova_ranges()
    assert found.ranges == (everything,)
    assert found.alignment == (PAGE_BYTES if devices else 1)
    assert ask(0) == (-1, bytes(64))

    add_reserved(ioas, PAGE, PAGE)
    two = (IovaRange(0, PAGE - 1), IovaRange(2 * PAGE, ALL))
    assert ioas.iova_ranges().ranges == ((everything,) if devices else two)
    count, ranges = ask(1)
    first = everything if devices else two[0]
    assert count == (1 if devices else -1)
    assert ranges == first.start.to_bytes(8, "little") + first.last.to_bytes(8, "little") + bytes(48)


# --- in-kernel users ---------------------------------------------------------------------------------------------


def test_access_domain_destory(devices: list[MockDevice], ioas: Ioas, base: int) -> None:
    """[sic] Destroy the domain while an access pins one page in the middle of a huge page."""
    need_huge_pages()
    with DmaBuffer(4 << 20, Backing.HUGETLB_2M) as buffer:
        ioas.map(buffer, base)
        with MockAccess(ioas, pins=True) as access:
            access.pin(base + PAGE, PAGE, buffer.user_va + PAGE)
            if devices:
                devices[-1].close()


def test_access_pin(iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer, variant: Variant) -> None:
    need_mock_driver(iommufd)
    with MockAccess(ioas, pins=True) as access:
        for pages in range(1, shared_buffer.length // PAGE):

            def pin(length: int = pages * PAGE) -> object:
                return access.pin(APERTURE.start, length, shared_buffer.user_va)

            with ioas.map(shared_buffer, APERTURE.start):
                pin().unpin()
                first, second = pin(), pin()
                second.unpin()
                first.unpin()
                held = pin()
                with MockDevice(iommufd, target=ioas) as device:
                    hwpt_id = device.attachments[None].hwpt_id
                    check_map(iommufd, hwpt_id, APERTURE.start, shared_buffer.length, shared_buffer.user_va)
                held.unpin()


def test_access_pin_unmap(ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    with MockAccess(ioas, pins=True) as access:
        ioas.map(shared_buffer, APERTURE.start)
        pin = access.pin(APERTURE.start, shared_buffer.length, shared_buffer.user_va)
        ioas.unmap(APERTURE.start, shared_buffer.length)
        with fails(errno.ENOENT):
            pin.unpin()


def check_access_rw(access: MockAccess, buffer: DmaBuffer, iova: int, *, slow_path: bool = False) -> None:
    """Read and write near a page boundary, from every offset, with lengths that end before and after it."""
    with buffer.view as memory:
        memory[:] = random.randbytes(buffer.length)
        for offset in range(PAGE - 50, PAGE + 50):
            for length in (1, 2, 7, 31, 49, 51, 63):
                there = slice(offset, offset + length)
                assert access.read(iova + offset, length, slow_path=slow_path) == memory[there]
                written = random.randbytes(length)
                access.write(iova + offset, written, slow_path=slow_path)
                assert memory[there] == written
        assert access.read(iova, buffer.length, slow_path=slow_path) == memory


def test_access_rw(ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    with MockAccess(ioas) as access, ioas.map(shared_buffer) as mapping:
        check_access_rw(access, shared_buffer, mapping.iova)
        check_access_rw(access, shared_buffer, mapping.iova, slow_path=True)


def test_access_rw_unaligned(ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    with MockAccess(ioas) as access, ioas.map(shared_buffer, base + PAGE_BYTES) as mapping:
        check_access_rw(access, shared_buffer, mapping.iova)


def test_fork_gone(devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Memory mapped by a process that has ended: pages pinned by a domain stay usable, others are lost."""
    need_mock_driver(iommufd)
    with MockAccess(ioas) as access:
        in_child(lambda: ioas.map_user_va(shared_buffer.user_va, shared_buffer.length, APERTURE.start))
        if devices:
            MockDevice(iommufd, target=ioas)
            check_access_rw(access, shared_buffer, APERTURE.start)
        else:
            with fails(errno.EFAULT):
                MockDevice(iommufd, target=ioas)


def test_fork_present(iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Memory mapped by a process that still exists: this process pins its pages."""
    need_mock_driver(iommufd)
    may_end, end = os.pipe()
    is_mapped, mapped = os.pipe()

    def other_process() -> None:
        os.close(end)
        ioas.map_user_va(shared_buffer.user_va, shared_buffer.length, APERTURE.start)
        os.write(mapped, b"!")
        os.read(may_end, 1)

    with MockAccess(ioas) as access:
        child = fork(other_process)
        os.close(may_end)
        assert os.read(is_mapped, 1)
        MockDevice(iommufd, target=ioas)
        check_access_rw(access, shared_buffer, APERTURE.start)
        os.close(end)
        wait(child)
    os.close(is_mapped)
    os.close(mapped)


# --- options and lengths -----------------------------------------------------------------------------------------


def test_ioas_option_huge_pages(ioas: Ioas) -> None:
    assert ioas.huge_pages
    ioas.huge_pages = False
    assert not ioas.huge_pages
    with fails(errno.EINVAL):
        uapi.option_set(ioas.iommufd.fileno(), lib.IOMMU_OPTION_HUGE_PAGES, 2, ioas.id)
    ioas.huge_pages = True


def test_ioas_iova_alloc(devices: list[MockDevice], ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Map lengths near every multiple of 1K up to two pages; with a domain only multiples of the mock's page."""
    for length in (near + i for near in range(0, 2 * PAGE + 1, 1024) for i in (-2, -1, 0, 1, 2) if near + i > 0):
        if devices and length % PAGE_BYTES:
            with fails(errno.EINVAL):
                ioas.map_user_va(shared_buffer.user_va, length)
        else:
            ioas.unmap(ioas.map_user_va(shared_buffer.user_va, length), length)


def test_ioas_align_change(devices: list[MockDevice], ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Without huge pages everything is aligned to PAGE_SIZE. It cannot change with a domain and a map."""
    if devices:
        return
    user_va, base = shared_buffer.user_va, APERTURE.start
    ioas.map_user_va(user_va, PAGE, base)
    ioas.huge_pages = False
    with fails(errno.EINVAL):
        ioas.map_user_va(user_va + PAGE_BYTES, PAGE, base + PAGE)
    ioas.huge_pages = False
    ioas.huge_pages = True
    ioas.map_user_va(user_va + PAGE_BYTES, PAGE, base + PAGE)
    with fails(errno.EADDRINUSE):
        ioas.huge_pages = False
    ioas.unmap(base + PAGE, PAGE)
    ioas.unmap(base, PAGE)


def test_copy_sweep(devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    start, length = APERTURE.start, shared_buffer.length - (0 if devices else 1)
    source = ioas.map(shared_buffer, start, length=length)
    with iommufd.alloc_ioas() as other:
        for iova in range(start - PAGE, start + length, 511):
            offset = iova - start
            if offset < 0 or offset + PAGE_BYTES > length:
                with fails(errno.ENOENT):
                    other.copy(source, start, offset=offset, length=PAGE_BYTES)
            else:
                other.copy(source, start, offset=offset, length=PAGE_BYTES).close()


# --- dma-buf -----------------------------------------------------------------------------------------------------


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
