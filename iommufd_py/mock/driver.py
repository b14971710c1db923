# SPDX-License-Identifier: MIT
"""Requests that only the mock driver has: faults on demand, and checks of its state."""

import os

from iommufd_py.base.arguments import checked
from iommufd_py.base.coherency import Coherency, FlushCount
from iommufd_py.base.errors import InvalidFieldError, NotSupportedError, ObjectNotFoundError, UnsupportedIoctlError
from iommufd_py.mock.device import make_device
from iommufd_py.objects.dirty import DirtyBitmap
from iommufd_py.objects.dmabuf import Dmabuf
from iommufd_py.objects.hwpt import Hwpt, NestedHwpt
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.uapi.call import address_of_buffer
from iommufd_py.uapi.enums import MockDeviceFlags
from iommufd_py.uapi.iommufd_test import command_result, issue_test_op

# The numbers of iommufd's objects begin with 1.
_NO_OBJECT = 0
# TEMP_MEMORY_LIMIT in drivers/iommu/iommufd/pages.c.
_MEMORY_LIMIT = 65536


@checked
def add_reserved(ioas: Ioas, start: int, length: int) -> None:
    """Reserve a range of *ioas*, as a reserved region of a device does."""
    issue_test_op(ioas._fd(), "ADD_RESERVED", ioas.id, "add_reserved", start=start, length=length)


@checked
def check_map(iommufd: Iommufd, hwpt_id: int, iova: int, length: int, user_va: int) -> None:
    """Make the kernel check that a mock HWPT translates each page to the page at *user_va*; EINVAL if not."""
    issue_test_op(iommufd.fileno(), "MD_CHECK_MAP", hwpt_id, "check_map", iova=iova, length=length, uptr=user_va)


@checked
def check_refs(iommufd: Iommufd, user_va: int, length: int, pins: int) -> None:
    """Make the kernel check that each page from *user_va* is pinned *pins* times; EIO if not.

    The kernel skips huge pages.
    """
    issue_test_op(iommufd.fileno(), "MD_CHECK_REFS", 0, "check_refs", length=length, uptr=user_va, refs=pins)


@checked
def check_iotlb(nested: NestedHwpt, index: int, value: int) -> None:
    """Make the kernel check that an entry of the HWPT's IOTLB holds *value*; EINVAL if not."""
    issue_test_op(nested._fd(), "MD_CHECK_IOTLB", nested.id, "check_iotlb", id=index, iotlb=value)


@checked
def limit_memory(iommufd: Iommufd, byte_limit: int | None) -> None:
    """Limit the batches in which the kernel handles the pages of *all* iommufds to *byte_limit*; None restores 64K."""
    limit = _MEMORY_LIMIT if byte_limit is None else byte_limit
    issue_test_op(iommufd.fileno(), "SET_TEMP_MEMORY_LIMIT", 0, "memory_limit", limit=limit)


@checked
def set_dirty(hwpt: Hwpt, pages: DirtyBitmap) -> int:
    """Make the mock IOMMU mark the pages that are dirty in *pages* as written. Return their number."""
    bits = bytearray(pages.bits)
    answer = issue_test_op(
        hwpt._fd(),
        "DIRTY",
        hwpt.id,
        "dirty",
        iova=pages.iova,
        length=pages.length,
        page_size=pages.page_bytes,
        uptr=address_of_buffer(bits),
    )
    return int(answer.dirty.out_nr_dirty)


class MockDmabuf(Dmabuf):
    """A dma-buf of the mock driver, whose memory the driver can revoke."""

    @checked
    def __init__(self, iommufd: Iommufd, length: int) -> None:
        super().__init__(length, iommufd)
        self._iommufd = iommufd
        fd = iommufd.fileno()
        # Linux 7.3.4 makes the descriptor but returns 0. The descriptor is then the lowest free number.
        lowest_free = os.dup(fd)
        os.close(lowest_free)
        with self._opening():
            made = command_result(fd, "DMABUF_GET", 0, "dmabuf_get", length=length, open_flags=os.O_CLOEXEC)
            self.fd = made or lowest_free

    @checked
    def revoke(self, revoked: bool = True) -> None:
        """Revoke the memory, or restore it if *revoked* is false."""
        issue_test_op(
            self._iommufd.fileno(), "DMABUF_REVOKE", 0, "dmabuf_revoke", dmabuf_fd=self.fileno(), revoked=revoked
        )


@checked
def flush_count(iommufd: Iommufd) -> FlushCount | None:
    """Return the count of the kernel's flushes for all iommufds; None for a kernel that does not count, such as stock.

    Source: IOMMU_TEST_OP_CACHE_FLUSH_COUNT, iommufd_py/lab/patches/README.md; counts for real devices too.
    """
    try:
        answer = issue_test_op(iommufd.fileno(), "CACHE_FLUSH_COUNT", 0, "cache_flush_count", flags=0)
    except (NotSupportedError, UnsupportedIoctlError):
        return None
    return FlushCount(int(answer.cache_flush_count.out_calls), int(answer.cache_flush_count.out_pages))


@checked
def mock_makes(iommufd: Iommufd, flags: MockDeviceFlags) -> bool:
    """Return whether the running kernel's mock driver makes devices with these *flags*.

    No device is made: the driver checks the flags before it looks for the object to attach to, and there is none. So a
    kernel that refuses the attach of each device is not taken for one without the flags.
    """
    try:
        make_device(iommufd.fileno(), _NO_OBJECT, flags)
    except ObjectNotFoundError:
        return True
    except InvalidFieldError:
        return False
    raise AssertionError("the kernel attached a mock device to no object")


@checked
def mock_flags(iommufd: Iommufd, coherency: Coherency) -> MockDeviceFlags:
    """Return the flags of a mock device whose domains have this *coherency*.

    Only a kernel with the flush series makes coherent mock devices; any other kernel makes non-coherent ones.
    """
    if coherency is Coherency.COHERENT and flush_count(iommufd) is not None:
        return MockDeviceFlags.COHERENT
    return MockDeviceFlags(0)
