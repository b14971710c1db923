# SPDX-License-Identifier: MIT
"""Find the pages that a device wrote. The test driver sets the dirty bits here.

iommufd lab run --native -- python docs/examples/dirty_tracking.py
"""

from iommufd_py import (
    DirtyBitmap,
    DirtyTracking,
    DmaBuffer,
    HwptAllocFlags,
    Iommufd,
    MockDevice,
)
from iommufd_py.mock import set_dirty

PAGE, BASE = 4096, 1 << 24

with Iommufd() as iommufd, DmaBuffer(64 * PAGE) as buffer:
    device, ioas = MockDevice(iommufd), iommufd.alloc_ioas()
    ioas.huge_pages = False  # a large leaf has one dirty bit for all of its pages
    hwpt = device.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    device.attach(hwpt)
    with ioas.map(buffer, BASE), DirtyTracking(hwpt) as tracking:
        written = bytes(
            [0b0000_0101, *[0] * 6, 0b1000_0000]
        )  # the first page, the third, the last
        set_dirty(hwpt, DirtyBitmap(BASE, buffer.length, PAGE, written))
        dirty = tracking.read(BASE, buffer.length)
        print(len(dirty), "pages:", *map(str, dirty.ranges()))
        print("after the read:", len(tracking.read(BASE, buffer.length)))
