# SPDX-License-Identifier: MIT
"""Find the users of parts of a device that are neither disks nor interfaces, and that nobody needs to hold open.

Sources: Documentation/driver-api/vfio-mediated-device.rst; Documentation/ABI/testing/sysfs-class-watchdog;
Documentation/ABI/stable/sysfs-driver-dma-idxd.
"""

from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries
from iommufd_py.pci.use import Use, UseKind

_WATCHDOGS = Path("/sys/class/watchdog")


def part_uses(device: Path, watchdogs: Path = _WATCHDOGS) -> Iterator[Use]:
    """Return the users of a device's parts: mediated devices on it, a running watchdog, users of its work queues."""
    for kind in entries(device, "*/mdev_type"):
        # A virtual machine has the VFIO group of the mediated device open, which is not below the device.
        yield Use(UseKind.VIRTUAL_FUNCTIONS, f"the mediated device {kind.parent.name} is on it")
    for watchdog in entries(watchdogs):
        if watchdog.resolve().is_relative_to(device) and attribute_text(watchdog / "state") == "active":
            yield Use(UseKind.PLATFORM, f"its watchdog {watchdog.name} is running, and would reset this machine")
    for clients in entries(device, "*/wq*/clients"):
        if int(attribute_text(clients) or 0):
            yield Use(UseKind.PROCESS, f"its work queue {clients.parent.name} has users")
