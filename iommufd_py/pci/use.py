# SPDX-License-Identifier: MIT
"""One reason to leave a device alone."""

from dataclasses import dataclass
from enum import StrEnum


class UseKind(StrEnum):
    """What a device is used for."""

    FILE_SYSTEM = "file system"
    SWAP = "swap"
    STORAGE = "storage"
    """Something inside the kernel has it: RAID, LVM, a loop device, a target, a file system mounted elsewhere."""
    NETWORK = "network"
    CONSOLE = "console"
    DISPLAY = "display"
    VIRTUAL_FUNCTIONS = "virtual functions"
    PLATFORM = "platform"
    """It is a part of the machine itself: the host bridge, the bridge to the firmware's devices."""
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Use:
    """One reason to leave a device alone, as a clause: ``/dev/nvme0n1p2 is mounted on /``."""

    kind: UseKind
    text: str
