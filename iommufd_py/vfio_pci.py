# SPDX-License-Identifier: MIT
"""A PCI device on vfio-pci, however it was opened."""

import os
from pathlib import Path

from iommufd_py.enums import DeviceFeature, DeviceFlags, FeatureOperation, IrqIndex, RegionIndex
from iommufd_py.errors import DeviceError, InvalidFieldError, UnsupportedIoctlError
from iommufd_py.interrupt import Interrupts
from iommufd_py.region import Region
from iommufd_py.resource import Resource
from iommufd_py.uapi import vfio

__all__ = ["PCI_DEVICES", "VfioPciDevice"]

PCI_DEVICES = Path("/sys/bus/pci/devices")


class VfioPciDevice(Resource):
    """What a PCI device on vfio-pci can do, be it opened as cdev (:class:`VfioDevice`) or through its group.

    Attributes:
        bdf: its address, as sysfs writes it.

    Source: Documentation/driver-api/vfio.rst, VFIO_DEVICE_* in include/uapi/linux/vfio.h.
    """

    bdf: str
    _fd: int

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bdf})"

    @property
    def name(self) -> str:
        """The PCI address."""
        return self.bdf

    def fileno(self) -> int:
        """Return the device's file descriptor."""
        self._check_open()
        return self._fd

    def _release(self) -> None:
        os.close(self._fd)

    def info(self) -> vfio.DeviceInfo:
        """Ask what the device is and has."""
        return vfio.device_get_info(self.fileno())

    def reset(self) -> None:
        """Reset the device.

        Raises:
            DeviceError: it has no reset that VFIO may use.
        """
        if not self.info().flags & DeviceFlags.RESET:
            raise DeviceError(
                f"{self.bdf} cannot be reset through VFIO: it has no function-level, power-management or other reset "
                f"method (see {PCI_DEVICES / self.bdf}/reset_method)"
            )
        vfio.device_reset(self.fileno())

    def region(self, index: RegionIndex | int) -> Region:
        """Return a region; one that the device does not have is 0 bytes long."""
        return Region(self, index)

    @property
    def config(self) -> Region:
        """The configuration space, as VFIO virtualizes it."""
        return self.region(RegionIndex.CONFIG)

    def irq_info(self, index: IrqIndex) -> vfio.IrqInfo:
        """Ask how many interrupts of a kind there are, 0 for none, and what can be done with them."""
        return vfio.device_get_irq_info(self.fileno(), index)

    def enable_irqs(self, index: IrqIndex, count: int | None = None) -> Interrupts:
        """Enable *count* (default: all) interrupts of a kind, each with an eventfd of its own."""
        return Interrupts(self, index, count)

    def has_feature(self, feature: DeviceFeature | int, operation: FeatureOperation) -> bool:
        """Tell whether *operation* of *feature* would be possible; nothing is changed."""
        try:
            vfio.device_feature(self.fileno(), feature | operation | FeatureOperation.PROBE)
        # ENOTTY: no such feature; EINVAL: it has not this operation (vfio_check_feature() in include/linux/vfio.h).
        except (UnsupportedIoctlError, InvalidFieldError):
            return False
        return True

    def get_feature(self, feature: DeviceFeature | int, data: bytes) -> bytes:
        """Get a feature; *data* is its structure with the in-fields set, the answer the same with the out-fields."""
        return vfio.device_feature(self.fileno(), feature | FeatureOperation.GET, data)

    def set_feature(self, feature: DeviceFeature | int, data: bytes = b"") -> None:
        """Set a feature; *data* is its structure."""
        vfio.device_feature(self.fileno(), feature | FeatureOperation.SET, data)
