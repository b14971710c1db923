# SPDX-License-Identifier: MIT
"""The character device of VFIO: a PCI device bound to an iommufd."""

import errno
import os
from pathlib import Path
from uuid import UUID

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import DeviceError
from iommufd_py.base.pci_address import normalize_bdf
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.uapi import vfio
from iommufd_py.vfio.pci_device import VfioPciDevice
from iommufd_py.vfio.sysfs import NOIOMMU_PREFIX, find_cdev
from iommufd_py.vfio.vf_token import parse_vf_token


class VfioDevice(VfioPciDevice, BoundDevice):
    """A PCI device bound to vfio-pci, through /dev/vfio/devices/vfioN. Closing it unbinds it from the iommufd.

    Args:
        iommufd: the iommufd to bind the device to.
        bdf: PCI address, with or without the domain: ``0000:3b:00.0``, ``3b:00.0``.
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
        with self._opening():
            self._fd = _open_cdev(self.cdev, self.bdf)
            try:
                self.dev_id = vfio.device_bind_iommufd(self._fd, iommufd.fileno(), token.bytes if token else None)
            except BaseException:
                os.close(self._fd)
                raise

    @property
    def noiommu(self) -> bool:
        """Whether the device has no IOMMU. Its DMA then uses the addresses of :meth:`Ioas.noiommu_address`."""
        return self.cdev.name.startswith(NOIOMMU_PREFIX)

    def _attach(self, pt_id: int, pasid: int | None) -> int:
        return vfio.device_attach_iommufd_pt(self._fd, pt_id, pasid)

    def _detach(self, pasid: int | None) -> None:
        vfio.device_detach_iommufd_pt(self._fd, pasid)


def _open_cdev(cdev: Path, bdf: str) -> int:
    try:
        return os.open(cdev, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        raise DeviceError(f"no permission to open {cdev} of {bdf}: run as root, or with sudo") from None
    except OSError as failure:
        if failure.errno == errno.EBUSY:
            raise DeviceError(f"{bdf} is in use: another process has it open (fuser -v {cdev})") from None
        raise DeviceError(f"{cdev} of {bdf} cannot be opened: {failure.strerror}") from failure
