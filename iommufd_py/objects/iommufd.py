# SPDX-License-Identifier: MIT
"""The iommufd: an open /dev/iommu."""

import os
from pathlib import Path
from typing import Self

from iommufd_py.base.arguments import check_integer, checked
from iommufd_py.base.device_node import open_node
from iommufd_py.base.errors import ArgumentValueError, ToolError, reason_of
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.objects.fault import FaultQueue
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.object import IommufdFile
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.enums import IommuOption

DEV_IOMMU = Path("/dev/iommu")


class Iommufd(IommufdFile):
    """An open iommufd. Closing it closes every object that was made on it.

    Raises:
        ToolError: there is no /dev/iommu or no permission to open it, or *path* is another file.

    Source: Documentation/userspace-api/iommufd.rst.
    """

    @checked
    def __init__(self, path: Path | str = DEV_IOMMU) -> None:
        super().__init__()
        with self._opening():
            self._fd = _open(Path(path))
            try:
                _check_iommufd(self._fd, str(path))
            except BaseException:
                os.close(self._fd)
                raise

    @classmethod
    @checked
    def adopt(cls, fd: int) -> Self:
        """Take over an open iommufd, such as one that another process passed; it is closed with the object.

        Raises:
            ToolError: *fd* is not an iommufd. It stays open.
        """
        check_integer("Iommufd.adopt(): fd", fd, 0, (1 << 31) - 1)
        _check_iommufd(fd, f"file descriptor {fd}")
        self = cls.__new__(cls)
        Resource.__init__(self)
        self._fd = fd
        self._mark_open()
        return self

    def alloc_ioas(self) -> Ioas:
        """Make an empty IOAS."""
        return Ioas(self)

    def alloc_fault_queue(self) -> FaultQueue:
        """Make a queue for the IO page faults of the HWPTs that are made with it."""
        return FaultQueue(self)

    def change_process(self) -> None:
        """Charge the pinned pages to this process, which took the iommufd over from another one.

        Raises:
            InvalidFieldError: a mapping was not made by :meth:`Ioas.map_file`.
        """
        uapi.ioas_change_process(self.fileno())

    @property
    def rlimit_mode(self) -> int:
        """How pinned pages are charged: 0 to the user (the default), 1 to the process (IOMMU_OPTION_RLIMIT_MODE)."""
        return uapi.option_get(self.fileno(), IommuOption.RLIMIT_MODE)

    @rlimit_mode.setter
    @checked
    def rlimit_mode(self, mode: int) -> None:
        uapi.option_set(self.fileno(), IommuOption.RLIMIT_MODE, mode)


def _check_iommufd(fd: int, name: str) -> None:
    if not uapi.is_iommufd(fd):
        remedy = f"open {DEV_IOMMU}" if name != str(DEV_IOMMU) else "this /dev has another file there (a container?)"
        raise ToolError(f"{name} is not an iommufd: {remedy}")


def _open(path: Path) -> int:
    try:
        return open_node(
            path,
            "this kernel has no iommufd (CONFIG_IOMMUFD) or its module is not loaded; try 'modprobe iommufd', or "
            "'iommufd lab run -- ...' for a kernel that has it",
        )
    except PermissionError:
        raise ToolError(f"no permission to open {path}: {permission_remedy()}") from None
    except OSError as failure:
        raise ToolError(f"{path} cannot be opened: {reason_of(failure)}") from failure
    except ValueError:
        raise ArgumentValueError(f"Iommufd(): path must name a file, not {str(path)!r}") from None
