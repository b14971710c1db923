# SPDX-License-Identifier: MIT
"""The base of all objects of an iommufd: each has an id in the open file."""

import errno

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import ArgumentValueError, IommufdError
from iommufd_py.base.signals import held_signals
from iommufd_py.objects.resource import OpenFile, Resource
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import VfioExtension, VfioIoasOp


class IommufdFile(OpenFile):
    """The open file that objects live in. A program uses its subclass :class:`Iommufd`."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(fd={self._fd})"

    def probe(self) -> dict[str, bool]:
        """Return for each ioctl, by name, whether this kernel has it. The call changes nothing."""
        return uapi.probe(self.fileno())

    @checked
    def dma_cc(self, ioas: "IommufdObject") -> bool:
        """Return whether all HWPTs of *ioas* enforce cache coherency (VFIO_DMA_CC_IOMMU); True without a HWPT.

        The kernel answers for the compatibility IOAS. This call makes *ioas* the compatibility IOAS, asks, and then
        restores the previous one.
        """
        fd = self.fileno()
        check_same_iommufd(self, "dma_cc", ioas=ioas)
        # Signals are held: if *ioas* stayed the compatibility IOAS, it could not be destroyed.
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
        iommufd: the iommufd of the object.
        stands_on: resources that must outlive it. Each of them belongs to *iommufd*, which need not be among them.

    Attributes:
        iommufd: the iommufd of the object.
        id: its number in the iommufd, for use in ioctls.
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
        # The iommufd is open as well, because this object stands on it.
        return self.iommufd._fd

    def _release(self) -> None:
        uapi.destroy(self.iommufd.fileno(), self.id)


def check_same_iommufd(iommufd: IommufdFile, call: str, **others: "IommufdObject | IommufdDevice | None") -> None:
    """Check that the arguments of *call* belong to *iommufd*: their ids mean other objects in another iommufd.

    Raises:
        ArgumentValueError: one belongs to another iommufd.
    """
    for name, other in others.items():
        if other is not None and other.iommufd is not iommufd:
            raise ArgumentValueError(
                f"{call}(): {name} is {other!r} of another iommufd, {other.iommufd!r}, where its id means another "
                f"object: make it on {iommufd!r}"
            )


class IommufdDevice(Resource):
    """A device that an iommufd knows by an id.

    Attributes:
        iommufd: the iommufd of the device.
        dev_id: its object id in the iommufd.
    """

    iommufd: IommufdFile
    dev_id: int
