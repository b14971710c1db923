# SPDX-License-Identifier: MIT
"""A lock for each PCI address: one process at a time has a device, until it gives the device back."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.errors import DeviceError
from iommufd_py.base.signals import held_signals
from iommufd_py.base.sysfs import attribute_text
from iommufd_py.pci import state

_LOCKS = Path("/proc/locks")
# A process that was killed can have children that hold its lock until they have ended.
_PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.02

_held: dict[str, int] = {}


class DeviceTakenError(DeviceError):
    """Another process of this tool has the device now."""


@contextlib.contextmanager
def device_lock(address: str) -> Iterator[None]:
    """Hold the lock of a device. A process can nest it, and a process that the holder started passes.

    Raises:
        DeviceTakenError: another process has the device; the text names it.
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
    """Return the descriptors of the locks that this process holds: they stay open while it has the devices."""
    return frozenset(_held.values())


def _acquire(descriptor: int, address: str) -> bool:
    """Return True for a lock that is ours now, False for one that a parent of this process holds."""
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
            raise DeviceTakenError(f"{address} is taken by {who} now: wait for its end, or end it first")
        time.sleep(_POLL_SECONDS)


def parse_holder(locks: str, inode: int) -> int:
    """Return the process that holds a flock() on a file, by /proc/locks; 0 where that does not tell.

    Source: lock_get_status() in fs/locks.c. The device number before the inode is that of the file system, which is
    not what stat(2) says on an overlay.
    """
    for line in locks.splitlines():
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            return max(int(words[4]), 0)
    return 0


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid:
        yield pid
        # The command's name, in parentheses, can contain anything.
        fields = attribute_text(Path("/proc", str(pid), "stat")).rpartition(")")[2].split()
        pid = int(fields[1]) if len(fields) > 1 else 0
