# SPDX-License-Identifier: MIT
"""An emulated VFIO device without an IOMMU: the kernel's sample of a mediated device.

Source: Documentation/driver-api/vfio-mediated-device.rst; samples/vfio-mdev/mtty.c.
"""

from pathlib import Path
from uuid import uuid4

from iommufd_py.base.errors import SkipError
from iommufd_py.objects.resource import Resource
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
