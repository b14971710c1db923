# SPDX-License-Identifier: MIT
"""The ioctls of VFIO that reset a slot or bus of PCI (include/uapi/linux/vfio.h)."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iommufd_py.base.errors import IommufdError
from iommufd_py.uapi.call import issue_pointer
from iommufd_py.uapi.ffi import ffi, lib


@dataclass(frozen=True, slots=True)
class HotResetInfo:
    """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO.

    Attributes:
        by_device: whether the numbers are ids of devices in an iommufd, with 0 for a closed device that shares
            the group of an open one. If not, they are numbers of IOMMU groups.
        devices: PCI address and number of each device that is reset; None for a device of another owner.
    """

    by_device: bool
    devices: tuple[tuple[str, int | None], ...]


def device_get_pci_hot_reset_info(fd: int) -> HotResetInfo:
    """Return the devices that a reset of this device's slot or bus resets."""
    count, header = 1, ffi.sizeof("struct vfio_pci_hot_reset_info")
    while True:
        size = header + count * ffi.sizeof("struct vfio_pci_dependent_device")
        memory = ffi.new("uint64_t[]", (size + 7) // 8)
        arg = ffi.cast("struct vfio_pci_hot_reset_info *", memory)
        arg.argsz = size
        try:
            issue_pointer(fd, "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", arg, {"argsz": size})
        except IommufdError as failure:
            # The kernel needs more room and returns the size.
            if failure.errno == errno.ENOSPC and arg.count > count:
                count = int(arg.count)
                continue
            raise
        by_device = bool(arg.flags & lib.VFIO_PCI_HOT_RESET_FLAG_DEV_ID)
        foreign = lib.VFIO_PCI_DEVID_NOT_OWNED if by_device else None
        found = ((_address(one), int(one.devid)) for one in arg.devices[0 : arg.count])
        return HotResetInfo(by_device, tuple((bdf, None if number == foreign else number) for bdf, number in found))


def device_pci_hot_reset(fd: int, group_fds: Sequence[int] = ()) -> None:
    """Reset the slot or bus of a device. *group_fds* prove that the caller owns the devices; a cdev needs none."""
    size = ffi.sizeof("struct vfio_pci_hot_reset") + 4 * len(group_fds)
    memory = ffi.new("uint64_t[]", (size + 7) // 8)
    arg = ffi.cast("struct vfio_pci_hot_reset *", memory)
    arg.argsz, arg.count = size, len(group_fds)
    for index, group_fd in enumerate(group_fds):
        arg.group_fds[index] = group_fd
    issue_pointer(fd, "VFIO_DEVICE_PCI_HOT_RESET", arg, {"count": len(group_fds), "group_fds": list(group_fds)})


def _address(device: Any) -> str:
    return f"{device.segment:04x}:{device.bus:02x}:{device.devfn >> 3:02x}.{device.devfn & 7}"
