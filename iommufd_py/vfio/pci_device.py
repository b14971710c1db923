# SPDX-License-Identifier: MIT
"""A PCI device on vfio-pci, opened as a cdev or through its group."""

import errno
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntFlag
from uuid import UUID

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import DeviceError, IommufdError, UnsupportedIoctlError
from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.uapi.enums import DeviceFeature, DeviceFlags, RegionIndex
from iommufd_py.uapi.hot_reset import device_get_pci_hot_reset_info, device_pci_hot_reset
from iommufd_py.vfio.dmabuf import RegionDmabuf
from iommufd_py.vfio.generic_device import GenericVfioDevice
from iommufd_py.vfio.region import Region
from iommufd_py.vfio.vf_token import parse_vf_token

# Offset of the command register in the configuration space.
_COMMAND = 0x04


class PciCommand(IntFlag):
    """Bits of a device's command register (PCI Local Bus Specification 3.0, 6.2.2)."""

    MEMORY = 1 << 1
    """The device answers to its memory BARs."""
    BUS_MASTER = 1 << 2
    """The device may do DMA."""


@dataclass(frozen=True, slots=True)
class DependentDevice:
    """A device that a hot reset of another device also resets.

    Attributes:
        bdf: its PCI address.
        owned: whether it belongs to the program that owns the other one.
        group: its IOMMU group; None if the other one is open as a cdev.
    """

    bdf: str
    owned: bool
    group: int | None


class VfioPciDevice(GenericVfioDevice):
    """A PCI device on vfio-pci: the part that is common to :class:`VfioDevice` and :class:`VfioGroupDevice`.

    Attributes:
        bdf: its PCI address as in sysfs.

    Source: Documentation/driver-api/vfio.rst, VFIO_DEVICE_* in include/uapi/linux/vfio.h.
    """

    bdf: str

    @property
    def name(self) -> str:
        """The PCI address."""
        return self.bdf

    def reset(self) -> None:
        """Reset the device.

        Raises:
            DeviceError: the device has no reset method that VFIO may use.
        """
        if not self.info().flags & DeviceFlags.RESET:
            raise DeviceError(
                f"{self.bdf} cannot be reset through VFIO: it has no function-level, power-management or other reset "
                f"method (see {PCI_DEVICES / self.bdf}/reset_method)"
            )
        super().reset()

    def hot_reset_devices(self) -> tuple[DependentDevice, ...]:
        """Return all devices that :meth:`hot_reset` resets, this one among them.

        Raises:
            DeviceError: neither the slot nor the bus can be reset, as on a root bus.
        """
        try:
            found = device_get_pci_hot_reset_info(self.fileno())
        except IommufdError as failure:
            if failure.errno != errno.ENODEV:
                raise
            raise DeviceError(
                f"{self.bdf} has no hot reset: neither its slot nor its bus can be reset, as on a root bus; use reset()"
            ) from None
        return tuple(
            DependentDevice(bdf, self._owns(number), None if found.by_device else number)
            for bdf, number in found.devices
        )

    def hot_reset(self) -> None:
        """Reset the device's slot or bus, with all devices in it. A device without a reset of its own can have this.

        All these devices must be ours: bound to the iommufd of this one, or open through groups of its container.

        Raises:
            DeviceError: the device has no hot reset, or a device beside it is not ours.
        """
        devices = self.hot_reset_devices()
        others = [one.bdf for one in devices if not one.owned]
        if others:
            raise DeviceError(
                f"{self.bdf} cannot have a hot reset, which would also reset {', '.join(others)}: bind these to "
                "vfio-pci and open them with the same iommufd or container first"
            )
        device_pci_hot_reset(self.fileno(), self._proofs({one.group for one in devices if one.group is not None}))

    @abstractmethod
    def _owns(self, number: int | None) -> bool:
        """Tell whether a device beside this one is ours, from its *number* in the kernel's answer."""

    @abstractmethod
    def _proofs(self, groups: Collection[int]) -> Sequence[int]:
        """Return the descriptors that prove the ownership of *groups*."""

    @property
    def config(self) -> Region:
        """The configuration space in VFIO's virtualized form."""
        return self.region(RegionIndex.CONFIG)

    @checked
    def change_command(self, *, set_bits: int = 0, clear_bits: int = 0) -> None:
        """Set and clear bits of the command register, see :class:`PciCommand`."""
        config = self.config
        config.write_int(_COMMAND, config.read_int(_COMMAND, 2) & ~clear_bits | set_bits, 2)

    @checked
    def export_dmabuf(self, index: RegionIndex | int, offset: int = 0, length: int | None = None) -> RegionDmabuf:
        """Export *length* bytes (default: the rest) of a BAR from *offset* as a dma-buf, which other devices can reach.

        Raises:
            DeviceError: the device has no such BAR, this part of it is not whole pages, or the kernel exports none.
        """
        return RegionDmabuf(self.region(index), offset, length)

    @checked
    def set_vf_token(self, token: UUID | str) -> None:
        """Set the token with which users open the virtual functions. It replaces the old token.

        Raises:
            DeviceError: the device is not a physical function of SR-IOV.

        Source: VFIO_DEVICE_FEATURE_PCI_VF_TOKEN in include/uapi/linux/vfio.h.
        """
        uuid = parse_vf_token(token)
        assert uuid is not None
        try:
            self.set_feature(DeviceFeature.PCI_VF_TOKEN, uuid.bytes)
        except UnsupportedIoctlError:
            raise DeviceError(
                f"{self.bdf} is not a physical function with SR-IOV, and only such a function has a token"
            ) from None
