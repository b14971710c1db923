# SPDX-License-Identifier: MIT
"""IOMMU_TEST_CMD: the operations of the kernel's own mock driver (drivers/iommu/iommufd/iommufd_test.h)."""

from collections.abc import Mapping
from typing import Any

from iommufd_py.base.arguments import check_integer
from iommufd_py.base.errors import check_result
from iommufd_py.uapi import call
from iommufd_py.uapi.call import address_of, submit
from iommufd_py.uapi.ffi import ffi, lib

APERTURE_START: int = lib.MOCK_APERTURE_START
APERTURE_LAST: int = lib.MOCK_APERTURE_LAST
PAGE_BYTES: int = lib.MOCK_PAGE_SIZE
HUGE_PAGE_BYTES: int = lib.MOCK_HUGE_PAGE_SIZE
PASID_WIDTH: int = lib.MOCK_PASID_WIDTH
PASID_RESERVED: int = lib.IOMMU_TEST_PASID_RESERVED
IOTLB_ENTRIES: int = lib.MOCK_NESTED_DOMAIN_IOTLB_NUM
IOTLB_DEFAULT: int = lib.IOMMU_TEST_IOTLB_DEFAULT
DEVICE_CACHE_ENTRIES: int = lib.MOCK_DEV_CACHE_NUM
DEVICE_CACHE_DEFAULT: int = lib.IOMMU_TEST_DEV_CACHE_DEFAULT
INVALIDATE_ALL: int = lib.IOMMU_TEST_INVALIDATE_FLAG_ALL
ACCESS_NEEDS_PIN: int = lib.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES
ACCESS_WRITE: int = lib.MOCK_FLAGS_ACCESS_WRITE
ACCESS_RW_WRITE: int = lib.MOCK_ACCESS_RW_WRITE
ACCESS_RW_SLOW_PATH: int = lib.MOCK_ACCESS_RW_SLOW_PATH
_BYTES = ffi.sizeof("struct iommu_test_cmd")


def issue_test_op(fd: int, operation: str, object_id: int = 0, member: str = "", /, **fields: object) -> Any:
    """Issue ``IOMMU_TEST_OP_<operation>`` on *object_id* with *fields* in the union's *member*.

    Returns:
        The whole ``struct iommu_test_cmd`` after the call. Keep it while you use a member of it.
    """
    return _issue(fd, operation, object_id, member, fields)[1]


def command_result(fd: int, operation: str, object_id: int, member: str, /, **fields: object) -> int:
    """Issue the operation as :func:`issue_test_op` does, and return the result of ioctl()."""
    return _issue(fd, operation, object_id, member, fields)[0]


def access_rw(fd: int, access_id: int, iova: int, data: bytearray, flags: int) -> None:
    """Make an access read memory by IOVA into *data*, or write *data* there (``ACCESS_RW_WRITE`` in *flags*)."""
    address = ffi.from_buffer(data, require_writable=True)
    if call.observer is not None:
        arguments = {"iova": iova, "length": len(data), "uptr": address_of(address), "flags": flags}
        _issue(fd, "ACCESS_RW", access_id, "access_rw", arguments)
        return
    iova = check_integer("IOMMU_TEST_CMD ACCESS_RW: iova", iova)
    result = lib.iommufd_uapi_access_rw(fd, access_id, iova, address, len(data), flags)
    if result < 0:
        arguments = {"id": access_id, "iova": iova, "length": len(data), "flags": flags}
        check_result(result, "IOMMU_TEST_CMD ACCESS_RW", arguments)


def _issue(fd: int, operation: str, object_id: int, member: str, fields: Mapping[str, object]) -> tuple[int, Any]:
    arg = ffi.new("struct iommu_test_cmd *")
    arg.size = _BYTES
    arg.op = getattr(lib, f"IOMMU_TEST_OP_{operation}")
    shown, arguments = f"IOMMU_TEST_CMD {operation}", {"id": object_id, **fields}
    call.fill(shown, arg, {"id": object_id})
    if fields:
        call.fill(shown, getattr(arg, member), fields)
    return check_result(submit(fd, "IOMMU_TEST_CMD", arg, arguments, shown), shown, arguments), arg
