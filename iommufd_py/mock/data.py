# SPDX-License-Identifier: MIT
"""Constants of the mock driver, and its structures for iommufd's ioctls."""

from dataclasses import dataclass

from iommufd_py.base.arguments import checked
from iommufd_py.base.iova import IovaRange
from iommufd_py.objects.hwpt import HwptData
from iommufd_py.uapi import iommufd_test
from iommufd_py.uapi.call import pack, unpack
from iommufd_py.uapi.enums import HwptDataType, MockPageTable

APERTURE = IovaRange(iommufd_test.APERTURE_START, iommufd_test.APERTURE_LAST)
"""The IOVA range of a mock domain."""

PAGE_BYTES = iommufd_test.PAGE_BYTES
"""The smallest page of a mock domain: half of the CPU's."""

IOTLB_ENTRIES = iommufd_test.IOTLB_ENTRIES
"""The number of entries of a nested mock HWPT's IOTLB."""

IOTLB_DEFAULT = iommufd_test.IOTLB_DEFAULT
"""The first value of each entry of a nested mock HWPT's IOTLB. An invalidation sets an entry to 0."""

DEVICE_CACHE_ENTRIES = iommufd_test.DEVICE_CACHE_ENTRIES
"""The number of entries of a mock device's cache."""

DEVICE_CACHE_DEFAULT = iommufd_test.DEVICE_CACHE_DEFAULT
"""The first value of each entry of a mock device's cache. An invalidation sets an entry to 0."""

HUGE_PAGE_BYTES = iommufd_test.HUGE_PAGE_BYTES
"""The size of the additional pages of :attr:`MockPageTable.HUGE`."""

PASID_WIDTH = iommufd_test.PASID_WIDTH
"""Width of a PASID in bits."""

PASID_RESERVED = iommufd_test.PASID_RESERVED
"""The PASID with which every second attach of a mock device fails, for tests of the error path."""


@checked
def hwpt_data(*, page_table: MockPageTable = MockPageTable.DEFAULT) -> HwptData:
    """Describe a mock HWPT: the format of the page table for a paging HWPT. A nested HWPT has no format.

    Kernels before 6.19 have no formats and refuse the longer structure, so the default format is left out.
    """
    content = pack("iommu_hwpt_selftest", iotlb=IOTLB_DEFAULT, pagetable_type=page_table)
    return HwptData(HwptDataType.SELFTEST, content if page_table else content[:4])


@checked
def hwpt_invalidation(index: int = 0, *, everything: bool = False) -> bytes:
    """Return the entry that invalidates one IOTLB entry of a nested HWPT, or all."""
    flags = iommufd_test.INVALIDATE_ALL if everything else 0
    return pack("iommu_hwpt_invalidate_selftest", flags=flags, iotlb_id=index)


@checked
def viommu_invalidation(virt_id: int, index: int = 0, *, everything: bool = False) -> bytes:
    """Return the entry that invalidates one cache entry, or all, of a device of a vIOMMU."""
    flags = iommufd_test.INVALIDATE_ALL if everything else 0
    return pack("iommu_viommu_invalidate_selftest", flags=flags, vdev_id=virt_id, cache_id=index)


@dataclass(frozen=True, slots=True)
class MockViommuData:
    """The mock driver's data of a vIOMMU: a copy of the in-data, and the offset and length of its registers for
    mmap()."""

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
