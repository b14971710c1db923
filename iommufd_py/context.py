# SPDX-License-Identifier: MIT
"""The iommufd: an open /dev/iommu, and all that lives in it."""

import errno
import os
from pathlib import Path
from typing import Self

from iommufd_py.enums import IommuOption, VfioExtension, VfioIoasOp
from iommufd_py.errors import IommufdError, ToolError
from iommufd_py.ioas import Ioas
from iommufd_py.resource import Resource
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio

__all__ = ["DEV_IOMMU", "Iommufd"]

DEV_IOMMU = Path("/dev/iommu")


class Iommufd(Resource):
    """An open iommufd. Everything made on it is closed with it.

    Raises:
        ToolError: there is no /dev/iommu, or it may not be opened.

    Source: Documentation/userspace-api/iommufd.rst.
    """

    def __init__(self, path: Path = DEV_IOMMU) -> None:
        super().__init__()
        with self._opening():
            self._fd = _open(path)

    @classmethod
    def adopt(cls, fd: int) -> Self:
        """Take over an open iommufd, as one passed by another process; it is closed with the object."""
        self = cls.__new__(cls)
        Resource.__init__(self)
        self._fd = fd
        self._opened()
        return self

    def __repr__(self) -> str:
        return f"Iommufd(fd={self._fd})"

    def fileno(self) -> int:
        """Return the file descriptor."""
        self._check_open()
        return self._fd

    def _release(self) -> None:
        os.close(self._fd)

    def alloc_ioas(self) -> Ioas:
        """Make an empty IOAS."""
        return Ioas(self)

    def change_process(self) -> None:
        """Charge what is pinned to this process, after the iommufd was passed on to it.

        Raises:
            InvalidFieldError: something is mapped that is no file mapping (:meth:`Ioas.map_file`).
        """
        uapi.ioas_change_process(self.fileno())

    def probe(self) -> dict[str, bool]:
        """Tell by name which ioctls this kernel has; nothing is changed."""
        return uapi.probe(self.fileno())

    @property
    def rlimit_mode(self) -> int:
        """How pinned pages are charged: 0 to the user (the default), 1 to the process (IOMMU_OPTION_RLIMIT_MODE)."""
        return uapi.option_get(self.fileno(), IommuOption.RLIMIT_MODE)

    @rlimit_mode.setter
    def rlimit_mode(self, mode: int) -> None:
        uapi.option_set(self.fileno(), IommuOption.RLIMIT_MODE, mode)

    def dma_cc(self, ioas: Ioas) -> bool:
        """Tell whether every HWPT of *ioas* enforces cache coherency: VFIO_DMA_CC_IOMMU; an IOAS without any does.

        The question goes to the compatibility IOAS, which is *ioas* while it is asked and what it was afterwards.
        """
        fd = self.fileno()
        try:
            before: int | None = uapi.vfio_ioas(fd, VfioIoasOp.GET)
        except IommufdError as failure:
            if failure.errno != errno.ENODEV:
                raise
            before = None
        uapi.vfio_ioas(fd, VfioIoasOp.SET, ioas.id)
        try:
            return bool(vfio.check_extension(fd, VfioExtension.DMA_CC_IOMMU))
        finally:
            if before is None:
                uapi.vfio_ioas(fd, VfioIoasOp.CLEAR)
            else:
                uapi.vfio_ioas(fd, VfioIoasOp.SET, before)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ToolError(
            f"there is no {path}: this kernel has no iommufd (CONFIG_IOMMUFD) or its module is not loaded; try "
            "'modprobe iommufd', or 'iommufd lab run -- ...' for a kernel that has it"
        ) from None
    except PermissionError:
        raise ToolError(f"{path} may not be opened: run as root, or with sudo") from None
    except OSError as failure:
        raise ToolError(f"{path} cannot be opened: {failure.strerror}; see the kernel log for why") from failure
