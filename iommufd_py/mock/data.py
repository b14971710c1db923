# SPDX-License-Identifier: MIT
"""The mock driver's own numbers, and its own structures for iommufd's ioctls."""

from dataclasses import dataclass

from iommufd_py.base.arguments import checked
from iommufd_py.base.iova import IovaRange
from iommufd_py.objects.hwpt import HwptData
from iommufd_py.uapi import iommufd_test
from iommufd_py.uapi.call import pack, unpack
from iommufd_py.uapi.enums import HwptDataType, MockPageTable

APERTURE = IovaRange(iommufd_test.APERTURE_START, iommufd_test.APERTURE_LAST)
"""Where a mock domain can map."""

PAGE_BYTES = iommufd_test.PAGE_BYTES
"""The smallest page of a mock domain: half of the CPU's."""

IOTLB_ENTRIES, IOTLB_DEFAULT = iommufd_test.IOTLB_ENTRIES, iommufd_test.IOTLB_DEFAULT
"""How many entries the make-believe IOTLB of a nested mock HWPT has, and what they hold until invalidated, to 0."""

DEVICE_CACHE_ENTRIES, DEVICE_CACHE_DEFAULT = iommufd_test.DEVICE_CACHE_ENTRIES, iommufd_test.DEVICE_CACHE_DEFAULT
"""The same of a mock device's cache."""

HUGE_PAGE_BYTES = iommufd_test.HUGE_PAGE_BYTES
"""The pages that :attr:`MockPageTable.HUGE` has beside."""

PASID_WIDTH = iommufd_test.PASID_WIDTH
"""Bits of a PASID."""

PASID_RESERVED = iommufd_test.PASID_RESERVED
"""The PASID at which a mock device fails every second attach, for tests of the unwinding."""


@checked
def hwpt_data(iotlb: int = IOTLB_DEFAULT, *, page_table: MockPageTable = MockPageTable.DEFAULT) -> HwptData:
    """Describe a mock HWPT: what its IOTLB holds at first if nested, the format of its page table if paging.

    Kernels before 6.19 know no formats, and refuse a structure that is longer than theirs: the default is left out.
    """
    content = pack("iommu_hwpt_selftest", iotlb=iotlb, pagetable_type=page_table)
    return HwptData(HwptDataType.SELFTEST, content if page_table else content[:4])


@checked
def hwpt_invalidation(index: int = 0, *, everything: bool = False) -> bytes:
    """Say which IOTLB entry of a nested HWPT to invalidate."""
    flags = iommufd_test.INVALIDATE_ALL if everything else 0
    return pack("iommu_hwpt_invalidate_selftest", flags=flags, iotlb_id=index)


@checked
def viommu_invalidation(virt_id: int, index: int = 0, *, everything: bool = False) -> bytes:
    """Say which cache entry of which device of a vIOMMU to invalidate."""
    flags = iommufd_test.INVALIDATE_ALL if everything else 0
    return pack("iommu_viommu_invalidate_selftest", flags=flags, vdev_id=virt_id, cache_id=index)


@dataclass(frozen=True, slots=True)
class MockViommuData:
    """What the mock driver tells of a vIOMMU: its in-data echoed, and where its registers can be mapped."""

    echo: int
    mmap_offset: int
    mmap_length: int


@checked
def viommu_data(in_data: int) -> bytes:
    """Make the in-data of a mock vIOMMU."""
    return pack("iommu_viommu_selftest", in_data=in_data)


@checked
def parse_viommu_data(data: bytes) -> MockViommuData:
    """Read :attr:`VIommu.data` of a mock vIOMMU."""
    raw = unpack("iommu_viommu_selftest", data)
    return MockViommuData(int(raw.out_data), int(raw.out_mmap_offset), int(raw.out_mmap_length))
