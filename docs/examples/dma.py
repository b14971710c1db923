# SPDX-License-Identifier: MIT
"""Make a device write to memory, and see the IOMMU stop a write outside of a mapping.

The device must be one for which this tool has an engine: an NVMe controller, QEMU's edu,
an Intel DSA, or an Intel 82574L or 82576 Ethernet controller.

    iommufd lab run -- python docs/examples/dma.py 0000:00:12.0
"""

import sys

from iommufd_py import ContainerMode, DmaBuffer, DmaError, open_container, pci
from iommufd_py.dma import open_engine

bdf, iova = sys.argv[1], 0x20_0000
with (
    pci.vfio_bound(bdf),
    open_container(ContainerMode.IOMMUFD, bdf) as container,
    DmaBuffer(4096) as buffer,
):
    engine = open_engine(container.device, container)
    with container.map(buffer, iova):
        content = engine.write(iova, 512)
        assert buffer.view[: len(content)] == content
        print(f"{engine!r} wrote {len(content)} bytes: {content[:8].hex()}...")
    try:
        engine.write(iova, 512)  # unmapped: the IOMMU must stop it
    except DmaError as error:
        print("stopped:", error)
    else:
        unchanged = buffer.view[:512] == content
        print(
            "no error from the device; by memory:",
            "stopped" if unchanged else "NOT stopped",
        )
