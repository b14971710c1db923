# SPDX-License-Identifier: MIT
"""System calls for which Python has no function, except ioctl()."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iommufd_py.base.errors import check_result
from iommufd_py.base.sysfs import kernel_text
from iommufd_py.uapi.ffi import ffi, lib

_UID_MAP = Path("/proc/thread-self/uid_map")
# The uid_map of the initial user namespace: every user id maps to itself (user_namespaces(7)).
_FIRST_NAMESPACE = ["0", "0", "4294967295"]

MAX_NODE = 1023
"""The highest supported number of a NUMA node."""


def memory_on_node(user_va: int, length: int, node: int) -> None:
    """Let the kernel allocate the pages of a range that are not present yet from one NUMA node (mbind, MPOL_BIND).

    Raises:
        OSError: there is no such node, or this process may have no memory of it.
    """
    arguments = {"start": user_va, "length": length, "node": node}
    check_result(lib.iommufd_uapi_memory_on_node(ffi.cast("void *", user_va), length, node), "mbind", arguments)


@contextmanager
def without_ipc_lock() -> Iterator[None]:
    """Drop CAP_IPC_LOCK during the block, in this thread and the threads that it starts; then restore it.

    Without the capability, pinned pages count against RLIMIT_MEMLOCK.
    """
    before = has_ipc_lock()
    try:
        if before:
            check_result(lib.iommufd_uapi_set_ipc_lock(False), "capset", {"CAP_IPC_LOCK": "off"})
        yield
    finally:
        if before:
            check_result(lib.iommufd_uapi_set_ipc_lock(True), "capset", {"CAP_IPC_LOCK": "on"})


def has_ipc_lock() -> bool:
    """Return whether CAP_IPC_LOCK is in effect in this thread."""
    return bool(check_result(lib.iommufd_uapi_ipc_lock(), "capget", {}))


def pages_are_charged() -> bool:
    """Return whether the kernel charges pinned pages of this thread against RLIMIT_MEMLOCK.

    A thread with CAP_IPC_LOCK in the initial user namespace is not charged: capable(CAP_IPC_LOCK) in
    iopt_alloc_pages() of drivers/iommu/iommufd/pages.c. Root of another user namespace has the capability only there.
    """
    return not (has_ipc_lock() and _in_first_namespace())


def _in_first_namespace() -> bool:
    try:
        return kernel_text(_UID_MAP).split() == _FIRST_NAMESPACE
    except FileNotFoundError:  # A kernel without CONFIG_USER_NS, such as the lab's, has one namespace only.
        return True
