# SPDX-License-Identifier: MIT
"""A container that is an iommufd with one IOAS."""

import os
from uuid import UUID

from iommufd_py.base.arguments import checked
from iommufd_py.base.iova import IovaRanges
from iommufd_py.base.signals import held_signals
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.objects.ioas import DmaMapping
from iommufd_py.objects.iommufd import DEV_IOMMU, Iommufd
from iommufd_py.uapi.enums import MapFlags
from iommufd_py.vfio.container import Container
from iommufd_py.vfio.container_file import open_container_file
from iommufd_py.vfio.device import VfioDevice


class IoasContainer(Container):
    """An iommufd with one IOAS, and devices attached to this IOAS through their cdevs.

    Attributes:
        iommufd: closed with the container.
        ioas: holds all mappings.
    """

    @checked
    def __init__(self, bdf: str, *, vf_token: UUID | str | None = None) -> None:
        super().__init__()
        with self._opening():
            descriptor = open_container_file(DEV_IOMMU)
            try:
                self.iommufd = Iommufd.adopt(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        try:
            self.ioas = self.iommufd.alloc_ioas()
            self.open_device(bdf, vf_token=vf_token)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"IoasContainer({self.iommufd!r})"

    def _release(self) -> None:
        self.iommufd.close()

    @checked
    def open_device(self, bdf: str, *, vf_token: UUID | str | None = None) -> VfioDevice:
        """Open one more device and attach it to the IOAS."""
        self._check_open()
        device = None
        try:
            # Signals are held: a device that stays open without an owner could not be opened again.
            with held_signals():
                device = VfioDevice(self.iommufd, bdf, vf_token=vf_token)
                device.attach(self.ioas)
        except BaseException:
            if device is not None:
                device.close()
            raise
        self._remember_first(device)
        return device

    def _map(self, buffer: DmaBuffer, iova: int, offset: int, length: int, flags: MapFlags) -> DmaMapping:
        return self.ioas.map(buffer, iova, offset=offset, length=length, flags=flags)

    @checked
    def map_user_va(self, user_va: int, length: int, iova: int, *, flags: MapFlags = MapFlags.READ_WRITE) -> None:
        self.ioas.map_user_va(user_va, length, iova, flags=flags)

    @checked
    def unmap(self, iova: int, length: int) -> int:
        return self.ioas.unmap(iova, length)

    def unmap_all(self) -> int:
        return self.ioas.unmap_all()

    def iova_ranges(self) -> IovaRanges:
        return self.ioas.iova_ranges()

    def dma_cc(self) -> bool:
        return self.ioas.dma_cc()

    def mappings_left(self) -> None:
        self._check_open()
