# SPDX-License-Identifier: MIT
"""The kernel's own mock driver (CONFIG_IOMMUFD_TEST): real iommufd, real page tables, no hardware.

Source: drivers/iommu/iommufd/selftest.c.
"""

from iommufd_py.base.coherency import FlushCount
from iommufd_py.mock.access import AccessPin, MockAccess
from iommufd_py.mock.data import (
    APERTURE,
    DEVICE_CACHE_DEFAULT,
    DEVICE_CACHE_ENTRIES,
    HUGE_PAGE_BYTES,
    IOTLB_DEFAULT,
    IOTLB_ENTRIES,
    PAGE_BYTES,
    PASID_RESERVED,
    PASID_WIDTH,
    MockViommuData,
    hwpt_data,
    hwpt_invalidation,
    parse_viommu_data,
    viommu_data,
    viommu_invalidation,
)
from iommufd_py.mock.device import MockDevice
from iommufd_py.mock.driver import (
    MockDmabuf,
    add_reserved,
    check_iotlb,
    check_map,
    check_refs,
    flush_count,
    limit_memory,
    mock_flags,
    mock_makes,
    set_dirty,
)

__all__ = [
    "APERTURE",
    "DEVICE_CACHE_DEFAULT",
    "DEVICE_CACHE_ENTRIES",
    "HUGE_PAGE_BYTES",
    "IOTLB_DEFAULT",
    "IOTLB_ENTRIES",
    "PAGE_BYTES",
    "PASID_RESERVED",
    "PASID_WIDTH",
    "AccessPin",
    "FlushCount",
    "MockAccess",
    "MockDevice",
    "MockDmabuf",
    "MockViommuData",
    "add_reserved",
    "check_iotlb",
    "check_map",
    "check_refs",
    "flush_count",
    "hwpt_data",
    "hwpt_invalidation",
    "limit_memory",
    "mock_flags",
    "mock_makes",
    "parse_viommu_data",
    "set_dirty",
    "viommu_data",
    "viommu_invalidation",
]
