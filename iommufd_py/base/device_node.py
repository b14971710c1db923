# SPDX-License-Identifier: MIT
"""Open nodes in /dev, and name the reason for a node that is missing or without a driver."""

import errno
import os
from pathlib import Path

from iommufd_py.base.errors import ToolError
from iommufd_py.base.sysfs import attribute_text, entries

_DEV = Path("/dev")
_CHARACTER_DEVICES = Path("/sys/dev/char")
# A node can be older than the kernel that runs, or made by hand, as in a container: then its number has no driver.
_NO_DEVICE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


class NoNodeError(ToolError):
    """A node is missing in /dev, or the kernel has no driver for it."""


def open_node(node: Path, otherwise: str) -> int:
    """Open a node for reading and writing, and return the descriptor.

    Raises:
        NoNodeError: the node is missing, or has no driver; *otherwise* is as in :func:`no_node`.
        OSError: it cannot be opened for another reason.
    """
    try:
        return os.open(node, os.O_RDWR | os.O_CLOEXEC)
    except OSError as failure:
        if failure.errno in _NO_DEVICE:
            raise NoNodeError(no_node(node, otherwise)) from None
        raise


def no_node(node: Path, otherwise: str, devices: Path = _CHARACTER_DEVICES) -> str:
    """Return why *node* is missing or has no driver, with the remedy: the kernel has its device, or else *otherwise*.

    Args:
        node: path of the node.
        otherwise: the reason and the remedy if the kernel does not have the device.
        devices: directory of all character devices in sysfs.
    """
    missing = (
        f"the number of {node} belongs to no driver of this kernel" if os.path.lexists(node) else f"there is no {node}"
    )
    if node.is_relative_to(_DEV):
        line = f"DEVNAME={node.relative_to(_DEV)}"
        if any(line in attribute_text(one / "uevent").split("\n") for one in entries(devices)):
            return (
                f"{missing}, although the kernel has the device: this /dev gets no new nodes (a container?); "
                f"pass {node} in, or run: mount -t devtmpfs nodev /dev"
            )
    return f"{missing}: {otherwise}"
