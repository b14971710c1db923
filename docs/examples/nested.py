# SPDX-License-Identifier: MIT
"""Nest a guest's page table in a HWPT, and invalidate entries of its IOTLB.

On VT-d, use vtd_stage1(page_table, address_width) in place of hwpt_data(), and
vtd_stage1_invalidation(iova, pages) in place of hwpt_invalidation().

    iommufd lab run --native -- python docs/examples/nested.py
"""

from iommufd_py import HwptAllocFlags, HwptInvalidateType, Iommufd, MockDevice
from iommufd_py.mock import IOTLB_DEFAULT, check_iotlb, hwpt_data, hwpt_invalidation

with Iommufd() as iommufd:
    device, ioas = MockDevice(iommufd), iommufd.alloc_ioas()
    parent = device.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)
    nested = device.alloc_nested(parent, hwpt_data())
    device.attach(nested)
    entries = hwpt_invalidation(0), hwpt_invalidation(1)
    handled = nested.invalidate(HwptInvalidateType.SELFTEST, *entries)
    print(handled, "entries invalidated")
    for index, value in enumerate((0, 0, IOTLB_DEFAULT, IOTLB_DEFAULT)):
        check_iotlb(nested, index, value)  # the kernel confirms each entry
