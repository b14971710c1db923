# SPDX-License-Identifier: MIT
"""An emulated VFIO device without an IOMMU: the kernel's sample of a mediated device.

Source: Documentation/driver-api/vfio-mediated-device.rst; samples/vfio-mdev/mtty.c.
"""

from pathlib import Path
from uuid import uuid4

from iommufd_py.base.errors import SkipError, ToolError
from iommufd_py.base.units import counted
from iommufd_py.objects.resource import OpenFile, Resource
from iommufd_py.uapi import vfio
from iommufd_py.vfio.group import VfioGroup
from iommufd_py.vfio.sysfs import MEDIATED_DEVICES

_TYPE = Path("/sys/class/mtty/mtty/mdev_supported_types/mtty-1")


class EmulatedDevice(Resource):
    """A new mtty device; closing it removes the device.

    Attributes:
        uuid: its name, for :class:`MediatedDevice`.
        group: number of its VFIO group.

    Raises:
        SkipError: the kernel does not have the sample driver.
    """

    def __init__(self) -> None:
        super().__init__()
        if not _TYPE.exists():
            raise SkipError(
                "this kernel has no emulated VFIO device: it needs CONFIG_SAMPLE_VFIO_MDEV_MTTY, or 'modprobe mtty'"
            )
        self.uuid = uuid4()
        self._device = MEDIATED_DEVICES / str(self.uuid)
        with self._opening():
            (_TYPE / "create").write_text(str(self.uuid))
        try:
            self.group = int((self._device / "iommu_group").resolve(strict=True).name)
        except BaseException:
            self.close()
            raise

    def _release(self) -> None:
        (self._device / "remove").write_text("1")


class OpenEmulatedDevice(OpenFile):
    """An emulated device that is open in its group, and can pin pages of the container as a device without IOMMU does.

    Closing it unpins the pages. Only the lab's patched kernels have a sample driver that pins.

    Raises:
        SkipError: the sample driver of this kernel cannot pin pages.
    """

    def __init__(self, device: EmulatedDevice, group: VfioGroup) -> None:
        super().__init__(group)
        self._pin = MEDIATED_DEVICES / str(device.uuid) / "vendor" / "pin"
        if not self._pin.exists():
            raise SkipError(
                f"the sample driver mtty cannot pin pages here: {self._pin} needs a patched kernel of the lab"
            )
        with self._opening():
            self._fd = vfio.group_get_device_fd(group.fileno(), str(device.uuid))

    def pin(self, iova: int, count: int) -> None:
        """Unpin the pages of the last call, then pin *count* pages from *iova* on (vfio_pin_pages), at most 512.

        Raises:
            ToolError: the kernel refuses, for example in a container of version 1 of the type1 interface.
        """
        self._check_open()
        try:
            self._pin.write_text(f"{iova:x} {count}")
        except OSError as failure:
            raise ToolError(
                f"{self._pin}: the device cannot pin {counted(count, 'page')} at IOVA {iova:#x}: {failure.strerror}"
            ) from None
