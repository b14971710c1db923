# SPDX-License-Identifier: MIT
"""A guest's share of a hardware IOMMU: the vIOMMU, its devices, queues and registers."""

import mmap
import sys
from dataclasses import dataclass

from iommufd_py.base.arguments import check_integer, checked
from iommufd_py.base.errors import ToolError, call_error
from iommufd_py.base.units import format_size
from iommufd_py.objects.fault import EventQueue
from iommufd_py.objects.hwpt import Hwpt, invalidate
from iommufd_py.objects.ioas import DmaMapping
from iommufd_py.objects.object import IommufdDevice, IommufdObject, check_same_iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import size_of, unpack
from iommufd_py.uapi.enums import HwptInvalidateType, VEventQueueType, VIommuType

# The structure of the event after its header, by the queue's type (include/uapi/linux/iommufd.h).
_EVENTS = {
    VEventQueueType.ARM_SMMUV3: "iommu_vevent_arm_smmuv3",
    VEventQueueType.TEGRA241_CMDQV: "iommu_vevent_tegra241_cmdqv",
    VEventQueueType.SELFTEST: "iommu_viommu_event_selftest",
}


class VIommu(IommufdObject):
    """A vIOMMU of the IOMMU in front of *device*, over a HWPT with NEST_PARENT. Made by ``device.alloc_viommu()``.

    Attributes:
        parent: the HWPT.
        data: the structure of the vIOMMU's type as the kernel filled it in; empty for a type without one.

    Source: IOMMU_VIOMMU_ALLOC in include/uapi/linux/iommufd.h.
    """

    @checked
    def __init__(self, device: IommufdDevice, parent: Hwpt, viommu_type: VIommuType | int, data: bytes = b"") -> None:
        super().__init__(parent.iommufd, parent)
        self.parent = parent
        answer = bytearray(data)
        with self._opening():
            self.id = uapi.viommu_alloc(self.iommufd.fileno(), viommu_type, device.dev_id, parent.id, answer)
        self.data = bytes(answer)

    @checked
    def alloc_vdevice(self, device: IommufdDevice, virt_id: int) -> "VDevice":
        """Give *device* the id under which the guest knows it."""
        return VDevice(self, device, virt_id)

    @checked
    def alloc_event_queue(self, event_type: VEventQueueType, depth: int) -> "VEventQueue":
        """Make a queue of *depth* events for one type of event."""
        return VEventQueue(self, event_type, depth)

    @checked
    def alloc_hw_queue(
        self, queue_type: int, index: int, mapping: DmaMapping, *, offset: int = 0, length: int | None = None
    ) -> "HwQueue":
        """Give the hardware a ring in the guest's memory: *length* bytes from *offset* of *mapping* (default: all).

        Raises:
            ArgumentValueError: *length* bytes from *offset* are not inside *mapping*.
        """
        length = mapping.length - offset if length is None else length
        mapping.check_range(offset, length)
        return HwQueue(self, queue_type, index, mapping, offset, length)

    @checked
    def invalidate(self, data_type: HwptInvalidateType | int, *entries: bytes) -> int:
        """Drop the IOMMU's cached entries for the guest's devices; arguments as for :meth:`NestedHwpt.invalidate`."""
        return invalidate(self, data_type, entries)

    @checked
    def map_memory(self, offset: int, length: int) -> "VIommuMemory":
        """Map registers that the kernel lends to this vIOMMU. :attr:`data` has their offset and length."""
        return VIommuMemory(self, offset, length)


class VIommuMemory(Resource):
    """Registers of a vIOMMU, mapped into this process. Closing the vIOMMU unmaps them.

    Attributes:
        viommu: the vIOMMU.
        length: bytes.
    """

    @checked
    def __init__(self, viommu: VIommu, offset: int, length: int) -> None:
        super().__init__(viommu)
        self.viommu = viommu
        self.length = length
        check_integer("VIommuMemory(): offset", offset, 0, sys.maxsize)
        check_integer("VIommuMemory(): length", length, 1, sys.maxsize)
        with self._opening():
            try:
                self._memory = mmap.mmap(viommu._fd(), length, offset=offset)
            except OSError as failure:
                raise call_error(failure, "mmap", {"id": viommu.id, "offset": offset, "length": length}) from failure

    def __repr__(self) -> str:
        return f"VIommuMemory({format_size(self.length)} of {self.viommu!r})"

    @property
    def view(self) -> memoryview:
        """The registers; release the view before closing."""
        self._check_open()
        return memoryview(self._memory)

    def _release(self) -> None:
        try:
            self._memory.close()
        except BufferError:
            raise ToolError(f"{self!r} cannot be closed while a view of it exists: release the view first") from None


class VDevice(IommufdObject):
    """A device of a vIOMMU. Made by ``viommu.alloc_vdevice()``.

    Attributes:
        virt_id: its id in the guest: a stream id, or a BDF.
    """

    @checked
    def __init__(self, viommu: VIommu, device: IommufdDevice, virt_id: int) -> None:
        super().__init__(viommu.iommufd, viommu, device)
        check_same_iommufd(self.iommufd, "alloc_vdevice", device=device)
        self.virt_id = virt_id
        with self._opening():
            self.id = uapi.vdevice_alloc(self.iommufd.fileno(), viommu.id, device.dev_id, virt_id)


@dataclass(frozen=True, slots=True)
class VEvent:
    """An event of a vIOMMU.

    Attributes:
        sequence: number of the event, from 0. A gap means lost events.
        data: the structure of the queue's type; None for the marker that the latest events were lost.
    """

    sequence: int
    data: bytes | None


class VEventQueue(EventQueue):
    """The queue of a vIOMMU's events of one type. Made by ``viommu.alloc_event_queue()``."""

    @checked
    def __init__(self, viommu: VIommu, event_type: VEventQueueType, depth: int) -> None:
        self._event_bytes = size_of(_EVENTS[event_type])
        super().__init__(viommu, viommu.iommufd, lambda: uapi.veventq_alloc(viommu._fd(), viommu.id, event_type, depth))

    @checked
    def read(self, timeout: float | None = None) -> list[VEvent]:
        """Return the events in the queue. Wait for the first one at most *timeout* seconds (None: without limit)."""
        data = self._read_bytes(mmap.PAGESIZE, timeout)
        events, offset = [], 0
        while offset < len(data):
            header = unpack("iommufd_vevent_header", data, offset)
            offset += size_of("iommufd_vevent_header")
            if header.flags & uapi.VEVENT_LOST_EVENTS:
                events.append(VEvent(int(header.sequence), None))
                continue
            events.append(VEvent(int(header.sequence), data[offset : offset + self._event_bytes]))
            offset += self._event_bytes
        return events


class HwQueue(IommufdObject):
    """A ring in the guest's memory that the hardware reads directly. Made by ``viommu.alloc_hw_queue()``."""

    @checked
    def __init__(
        self, viommu: VIommu, queue_type: int, index: int, mapping: DmaMapping, offset: int, length: int
    ) -> None:
        super().__init__(viommu.iommufd, viommu, mapping)
        check_same_iommufd(self.iommufd, "alloc_hw_queue", mapping=mapping.ioas)
        self.index = index
        with self._opening():
            self.id = uapi.hw_queue_alloc(
                self.iommufd.fileno(), viommu.id, queue_type, index, mapping.iova + offset, length
            )
