# SPDX-License-Identifier: MIT
"""dma-bufs: memory of a device, which other devices reach when an IOAS maps it."""

import os

from iommufd_py.base.arguments import checked
from iommufd_py.base.units import format_size
from iommufd_py.objects.mappable import Mappable
from iommufd_py.objects.resource import Resource


class Dmabuf(Mappable):
    """A dma-buf. :meth:`Ioas.map_file` maps it.

    The exporter can revoke the memory at any time. The kernel then removes it from every domain, and DMA there faults;
    the mapping stays in the IOAS as a hole. It does not come back when the exporter restores the memory: close it and
    map again.

    Attributes:
        length: bytes.
        fd: the file descriptor.

    Source: iopt_revoke_notify() in drivers/iommu/iommufd/pages.c; Documentation/driver-api/dma-buf.rst.
    """

    fd: int

    @checked
    def __init__(self, length: int, *stands_on: Resource) -> None:
        super().__init__(*stands_on)
        self.length = length

    def __repr__(self) -> str:
        return f"{type(self).__name__}({format_size(self.length)})"

    def fileno(self) -> int:
        """Return the file descriptor."""
        self._check_open()
        return self.fd

    def _release(self) -> None:
        os.close(self.fd)
