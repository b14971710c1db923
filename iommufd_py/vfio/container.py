# SPDX-License-Identifier: MIT
"""One Python interface to the five ways in which VFIO gives a device an IO address space.

    with open_container(ContainerMode.VFIO_TYPE1V2, "0000:3b:00.0") as container, DmaBuffer(2 << 20) as buffer:
        mapping = container.map(buffer, 0x1_0000_0000)
        container.device.config.read_int(0, 2)

These lines run in all five modes.
"""

from abc import ABC, abstractmethod
from uuid import UUID

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import DeviceError
from iommufd_py.base.iova import IovaRanges
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.objects.mapping import Mapping
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.enums import MapFlags
from iommufd_py.vfio.pci_device import VfioPciDevice


class Container(Resource, ABC):
    """An IO address space, and the devices that are opened in it. Made by :func:`open_container`."""

    _first: VfioPciDevice | None = None

    @property
    def device(self) -> VfioPciDevice:
        """The PCI device that was opened first.

        Raises:
            DeviceError: none has been opened yet.
        """
        if self._first is None:
            raise DeviceError(f"{self!r} has no PCI device yet: open one with its open_device()")
        return self._first

    def _remember_first(self, device: VfioPciDevice) -> None:
        if self._first is None:
            self._first = device

    @abstractmethod
    def open_device(self, bdf: str, *, vf_token: UUID | str | None = None) -> VfioPciDevice:
        """Open one more device. It reaches all mappings, earlier and later ones.

        *vf_token* is as for :class:`VfioDevice`.
        """

    @checked
    def map(
        self,
        buffer: DmaBuffer,
        iova: int,
        *,
        offset: int = 0,
        length: int | None = None,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> Mapping:
        """Map *length* bytes of *buffer* from *offset* (default: all of it) at *iova*; closing the mapping unmaps it.

        Raises:
            AlreadyMappedError: the IOVA range is taken.
            InvalidFieldError: the range is misaligned, empty or not allowed.
            IommufdError: ENOSPC over dma_entry_limit, ENOMEM over RLIMIT_MEMLOCK.
        """
        size = buffer.length - offset if length is None else length
        buffer.check_range(offset, size)
        return self._map(buffer, iova, offset, size, flags)

    @abstractmethod
    def _map(self, buffer: DmaBuffer, iova: int, offset: int, length: int, flags: MapFlags) -> Mapping:
        """Map a range that is checked already."""

    @abstractmethod
    def map_user_va(self, user_va: int, length: int, iova: int, *, flags: MapFlags = MapFlags.READ_WRITE) -> None:
        """Map memory that this package does not own; the caller keeps the memory present and unmaps it."""

    @abstractmethod
    def unmap(self, iova: int, length: int) -> int:
        """Unmap all mappings that lie wholly in the range and return the bytes unmapped.

        If nothing is mapped, type1 answers 0 bytes, and an IOAS raises ObjectNotFoundError. If a mapping reaches past
        an end of the range, v2 and an IOAS raise. VFIO's v1 then unmaps the whole mapping if its start is in the
        range, and otherwise nothing of it. iommufd's v1 unmaps exactly the range.
        """

    @abstractmethod
    def unmap_all(self) -> int:
        """Unmap everything and return the bytes unmapped."""

    @abstractmethod
    def iova_ranges(self) -> IovaRanges:
        """Return the IOVA ranges that can be mapped, in ascending order, and the alignment."""

    @abstractmethod
    def dma_cc(self) -> bool:
        """Return whether all domains enforce cache coherency (VFIO_DMA_CC_IOMMU)."""

    @abstractmethod
    def mappings_left(self) -> int | None:
        """Return the number of further mappings that the kernel allows; None for no limit.

        VFIO's type1 has dma_entry_limit. The compatibility container has no limit and answers 2^32 - 1.
        """
