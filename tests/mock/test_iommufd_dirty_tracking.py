# SPDX-License-Identifier: MIT
"""Fixture `iommufd_dirty_tracking` of the kernel's selftests: pages that a device wrote, in 8K to 128M."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iommufd_py import (
    Backing,
    DirtyBitmap,
    DirtyTracking,
    DmaBuffer,
    HwCapabilities,
    HwptAllocFlags,
    Ioas,
    Iommufd,
    MockDevice,
    MockDeviceFlags,
)
from iommufd_py.mock import APERTURE, HUGE_PAGE_BYTES, PAGE_BYTES, hwpt_data, set_dirty
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import issue
from iommufd_py.uapi.enums import MockPageTable
from tests.conftest import fails, need_huge_pages, need_mock_driver
from tests.mock.conftest import need_page_tables

PAGE = 4096
PASID = 100


@dataclass(frozen=True)
class DirtyTrackingVariant:
    buffer_bytes: int
    hugepages: bool = False

    @property
    def bitmap_bytes(self) -> int:
        return -(-self.buffer_bytes // PAGE_BYTES // 8)


VARIANTS = {
    "domain_dirty8k": DirtyTrackingVariant(8 << 10),  # half a byte of bits
    "domain_dirty16k": DirtyTrackingVariant(16 << 10),
    "domain_dirty64k": DirtyTrackingVariant(64 << 10),
    "domain_dirty128k": DirtyTrackingVariant(128 << 10),  # one 64-bit word
    "domain_dirty320k": DirtyTrackingVariant(320 << 10),  # two and a half
    "domain_dirty64M": DirtyTrackingVariant(64 << 20),  # one page
    "domain_dirty64M_huge": DirtyTrackingVariant(64 << 20, hugepages=True),
    "domain_dirty128M": DirtyTrackingVariant(128 << 20),
    "domain_dirty128M_huge": DirtyTrackingVariant(128 << 20, hugepages=True),
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> DirtyTrackingVariant:
    return VARIANTS[request.param]


@pytest.fixture(autouse=True)
def device(variant: DirtyTrackingVariant, iommufd: Iommufd, ioas: Ioas) -> MockDevice:
    need_mock_driver(iommufd)
    if not variant.hugepages:
        # Otherwise contiguous pages would become leaves of any size.
        ioas.huge_pages = False
    return MockDevice(iommufd, target=ioas)


def test_enforce_dirty(device: MockDevice, iommufd: Iommufd, ioas: Ioas) -> None:
    hwpt = device.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    MockDevice(iommufd, target=hwpt)
    with fails(errno.EINVAL):
        MockDevice(iommufd, MockDeviceFlags.NO_DIRTY, target=hwpt)
    hwpt.close()
    cannot = MockDevice(iommufd, MockDeviceFlags.NO_DIRTY, target=iommufd.alloc_ioas())
    with fails(errno.EOPNOTSUPP):
        cannot.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)


def test_set_dirty_tracking(device: MockDevice, iommufd: Iommufd, ioas: Ioas) -> None:
    hwpt = device.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    MockDevice(iommufd, target=hwpt)
    hwpt.track_dirty().close()


def test_pasid_set_dirty_tracking(device: MockDevice, iommufd: Iommufd, ioas: Ioas) -> None:
    if not iommufd.probe()["IOMMU_VEVENTQ_ALLOC"]:
        pytest.skip("this kernel attaches no PASIDs (since Linux 6.15)")
    hwpt = device.alloc_hwpt(ioas, flags=HwptAllocFlags.PASID | HwptAllocFlags.DIRTY_TRACKING)
    with MockDevice(iommufd, MockDeviceFlags.PASID, target=hwpt) as with_pasids:
        with_pasids.attach(hwpt, PASID)
        hwpt.track_dirty().close()
        with_pasids.detach(PASID)
    cannot = MockDevice(iommufd, MockDeviceFlags.PASID | MockDeviceFlags.NO_DIRTY, target=iommufd.alloc_ioas())
    with fails(errno.EINVAL):
        cannot.attach(hwpt, PASID)


def test_device_dirty_capability(device: MockDevice, iommufd: Iommufd, ioas: Ioas) -> None:
    MockDevice(iommufd, target=device.alloc_hwpt(ioas))
    assert device.hw_info().capabilities & HwCapabilities.DIRTY_TRACKING


# --- the bitmap --------------------------------------------------------------------------------------------------


@pytest.fixture
def tracked(variant: DirtyTrackingVariant, device: MockDevice, ioas: Ioas) -> Iterator[DirtyTracking]:
    """A tracked HWPT that maps the buffer in leaves of the variant's size."""
    need_page_tables(device, ioas)
    if variant.hugepages:
        need_huge_pages()
    backing = Backing.HUGETLB_2M if variant.hugepages else Backing.ANON_4K
    with DmaBuffer(variant.buffer_bytes, backing) as buffer:
        ioas.map(buffer, APERTURE.start)
        format_ = MockPageTable.HUGE if variant.hugepages else MockPageTable.DEFAULT
        hwpt = device.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING, data=hwpt_data(page_table=format_))
        yield hwpt.track_dirty()


def leaf_size(variant: DirtyTrackingVariant, tracked: DirtyTracking) -> int:
    """Return the size of a leaf, which has one dirty bit: a huge page, or the leaf of a base page.

    Linux 7.3 maps a base page as one leaf of 4 KiB, 7.2 as two of 2 KiB.
    """
    if variant.hugepages:
        return HUGE_PAGE_BYTES
    first = DirtyBitmap(APERTURE.start, variant.buffer_bytes, PAGE_BYTES, b"\1".ljust(variant.bitmap_bytes, b"\0"))
    assert set_dirty(tracked.hwpt, first) == 1
    size = int.from_bytes(read_at(tracked, variant, 0, 0), "little").bit_count() * PAGE_BYTES
    assert size in (PAGE_BYTES, PAGE)
    return size


def written_and_dirty(variant: DirtyTrackingVariant, leaf_bytes: int) -> tuple[DirtyBitmap, DirtyBitmap]:
    """Return the first page of every other leaf, which the device writes, and all pages that become dirty."""

    def bitmap(pages: int) -> DirtyBitmap:
        bits = ("1" * pages).ljust(2 * leaf_bytes // PAGE_BYTES, "0")
        count = variant.buffer_bytes // PAGE_BYTES
        every = (bits * (count // len(bits) + 1))[:count]
        content = int(every[::-1], 2).to_bytes(-(-count // 8), "little")
        return DirtyBitmap(APERTURE.start, variant.buffer_bytes, PAGE_BYTES, content)

    return bitmap(1), bitmap(leaf_bytes // PAGE_BYTES)


def read_at(tracking: DirtyTracking, variant: DirtyTrackingVariant, offset: int, flags: int) -> bytes:
    """Read the bitmap to memory *offset* bytes after the start of a page; the memory around it must not change."""
    size = variant.bitmap_bytes
    with DmaBuffer(-(-(offset + size + 8) // PAGE) * PAGE) as memory, memory.view as view:
        view[offset : offset + size] = bytes(size)
        issue(
            tracking.hwpt.iommufd.fileno(),
            "IOMMU_HWPT_GET_DIRTY_BITMAP",
            "iommu_hwpt_get_dirty_bitmap",
            hwpt_id=tracking.hwpt.id,
            flags=flags,
            iova=APERTURE.start,
            length=variant.buffer_bytes,
            page_size=PAGE_BYTES,
            data=memory.user_va + offset,
        )
        return bytes(view[offset : offset + size])


@pytest.mark.parametrize("flags", [0, uapi.DIRTY_BITMAP_NO_CLEAR], ids=["", "no_clear"])
def test_get_dirty_bitmap(variant: DirtyTrackingVariant, tracked: DirtyTracking, flags: int) -> None:
    written, dirty = written_and_dirty(variant, leaf_size(variant, tracked))
    # at the start of a page, in the middle of one, and at an odd address
    for offset in (0, PAGE_BYTES, 0xFF1):
        assert set_dirty(tracked.hwpt, written) == len(written)
        assert read_at(tracked, variant, offset, flags) == dirty.bits
        assert read_at(tracked, variant, offset, flags) == (dirty.bits if flags else bytes(len(dirty.bits)))
