# SPDX-License-Identifier: MIT
"""Map memory for a device, share it with a second IOAS, and undo everything.

iommufd lab run --native -- python docs/examples/map_memory.py
sudo python docs/examples/map_memory.py 0000:3b:00.0      # a device on vfio-pci
"""

import sys

from iommufd_py import DmaBuffer, Iommufd, MockDevice, VfioDevice

bdf = sys.argv[1] if len(sys.argv) > 1 else None
with Iommufd() as iommufd, DmaBuffer(2 << 20) as buffer:
    device = VfioDevice(iommufd, bdf) if bdf else MockDevice(iommufd)
    ioas, other = iommufd.alloc_ioas(), iommufd.alloc_ioas()
    print("usable:", *map(str, ioas.iova_ranges().ranges))
    device.attach(ioas)
    print("usable with the device:", *map(str, ioas.iova_ranges().ranges))

    mapping = ioas.map(buffer, 0x1000_0000)
    print(f"mapped {mapping.length} bytes at {mapping.iova:#x}")
    copy = other.copy(mapping)  # the kernel chooses the IOVA; the pages are pinned once
    print(f"the same memory in the other IOAS at {copy.iova:#x}")
    print(f"unmapped {ioas.unmap(mapping.iova, mapping.length)} bytes")
# The end of the block closes the rest in the right order: mappings, HWPTs, IOAS, device.
