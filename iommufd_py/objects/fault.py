# SPDX-License-Identifier: MIT
"""Event queues that the kernel fills and a program reads, and the queue of IO page faults."""

import os
import select
from collections.abc import Callable
from dataclasses import dataclass

from iommufd_py.base.arguments import checked, milliseconds
from iommufd_py.base.errors import call_error
from iommufd_py.objects.object import IommufdFile, IommufdObject
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import pack, size_of, unpack
from iommufd_py.uapi.enums import PageFaultPermission, PageResponse

_FAULTS_AT_ONCE = 64


class EventQueue(IommufdObject):
    """A queue of events with its own file descriptor, for poll() and read().

    Args:
        parent: the resource that must outlive the queue.
        iommufd: the iommufd that the queue lives in.
        alloc: issues the ioctl that makes the queue.
    """

    @checked
    def __init__(self, parent: Resource, iommufd: IommufdFile, alloc: Callable[[], uapi.EventQueueIds]) -> None:
        super().__init__(iommufd, parent)
        with self._opening():
            made = alloc()
            self.id = made.object_id
            self._queue_fd = made.fd

    def fileno(self) -> int:
        """Return the queue's file descriptor; it is readable while the queue holds an event."""
        self._check_open()
        return self._queue_fd

    @checked
    def wait(self, timeout: float | None = None) -> bool:
        """Wait for an event, at most *timeout* seconds (None: without limit). Return whether an event came."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(milliseconds("timeout", timeout)))

    def _read_bytes(self, count: int, timeout: float | None) -> bytes:
        """Read up to *count* bytes; return none if no event arrives within *timeout* seconds."""
        if not self.wait(timeout):
            return b""
        try:
            return os.read(self._queue_fd, count)
        except OSError as failure:
            raise call_error(failure, f"read({type(self).__name__})", {"id": self.id, "count": count}) from failure

    def _release(self) -> None:
        # The open file keeps the object alive.
        os.close(self._queue_fd)
        super()._release()


@dataclass(frozen=True, slots=True)
class PageFault:
    """A device's access to a page that is not present. The device waits for the answer.

    Attributes:
        dev_id: the device, as :attr:`BoundDevice.dev_id`.
        pasid: the PASID of the access, None for an access without PASID.
        group: number of the fault group. One answer serves a group: the answer to the fault with *last*.
        last: whether this is the last fault of its group.
        permission: the kind of access: read, write, execute, privileged.
        address: IOVA of the access.
        length: a hint for the number of bytes that the device will access; 0 for no hint.
        cookie: identifies the fault in the answer.

    Source: struct iommu_hwpt_pgfault in include/uapi/linux/iommufd.h.
    """

    dev_id: int
    pasid: int | None
    group: int
    last: bool
    permission: PageFaultPermission
    address: int
    length: int
    cookie: int


class FaultQueue(EventQueue):
    """The queue of the IO page faults of all HWPTs that are made with it. Made by ``iommufd.alloc_fault_queue()``."""

    @checked
    def __init__(self, iommufd: IommufdFile) -> None:
        super().__init__(iommufd, iommufd, lambda: uapi.fault_queue_alloc(iommufd.fileno()))

    @checked
    def read(self, timeout: float | None = None) -> list[PageFault]:
        """Return the faults in the queue. Wait for the first one at most *timeout* seconds (None: without limit)."""
        size = size_of("iommu_hwpt_pgfault")
        data = self._read_bytes(_FAULTS_AT_ONCE * size, timeout)
        return [_page_fault(data, offset) for offset in range(0, len(data), size)]

    @checked
    def respond(self, fault: PageFault, code: PageResponse = PageResponse.SUCCESS) -> None:
        """Answer the group of *fault*.

        Raises:
            InvalidFieldError: no fault with this cookie is waiting.
        """
        answer = pack("iommu_hwpt_page_response", cookie=fault.cookie, code=code)
        try:
            os.write(self.fileno(), answer)
        except OSError as failure:
            raise call_error(failure, "write(FaultQueue)", {"cookie": fault.cookie, "code": code}) from failure


def _page_fault(data: bytes, offset: int) -> PageFault:
    raw = unpack("iommu_hwpt_pgfault", data, offset)
    return PageFault(
        dev_id=int(raw.dev_id),
        pasid=int(raw.pasid) if raw.flags & uapi.PGFAULT_PASID_VALID else None,
        group=int(raw.grpid),
        last=bool(raw.flags & uapi.PGFAULT_LAST_PAGE),
        permission=PageFaultPermission(raw.perm),
        address=int(raw.addr),
        length=int(raw.length),
        cookie=int(raw.cookie),
    )
