# SPDX-License-Identifier: MIT
"""An in-kernel user of an IOAS, such as a mediated device: it reads, writes and pins user memory by IOVA."""

import os
import sys

from iommufd_py.base.arguments import check_integer, checked
from iommufd_py.base.errors import ArgumentTypeError, ObjectNotFoundError
from iommufd_py.base.shown import shown
from iommufd_py.base.signals import held_signals
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.object import check_same_iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import iommufd_test
from iommufd_py.uapi.iommufd_test import issue_test_op


class MockAccess(Resource):
    """An in-kernel access to the mappings of an IOAS. It either pins pages, or reads and writes memory.

    Args:
        ioas: the IOAS.
        pins: whether it pins pages.

    Source: iommufd_access_*() in include/linux/iommufd.h, used by drivers/iommu/iommufd/selftest.c.
    """

    @checked
    def __init__(self, ioas: Ioas, *, pins: bool = False) -> None:
        super().__init__(ioas)
        self.ioas = ioas
        flags = iommufd_test.ACCESS_NEEDS_PIN if pins else 0
        with self._opening():
            answer = issue_test_op(ioas._fd(), "CREATE_ACCESS", ioas.id, "create_access", flags=flags)
            self._access_fd = int(answer.create_access.out_access_fd)

    def __repr__(self) -> str:
        return f"MockAccess(ioas={self.ioas.id})"

    def _release(self) -> None:
        os.close(self._access_fd)

    def _fd(self) -> int:
        self._check_open()
        return self.ioas.iommufd.fileno()

    @checked
    def pin(self, iova: int, length: int, user_va: int, *, write: bool = False) -> "AccessPin":
        """Pin the pages of a mapped range; the kernel checks that they are the pages at *user_va*."""
        return AccessPin(self, iova, length, user_va, write)

    def read(self, iova: int, length: int, *, slow_path: bool = False) -> bytes:
        """Read memory by IOVA; *slow_path* makes the kernel copy page by page, as for memory of another process.

        Raises:
            ObjectNotFoundError: a part of the range is not mapped.
            IommufdError: EPERM if the mapping permits no reads.
        """
        data = bytearray(check_integer("MockAccess.read(): length", length, 0, sys.maxsize))
        self._copy(iova, data, iommufd_test.ACCESS_RW_SLOW_PATH if slow_path else 0)
        return bytes(data)

    def write(self, iova: int, data: bytes, *, slow_path: bool = False) -> None:
        """Write memory by IOVA; *slow_path* as for :meth:`read`.

        Raises:
            ArgumentTypeError: *data* is not bytes.
            ObjectNotFoundError: a part of the range is not mapped.
            IommufdError: EPERM if the mapping permits no writes.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ArgumentTypeError(f"MockAccess.write(): data must be bytes, not {shown(data)}")
        slow = iommufd_test.ACCESS_RW_SLOW_PATH if slow_path else 0
        self._copy(iova, bytearray(data), iommufd_test.ACCESS_RW_WRITE | slow)

    def _copy(self, iova: int, data: bytearray, flags: int) -> None:
        iommufd_test.access_rw(self._fd(), self._access_fd, iova, data, flags)

    @checked
    def replace(self, ioas: Ioas) -> None:
        """Change to the mappings of another IOAS. The kernel drops the pins in the old IOAS."""
        ioas._check_open()
        check_same_iommufd(self.ioas.iommufd, "replace", ioas=ioas)
        with held_signals():
            issue_test_op(self._fd(), "ACCESS_REPLACE_IOAS", self._access_fd, "access_replace_ioas", ioas_id=ioas.id)
            self._move(ioas)
            self.ioas = ioas


class AccessPin(Resource):
    """Pages pinned by an access. An unmap of the range unpins them first; then closing this has no effect."""

    @checked
    def __init__(self, access: MockAccess, iova: int, length: int, user_va: int, write: bool) -> None:
        super().__init__(access)
        self.access = access
        self.iova = iova
        self.length = length
        with self._opening():
            answer = issue_test_op(
                access._fd(),
                "ACCESS_PAGES",
                access._access_fd,
                "access_pages",
                flags=iommufd_test.ACCESS_WRITE if write else 0,
                iova=iova,
                length=length,
                uptr=user_va,
            )
            self._pages_id = int(answer.access_pages.out_access_pages_id)

    def __repr__(self) -> str:
        return f"AccessPin(iova={self.iova:#x}, length={self.length})"

    def unpin(self) -> None:
        """Unpin the pages.

        Raises:
            ObjectNotFoundError: an unmap has unpinned them.
        """
        self._check_open()
        with held_signals():
            self._mark_closed()
            self._unpin()

    def _unpin(self) -> None:
        issue_test_op(
            self.access._fd(),
            "DESTROY_ACCESS_PAGES",
            self.access._access_fd,
            "destroy_access_pages",
            access_pages_id=self._pages_id,
        )

    def _release(self) -> None:
        try:
            self._unpin()
        except ObjectNotFoundError:
            return
