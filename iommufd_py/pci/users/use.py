# SPDX-License-Identifier: MIT
"""A user of a device: a reason not to take it."""

from dataclasses import dataclass
from enum import StrEnum


class UseKind(StrEnum):
    """Kind of a device's user."""

    FILE_SYSTEM = "file system"
    SWAP = "swap"
    STORAGE = "storage"
    """A user inside the kernel: RAID, LVM, a loop device, a target, a file system mounted elsewhere."""
    NETWORK = "network"
    CONSOLE = "console"
    DISPLAY = "display"
    VIRTUAL_FUNCTIONS = "virtual functions"
    PLATFORM = "platform"
    """The machine itself needs the device: the host bridge, the bridge to the firmware's devices, an IOMMU."""
    MEMORY = "memory"
    """Memory of this machine that the device provides."""
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Use:
    """A user of a device, as a clause: ``/dev/nvme0n1p2 is mounted on /``."""

    kind: UseKind
    text: str
