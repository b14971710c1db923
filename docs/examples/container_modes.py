# SPDX-License-Identifier: MIT
"""Map the same memory through each of the five interfaces that VFIO has for it.

iommufd lab run -- python docs/examples/container_modes.py 0000:00:10.0
"""

import sys

from iommufd_py import ContainerMode, DmaBuffer, SkipError, open_container, pci

bdf = sys.argv[1]
with pci.vfio_bound(bdf), DmaBuffer(2 << 20) as buffer:
    for mode in ContainerMode:
        try:
            container = open_container(mode, bdf)
        except SkipError as reason:
            print(f"{mode}: {reason}")
            continue
        with container, container.map(buffer, 0x1_0000_0000) as mapping:
            coherent = "coherent" if container.dma_cc() else "non-coherent"
            print(f"{mode}: {mapping.length} bytes at {mapping.iova:#x}, {coherent}")
