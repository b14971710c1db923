# SPDX-License-Identifier: MIT
"""IOMMU_TEST_CMD: the operations of the kernel's own mock driver (drivers/iommu/iommufd/iommufd_test.h)."""

from typing import Any

from iommufd_py.errors import check
from iommufd_py.ffi import ffi, lib
from iommufd_py.uapi.call import request

__all__ = ["command"]


def command(fd: int, operation: str, object_id: int = 0, member: str = "", /, **fields: object) -> Any:
    """Issue ``IOMMU_TEST_OP_<operation>`` on *object_id* with *fields* in the union's *member*.

    Returns:
        The whole ``struct iommu_test_cmd`` as the kernel left it; its members only live as long as it does.
    """
    arg = ffi.new("struct iommu_test_cmd *")
    arg.size = ffi.sizeof(arg[0])
    arg.op = getattr(lib, f"IOMMU_TEST_OP_{operation}")
    arg.id = object_id
    for name, value in fields.items():
        setattr(getattr(arg, member), name, value)
    result = lib.iommufd_uapi_ioctl(fd, request("IOMMU_TEST_CMD"), arg)
    check(result, f"IOMMU_TEST_CMD {operation}", {"id": object_id, **fields})
    return arg
