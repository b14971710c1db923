# SPDX-License-Identifier: MIT
"""See the leaves of the IOMMU's page table for 4K pages and for huge pages.

The kernel shows them in debugfs, for VT-d only.

iommufd lab run -- python docs/examples/huge_pages.py 0000:00:10.0
"""

import sys

from iommufd_py import Backing, DmaBuffer, Iommufd, VfioDevice, pci, vtd

bdf = sys.argv[1]
with pci.vfio_bound(bdf), Iommufd() as iommufd:
    device, ioas = VfioDevice(iommufd, bdf), iommufd.alloc_ioas()
    device.attach(device.alloc_hwpt(ioas))
    for backing in (Backing.ANON_4K, Backing.THP):
        with DmaBuffer(4 << 20, backing) as buffer, ioas.map(buffer, 1 << 32) as mapping:
            leaves = vtd.leaf_sizes(bdf, mapping.iova, mapping.length)
            print(f"{backing}: {len(buffer.frames())} frames, leaves", leaves)
