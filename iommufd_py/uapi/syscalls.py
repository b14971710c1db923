# SPDX-License-Identifier: MIT
"""System calls besides ioctl() that Python has no name for."""

from collections.abc import Iterator
from contextlib import contextmanager

from iommufd_py.base.errors import check_result
from iommufd_py.uapi.ffi import ffi, lib


def memory_on_node(user_va: int, length: int, node: int) -> None:
    """Have memory that is reserved but not yet there come from one NUMA node (mbind, MPOL_BIND).

    Raises:
        OSError: there is no such node, or this process may have no memory of it.
    """
    arguments = {"start": user_va, "length": length, "node": node}
    check_result(lib.iommufd_uapi_memory_on_node(ffi.cast("void *", user_va), length, node), "mbind", arguments)


@contextmanager
def without_ipc_lock() -> Iterator[None]:
    """Do without CAP_IPC_LOCK in this thread and those it starts: pinned pages count against RLIMIT_MEMLOCK."""
    check_result(lib.iommufd_uapi_set_ipc_lock(False), "capset", {"CAP_IPC_LOCK": "off"})
    try:
        yield
    finally:
        check_result(lib.iommufd_uapi_set_ipc_lock(True), "capset", {"CAP_IPC_LOCK": "on"})
