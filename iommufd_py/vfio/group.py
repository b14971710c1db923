# SPDX-License-Identifier: MIT
"""IOMMU groups, /dev/vfio/N: VFIO's older interface to a device, inside a container."""

import errno
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from uuid import UUID

from iommufd_py.base.arguments import checked
from iommufd_py.base.device_node import NoNodeError, open_node
from iommufd_py.base.errors import DeviceError, SkipError, reason_of
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.base.sysfs import entries, target_name
from iommufd_py.objects.resource import OpenFile, Resource
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import GroupFlags
from iommufd_py.vfio.pci_device import VfioPciDevice
from iommufd_py.vfio.sysfs import leaves_dma


class VfioGroup(OpenFile):
    """An IOMMU group in a container. Made by ``container.open_device()``. Closing the last group drops all mappings.

    Args:
        container: the container, which outlives the group.
        container_fd: its file descriptor.
        number: number of the group.
        together: the groups of the container, by number.
        on_close: called with the group before it leaves the container.

    Attributes:
        number: number of the group.
        together: the groups of the container, by number.
    """

    @checked
    def __init__(
        self,
        container: Resource,
        container_fd: int,
        number: int,
        together: Mapping[int, "VfioGroup"],
        on_close: Callable[["VfioGroup"], None],
    ) -> None:
        super().__init__(container)
        self.number = number
        self.together = together
        self._on_close = on_close
        with self._opening():
            self._fd = _open_group(number)
            try:
                if not vfio.group_get_status(self._fd) & GroupFlags.VIABLE:
                    raise DeviceError(f"group {number} is not viable: {_held_by_others(number)}")
                vfio.group_set_container(self._fd, container_fd)
            except BaseException:
                os.close(self._fd)
                raise

    def __repr__(self) -> str:
        return f"VfioGroup({self.number})"

    def status(self) -> GroupFlags:
        """Return whether the group is viable, and whether it is in a container."""
        return vfio.group_get_status(self.fileno())

    def _release(self) -> None:
        try:
            self._on_close(self)
        finally:
            # The group leaves the container when its file is closed and none of its devices is open.
            super()._release()


class VfioGroupDevice(VfioPciDevice):
    """A PCI device bound to vfio-pci, opened through its group. Made by ``container.open_device()``."""

    @checked
    def __init__(self, group: VfioGroup, bdf: str, *, vf_token: UUID | None = None) -> None:
        super().__init__(group)
        self.group = group
        self.bdf = bdf
        with self._opening():
            # vfio_pci_core_match() in drivers/vfio/pci/vfio_pci_core.c reads the token after the address.
            name = bdf if vf_token is None else f"{bdf} vf_token={vf_token}"
            self._fd = vfio.group_get_device_fd(group.fileno(), name)

    def _owns(self, number: int | None) -> bool:
        return number in self.group.together

    def _proofs(self, groups: Collection[int]) -> Sequence[int]:
        return [self.group.together[number].fileno() for number in sorted(groups)]


def _open_group(number: int) -> int:
    node = Path(f"/dev/vfio/{number}")
    made = node.exists()
    try:
        return open_node(
            node,
            "the devices of the group were removed (see the kernel log), or this kernel has no VFIO groups "
            "(CONFIG_VFIO_GROUP)"
            if made
            else "this kernel has no VFIO groups (CONFIG_VFIO_GROUP); use iommufd",
        )
    except NoNodeError as failure:
        raise (DeviceError if made else SkipError)(str(failure)) from None
    except PermissionError:
        raise DeviceError(f"no permission to open {node}: {permission_remedy()}") from None
    except OSError as failure:
        if failure.errno == errno.EBUSY:
            raise DeviceError(
                f"group {number} is in use: it is open already, or one of its devices is open through "
                f"/dev/vfio/devices (fuser -v {node} /dev/vfio/devices/*); close that first"
            ) from None
        raise DeviceError(f"{node} cannot be opened: {reason_of(failure)}") from failure


def _held_by_others(number: int) -> str:
    devices = entries(Path(f"/sys/kernel/iommu_groups/{number}/devices"))
    drivers = {path.name: target_name(path / "driver") for path in devices}
    held = {bdf: driver for bdf, driver in drivers.items() if driver and not leaves_dma(driver)}
    if not held:
        return "another program or driver has just had a device of it; try again, and see the kernel log"
    names = ", ".join(f"{bdf} ({driver})" for bdf, driver in held.items())
    return f"other drivers hold devices of it: {names}; 'iommufd device bind {' '.join(held)}' takes them"
