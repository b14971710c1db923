# SPDX-License-Identifier: MIT
"""The open file of a VFIO device, which its regions and interrupts use."""

from abc import ABC, abstractmethod

from iommufd_py.base.arguments import checked
from iommufd_py.objects.resource import OpenFile
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import IrqIndex


class VfioFile(OpenFile, ABC):
    """An open VFIO device."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the device in messages: its address or number on its bus."""

    @checked
    def irq_info(self, index: IrqIndex) -> vfio.IrqInfo:
        """Return the number of the device's interrupts of a kind, 0 for none, and their flags."""
        return vfio.device_get_irq_info(self.fileno(), index)
