# SPDX-License-Identifier: MIT
"""The character devices of VFIO, /dev/vfio/devices/vfioN: devices bound to an iommufd."""

import errno
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from uuid import UUID

from iommufd_py.base.arguments import checked
from iommufd_py.base.device_node import NoNodeError, open_node
from iommufd_py.base.errors import DeviceError, reason_of
from iommufd_py.base.pci_address import normalize_bdf
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.uapi import vfio
from iommufd_py.vfio.file import VfioFile
from iommufd_py.vfio.generic_device import GenericVfioDevice
from iommufd_py.vfio.pci_device import VfioPciDevice
from iommufd_py.vfio.sysfs import NOIOMMU_PREFIX, find_cdev, find_mediated_cdev
from iommufd_py.vfio.vf_token import parse_vf_token


class CdevDevice(VfioFile, BoundDevice):
    """The file of a character device: the part that is common to :class:`VfioDevice` and :class:`MediatedDevice`.

    Attributes:
        cdev: path of the character device.
    """

    cdev: Path

    def _open_and_bind(self, token: UUID | None = None) -> None:
        """Open the character device and bind it to the iommufd."""
        with self._opening():
            self._fd = _open_cdev(self.cdev, self.name)
            try:
                fd = self.iommufd.fileno()
                self.dev_id = vfio.device_bind_iommufd(self._fd, fd, token.bytes if token else None)
            except BaseException:
                os.close(self._fd)
                raise

    def _attach(self, pt_id: int, pasid: int | None) -> int:
        return vfio.device_attach_iommufd_pt(self._fd, pt_id, pasid)

    def _detach(self, pasid: int | None) -> None:
        vfio.device_detach_iommufd_pt(self._fd, pasid)


class VfioDevice(VfioPciDevice, CdevDevice):
    """A PCI device bound to vfio-pci, through /dev/vfio/devices/vfioN. Closing it unbinds it from the iommufd.

    Args:
        iommufd: the iommufd to bind the device to.
        bdf: PCI address, with or without the segment: ``0000:3b:00.0``, ``3b:00.0``.
        vf_token: if the device is a virtual function whose physical function is on vfio-pci, the token that the owner
            of the physical function has set. If the device is the physical function, the token to set.

    Raises:
        DeviceError: there is no such device, another driver has it, or there is no permission to open the cdev.
        IommufdError: VFIO_DEVICE_BIND_IOMMUFD failed.

    Source: Documentation/driver-api/vfio.rst, "VFIO Device cdev".
    """

    @checked
    def __init__(self, iommufd: Iommufd, bdf: str, *, vf_token: UUID | str | None = None) -> None:
        super().__init__(iommufd)
        self.bdf = normalize_bdf(bdf)
        token = parse_vf_token(vf_token)
        self.cdev = find_cdev(self.bdf)
        self._open_and_bind(token)

    @property
    def noiommu(self) -> bool:
        """Whether the device has no IOMMU. Its DMA then uses the addresses of :meth:`Ioas.noiommu_address`."""
        return self.cdev.name.startswith(NOIOMMU_PREFIX)

    def _owns(self, number: int | None) -> bool:
        return number is not None

    def _proofs(self, groups: Collection[int]) -> Sequence[int]:
        return ()


class MediatedDevice(GenericVfioDevice, CdevDevice):
    """A mediated device: a driver emulates it, and reads and writes memory through an IOAS without an IOMMU.

    It can be attached to an IOAS, but to no HWPT. Closing it unbinds it from the iommufd.

    Args:
        iommufd: the iommufd to bind the device to.
        uuid: its name in /sys/bus/mdev/devices.

    Raises:
        DeviceError: there is no such device, or there is no permission to open the cdev.
        IommufdError: VFIO_DEVICE_BIND_IOMMUFD failed.

    Source: Documentation/driver-api/vfio-mediated-device.rst.
    """

    @checked
    def __init__(self, iommufd: Iommufd, uuid: UUID) -> None:
        super().__init__(iommufd)
        self.uuid = uuid
        self.cdev = find_mediated_cdev(uuid)
        self._open_and_bind()

    @property
    def name(self) -> str:
        """The UUID."""
        return str(self.uuid)


def _open_cdev(cdev: Path, name: str) -> int:
    try:
        return open_node(cdev, "the device was removed; see the kernel log")
    except NoNodeError as failure:
        raise DeviceError(f"{name} cannot be opened: {failure}") from None
    except PermissionError:
        raise DeviceError(f"no permission to open {cdev} of {name}: {permission_remedy()}") from None
    except OSError as failure:
        if failure.errno == errno.EBUSY:
            raise DeviceError(f"{name} is in use: another process has it open (fuser -v {cdev})") from None
        raise DeviceError(f"{cdev} of {name} cannot be opened: {reason_of(failure)}") from failure
