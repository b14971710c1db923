# SPDX-License-Identifier: MIT
"""VFIO's older way to a device: through its IOMMU group, /dev/vfio/N, in a container."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from iommufd_py.device import vfio_driver
from iommufd_py.enums import GroupFlags
from iommufd_py.errors import DeviceError, SkipError
from iommufd_py.resource import Resource
from iommufd_py.sysfs import entries, target_name
from iommufd_py.uapi import vfio
from iommufd_py.vfio_pci import PCI_DEVICES, VfioPciDevice

if TYPE_CHECKING:
    from iommufd_py.container import Type1Container

__all__ = ["VfioGroup", "VfioGroupDevice", "iommu_group"]


class VfioGroup(Resource):
    """An IOMMU group in a container. Made by ``container.open_device()``; the last group takes the mappings with it.

    Attributes:
        number: of the group.
    """

    def __init__(self, container: "Type1Container", number: int) -> None:
        super().__init__(container)
        self.container = container
        self.number = number
        with self._opening():
            self._fd = _open_group(number)
            try:
                if not vfio.group_get_status(self._fd) & GroupFlags.VIABLE:
                    raise DeviceError(
                        f"group {number} is not viable: other drivers hold devices of it ({_members(number)}); bind "
                        "each of these to vfio-pci or to no driver"
                    )
                vfio.group_set_container(self._fd, container.fileno())
            except BaseException:
                os.close(self._fd)
                raise

    def __repr__(self) -> str:
        return f"VfioGroup({self.number})"

    def fileno(self) -> int:
        """Return the group's file descriptor."""
        self._check_open()
        return self._fd

    def status(self) -> GroupFlags:
        """Ask whether the group is viable and in a container."""
        return vfio.group_get_status(self.fileno())

    def _release(self) -> None:
        try:
            self.container._leaving(self)
        finally:
            # Closing the group, with its devices closed, is what takes it out of the container.
            os.close(self._fd)


class VfioGroupDevice(VfioPciDevice):
    """A PCI device bound to vfio-pci, opened through its group. Made by ``container.open_device()``."""

    def __init__(self, group: VfioGroup, bdf: str) -> None:
        super().__init__(group)
        self.group = group
        self.bdf = bdf
        with self._opening():
            self._fd = vfio.group_get_device_fd(group.fileno(), bdf)


def iommu_group(bdf: str) -> int:
    """Return the number of the IOMMU group of the device at the normalized address *bdf*.

    Raises:
        DeviceError: no such device, it is not bound to vfio-pci, or it has no group.
    """
    driver = vfio_driver(bdf)
    number = target_name(PCI_DEVICES / bdf / "iommu_group")
    if not number:
        raise DeviceError(f"{bdf} is bound to {driver} but has no IOMMU group: is the IOMMU on (intel_iommu=on)?")
    return int(number)


def _open_group(number: int) -> int:
    node = Path(f"/dev/vfio/{number}")
    try:
        return os.open(node, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SkipError(
            f"there is no {node}: this kernel has no VFIO groups (CONFIG_VFIO_GROUP); use iommufd"
        ) from None
    except PermissionError:
        raise DeviceError(f"{node} may not be opened: run as root, or with sudo") from None
    except OSError as failure:
        if failure.errno == errno.EBUSY:
            raise DeviceError(
                f"group {number} is in use: it is open already, or a device of it is through /dev/vfio/devices "
                f"(fuser -v {node} /dev/vfio/devices/*); close that first"
            ) from None
        raise DeviceError(f"{node} cannot be opened: {failure.strerror}") from failure


def _members(number: int) -> str:
    return ", ".join(path.name for path in entries(Path(f"/sys/kernel/iommu_groups/{number}/devices")))
