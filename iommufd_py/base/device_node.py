# SPDX-License-Identifier: MIT
"""The reason for a node that is missing in /dev."""

from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries

_DEV = Path("/dev")
_CHARACTER_DEVICES = Path("/sys/dev/char")


def no_node(node: Path, otherwise: str, devices: Path = _CHARACTER_DEVICES) -> str:
    """Return why *node* does not exist, with the remedy: the kernel has its device, or else *otherwise*.

    Args:
        node: path of the node.
        otherwise: the reason and the remedy if the kernel does not have the device.
        devices: directory of all character devices in sysfs.
    """
    if node.is_relative_to(_DEV):
        line = f"DEVNAME={node.relative_to(_DEV)}"
        if any(line in attribute_text(one / "uevent").split("\n") for one in entries(devices)):
            return (
                f"there is no {node}, although the kernel has the device: this /dev gets no new nodes (a container?); "
                f"pass {node} in, or run: mount -t devtmpfs nodev /dev"
            )
    return f"there is no {node}: {otherwise}"
