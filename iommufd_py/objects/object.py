# SPDX-License-Identifier: MIT
"""What every object of an iommufd shares: the file it lives in, and an id there."""

import errno
import os

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import IommufdError
from iommufd_py.base.signals import held_signals
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import VfioExtension, VfioIoasOp


class IommufdFile(Resource):
    """The open file that objects live in. :class:`Iommufd` is the one that a program makes."""

    _fd: int

    def __repr__(self) -> str:
        return f"{type(self).__name__}(fd={self._fd})"

    def fileno(self) -> int:
        """Return the file descriptor."""
        self._check_open()
        return self._fd

    def _release(self) -> None:
        os.close(self._fd)

    def probe(self) -> dict[str, bool]:
        """Tell by name which ioctls this kernel has; nothing is changed."""
        return uapi.probe(self.fileno())

    @checked
    def dma_cc(self, ioas: "IommufdObject") -> bool:
        """Tell whether every HWPT of *ioas* enforces cache coherency: VFIO_DMA_CC_IOMMU; an IOAS without any does.

        The kernel answers for the compatibility IOAS. This call makes *ioas* the compatibility IOAS, asks, and then
        restores the previous one.
        """
        fd = self.fileno()
        # Held: an IOAS that stays the compatibility IOAS cannot be destroyed.
        with held_signals():
            before = _compatibility_ioas(fd)
            uapi.vfio_ioas(fd, VfioIoasOp.SET, ioas.id)
            try:
                return bool(vfio.check_extension(fd, VfioExtension.DMA_CC_IOMMU))
            finally:
                if before is None:
                    uapi.vfio_ioas(fd, VfioIoasOp.CLEAR)
                else:
                    uapi.vfio_ioas(fd, VfioIoasOp.SET, before)


def _compatibility_ioas(fd: int) -> int | None:
    try:
        return uapi.vfio_ioas(fd, VfioIoasOp.GET)
    except IommufdError as failure:
        if failure.errno != errno.ENODEV:
            raise
        return None


class IommufdObject(Resource):
    """An object with an id of its own in an iommufd; closing it destroys it (IOMMU_DESTROY).

    Args:
        iommufd: where it lives.
        stands_on: other resources that must outlive it. Each of them lives in *iommufd*, so they replace it here.

    Attributes:
        iommufd: where it lives.
        id: its number there, for use in ioctls.
    """

    def __init__(self, iommufd: IommufdFile, *stands_on: Resource) -> None:
        super().__init__(*(stands_on or (iommufd,)))
        self.iommufd = iommufd
        self.id = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id})"

    def _fd(self) -> int:
        if not self._open:
            self._check_open()
        # The iommufd is open while this object is, so this does not ask it.
        return self.iommufd._fd

    def _release(self) -> None:
        uapi.destroy(self.iommufd.fileno(), self.id)


class IommufdDevice(Resource):
    """A device that an iommufd knows by an id.

    Attributes:
        dev_id: its object id in the iommufd.
    """

    dev_id: int
