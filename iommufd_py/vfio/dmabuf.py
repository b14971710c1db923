# SPDX-License-Identifier: MIT
"""BARs of a VFIO device as dma-bufs, so that other devices reach them (peer-to-peer DMA)."""

import os

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import ArgumentValueError, DeviceError, NotSupportedError, UnsupportedIoctlError
from iommufd_py.base.units import PAGE_BYTES, format_size
from iommufd_py.objects.dmabuf import Dmabuf
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import RegionIndex
from iommufd_py.vfio.region import Region


class RegionDmabuf(Dmabuf):
    """Part of a BAR as a dma-buf. Made by ``device.export_dmabuf()``; closing the device closes it.

    The memory is revoked during a reset of the device, and while memory decoding is off in its command register.

    Attributes:
        region: the BAR.
        offset: start of the part in the BAR, in bytes.

    Source: VFIO_DEVICE_FEATURE_DMA_BUF in include/uapi/linux/vfio.h; 5d74781ebc86 ("vfio/pci: Add dma-buf export
    support for MMIO regions", v6.19).
    """

    @checked
    def __init__(self, region: Region, offset: int = 0, length: int | None = None) -> None:
        size = region.info.size - offset if length is None else length
        super().__init__(size, region.device)
        self.region = region
        self.offset = offset
        index = region.info.index
        if index > RegionIndex.BAR5 or not region.info.size:
            raise DeviceError(f"{region!r} cannot be exported as a dma-buf: choose one of the BARs that the device has")
        if offset < 0 or size <= 0 or offset + size > region.info.size or offset % PAGE_BYTES or size % PAGE_BYTES:
            raise ArgumentValueError(
                f"{size} bytes from offset {offset:#x} of {region!r} ({format_size(region.info.size)}) are not whole "
                "pages inside it, but a dma-buf consists of whole pages"
            )
        with self._opening():
            try:
                self.fd = vfio.device_export_dmabuf(
                    region.device.fileno(), index, offset, size, os.O_RDWR | os.O_CLOEXEC
                )
            except (NotSupportedError, UnsupportedIoctlError) as failure:
                raise DeviceError(
                    f"{region!r} cannot be exported as a dma-buf: this kernel is older than Linux 6.19, has no "
                    "CONFIG_PCI_P2PDMA, or the device's driver has no support for it"
                ) from failure

    def __repr__(self) -> str:
        return f"RegionDmabuf({self.region!r}, offset={self.offset:#x}, length={format_size(self.length)})"
