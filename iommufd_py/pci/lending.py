# SPDX-License-Identifier: MIT
"""A lock for each PCI address: one process at a time holds a device, until it gives the device back."""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.errors import DeviceError
from iommufd_py.base.signals import held_signals
from iommufd_py.base.sysfs import attribute_text, process_fields
from iommufd_py.pci import state

_LOCKS = Path("/proc/locks")
# The children of a killed process hold its lock until they end.
_PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.02

_held: dict[str, int] = {}


class DeviceTakenError(DeviceError):
    """Another process of this tool holds the device."""


@contextlib.contextmanager
def device_lock(address: str) -> Iterator[None]:
    """Hold the lock of a device during the block. Blocks may nest, also in processes that the holder starts.

    Raises:
        DeviceTakenError: another process holds the device; the text names it.
    """
    if address in _held:
        yield
        return
    mine = False
    try:
        with held_signals():
            descriptor = state.open_lock(address)
            try:
                mine = _acquire(descriptor, address)
            finally:
                if mine:
                    _held[address] = descriptor
                else:
                    os.close(descriptor)
        yield
    finally:
        if mine:
            os.close(_held.pop(address))


def lock_descriptors() -> frozenset[int]:
    """Return the descriptors of the locks that this process holds. They stay open while it holds the devices."""
    return frozenset(_held.values())


def _acquire(descriptor: int, address: str) -> bool:
    """Return True if this process now holds the lock, False if a parent of this process holds it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
        holder = parse_holder(_LOCKS.read_text(), os.fstat(descriptor).st_ino)
        if holder and holder in _ancestors():
            return False
        if time.monotonic() >= deadline:
            name = attribute_text(Path("/proc", str(holder), "comm")) if holder else ""
            who = f"{name or 'a process'} (process {holder})" if holder else "a process outside of this container"
            raise DeviceTakenError(f"{address} is held by {who}: end that process, or wait for its end")
        time.sleep(_POLL_SECONDS)


def parse_holder(locks: str, inode: int) -> int:
    """Return the process that holds a flock() on a file, from /proc/locks; 0 if the file does not show it.

    Source: lock_get_status() in fs/locks.c. The device number before the inode is that of the file system. On an
    overlay, stat(2) returns another number.
    """
    lock = re.compile(rf"\d+: FLOCK +\S+ +\S+ +(-?[0-9]{{1,10}}) +\S+:{inode} .*", re.ASCII)
    holders = (int(match[1]) for line in locks.splitlines() if (match := lock.fullmatch(line)))
    return max(next(holders, 0), 0)


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid:
        yield pid
        fields = process_fields(pid)
        pid = int(fields[1]) if len(fields) > 1 else 0
