# SPDX-License-Identifier: MIT
"""The base class of all DMA engines: a driver that lets a device read and write memory at an IOVA."""

import contextlib
from dataclasses import dataclass
from typing import ClassVar, Protocol

from iommufd_py.base.arguments import check_integer
from iommufd_py.base.errors import ArgumentValueError, DmaError, SkipError
from iommufd_py.base.iova import IovaRange, IovaRanges
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.objects.mapping import Mapping
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.enums import IrqIndex, MapFlags, RegionIndex
from iommufd_py.vfio.pci_device import PciCommand, VfioPciDevice

# A device is healthy when it answers within the time that the kernel's NVMe driver waits. The thread of an emulated
# device can stand still for seconds.
COMPLETION_SECONDS = 30.0

MOST_PASID = (1 << 20) - 1
"""The highest PASID that PCI Express permits."""


class AddressSpace(Protocol):
    """The address space of a device's DMA: the Ioas that it is attached to, or its Container of any mode."""

    def map(
        self,
        buffer: DmaBuffer,
        iova: int,
        *,
        offset: int = 0,
        length: int | None = None,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> Mapping:
        """Map part of a buffer at an IOVA."""

    def iova_ranges(self) -> IovaRanges:
        """Return the IOVA ranges in which mappings are possible."""

    def dma_cc(self) -> bool:
        """Return whether every domain of this space makes DMA snoop the CPU caches."""


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """Limits of one transfer.

    Attributes:
        max_bytes: maximum length; 0 for an engine that has no such transfer.
        granule: lengths are multiples of this many bytes.
        alignment: IOVAs are multiples of this many bytes.
    """

    max_bytes: int
    granule: int
    alignment: int

    def fit(self, length: int) -> int:
        """Return the longest allowed transfer of at most *length* bytes."""
        return min(length, self.max_bytes) // self.granule * self.granule


class DmaEngine(Resource):
    """A driver that lets a device read and write memory. Closing it stops the device and disables its DMA.

    The engine keeps one page or more of its own memory mapped, for queues and for data to check the device with. Each
    subclass drives the devices that its *ids* or *class_code* name.

    Args:
        device: the open device.
        space: the address space of the device's DMA.
        iova: IOVA of the engine's own memory; default: the highest that the device reaches.
        interrupt: wait for completions by an interrupt instead of polling.
        pasid: the PASID that all DMA of the engine carries; *space* is what this PASID is attached to. None for DMA
            without a PASID.

    Attributes:
        ids: ``vendor:device`` of the devices of this driver, hexadecimal.
        class_code: first digits of the class code of such a device, hexadecimal; empty for none.
        memory_bytes: size of the engine's own memory.
        register_bytes: size of the mapped part of BAR0; None for all of it.
        interrupt_kind: kind of the interrupt for completions.
        interrupt_vector: vector of the interrupt for completions.
        has_pasids: whether the DMA of the engine can carry a PASID.
        address_mask: highest IOVA that the device can put on the bus.
        writes: limits of one write by the device to memory.
        reads: limits of one read by the device from memory.
        memory: the mapping of the engine's own memory. Before the device moves to another IOAS, copy it there.
        snooped: whether the domain made DMA snoop the CPU caches when the engine started. If not, the engine flushes
            its own memory before the device reads it, and before the CPU reads it.

    Raises:
        DmaError: the device does not behave as its specification says.
        SkipError: the DMA of this engine cannot carry a PASID, or the machine lacks something that the engine needs.
    """

    ids: ClassVar[frozenset[str]] = frozenset()
    class_code: ClassVar[str] = ""
    memory_bytes: ClassVar[int] = PAGE_BYTES
    register_bytes: ClassVar[int | None] = PAGE_BYTES
    interrupt_kind: ClassVar[IrqIndex]
    interrupt_vector: ClassVar[int] = 0
    has_pasids: ClassVar[bool] = False
    _stays_open = False  # a device that cannot be stopped is broken or gone, and cannot be stopped later either

    address_mask: int
    writes: TransferLimits
    reads: TransferLimits

    def __init__(
        self,
        device: VfioPciDevice,
        space: AddressSpace,
        *,
        iova: int | None = None,
        interrupt: bool = False,
        pasid: int | None = None,
    ) -> None:
        if pasid is not None:
            check_integer("pasid", pasid, 1, MOST_PASID)
            if not self.has_pasids:
                raise SkipError(f"the DMA of {device.name} carries no PASID: only that of an Intel DSA can carry one")
        super().__init__(device)
        self.device = device
        self.pasid = pasid
        with contextlib.ExitStack() as undo:
            self._buffer = undo.enter_context(DmaBuffer(self.memory_bytes))
            if iova is None:
                iova = _highest(reachable(space, self.address_mask), self.memory_bytes)
            self.snooped = space.dma_cc()
            self.memory = space.map(self._buffer, iova)
            self._registers = undo.enter_context(device.region(RegionIndex.BAR0).mmap(0, self.register_bytes))
            self._interrupts = None
            if interrupt:
                self._interrupts = undo.enter_context(
                    device.enable_irqs(self.interrupt_kind, self.interrupt_vector + 1)
                )
            self._view = undo.enter_context(self._buffer.view)
            self._mark_open()
            undo.pop_all()
        try:
            # The kernel's zeros may still be in the caches. They must not overwrite data of the device later.
            self._sync()
            self.device.change_command(set_bits=PciCommand.MEMORY | PciCommand.BUS_MASTER)
            self._start()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.device.name})"

    def _start(self) -> None:
        """Prepare the device for transfers."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Stop all activity of the device, also after a :meth:`_start` that failed halfway."""
        raise NotImplementedError

    def start_write(self, iova: int, length: int) -> bytes:
        """Start a write by the device of *length* bytes to *iova*; return the bytes. :meth:`wait` waits for its end.

        Raises:
            ArgumentValueError: one transfer cannot have this length or this IOVA; :attr:`writes` has the limits.
        """
        raise NotImplementedError

    def wait(self, timeout: float = COMPLETION_SECONDS) -> None:
        """Wait for the end of the started write.

        Raises:
            DmaError: the write takes more than *timeout* seconds, or the device reports an error.
        """
        raise NotImplementedError

    def write(self, iova: int, length: int) -> bytes:
        """Let the device write *length* bytes to *iova*, and return the bytes that memory must hold then."""
        content = self.start_write(iova, length)
        self.wait()
        return content

    def fill(self, iova: int, length: int) -> bytes:
        """Let the device write *length* bytes to *iova*, in several transfers if necessary, and return them."""
        content = bytearray()
        while len(content) < length:
            part = self.writes.fit(length - len(content))
            content += self.write(iova + len(content), part)
        return bytes(content)

    def readable(self, length: int) -> bytes:
        """Return *length* new bytes for memory. :meth:`read` can tell whether the device read exactly these bytes."""
        raise NotImplementedError

    def read(self, iova: int, content: bytes) -> bool:
        """Let the device read at *iova*, and return whether it read exactly *content*.

        Args:
            iova: IOVA of the first byte.
            content: bytes that :meth:`readable` returned.
        """
        raise NotImplementedError

    def fetch(self, iova: int, length: int) -> bytes:
        """Let the device read *length* bytes at *iova*, in several transfers if necessary, and return them.

        Raises:
            SkipError: the engine can compare only, as :meth:`read` does.
        """
        content = bytearray()
        while len(content) < length:
            part = self.reads.fit(length - len(content))
            self.start_fetch(iova + len(content), part)
            content += self.fetched(part)
        return bytes(content)

    def start_fetch(self, iova: int, length: int) -> None:
        """Start one read by the device of *length* bytes at *iova*; :meth:`fetched` waits for its end.

        Raises:
            SkipError: as for :meth:`fetch`.
        """
        raise self._cannot_fetch()

    def fetched(self, length: int) -> bytes:
        """Return the *length* bytes of the read that :meth:`start_fetch` started. A stopped read gives arbitrary bytes.

        Raises:
            SkipError: as for :meth:`fetch`.
        """
        raise self._cannot_fetch()

    def _cannot_fetch(self) -> SkipError:
        return SkipError(f"{self!r} can compare the bytes that the device reads, but not return them")

    def restart(self) -> None:
        """Make the device usable after a failed transfer; no effect on a device that needs no reset."""
        raise NotImplementedError

    def sync(self, buffer: DmaBuffer) -> None:
        """Flush *buffer*, unless DMA snoops. Call this after a write by the CPU or device, before the other reads."""
        if not self.snooped:
            buffer.flush()

    def _sync(self, offset: int = 0, length: int | None = None) -> None:
        """Flush a range of the engine's own memory if DMA does not snoop; by default all of it."""
        if not self.snooped:
            self._buffer.flush(offset, length)

    def _check(self, limits: TransferLimits, iova: int, length: int) -> None:
        self._check_open()
        if not 0 < length <= limits.max_bytes or length % limits.granule or iova % limits.alignment:
            raise ArgumentValueError(
                f"{self!r} cannot move {length} bytes at {iova:#x} in one transfer: the length must be a multiple of "
                f"{limits.granule}, up to {limits.max_bytes}, and the IOVA a multiple of {limits.alignment}"
            )
        if iova + length - 1 > self.address_mask:
            raise ArgumentValueError(f"{self!r} reaches IOVAs up to {self.address_mask:#x}, not {iova + length - 1:#x}")

    def _release(self) -> None:
        # A removed device refuses the first steps. The later steps release our own resources in any case.
        with contextlib.ExitStack() as steps:
            steps.callback(self._buffer.close)
            steps.callback(self._view.release)
            steps.callback(self._registers.close)
            if self._interrupts is not None:
                steps.callback(self._interrupts.close)
            steps.callback(self.device.change_command, clear_bits=PciCommand.BUS_MASTER)
            steps.callback(self._stop)


def reset_remedy(name: str) -> str:
    """Return the remedy for the device *name* if it does not answer; the kernel resets it when vfio-pci lets it go."""
    return f"reset it with 'iommufd device unbind {name}' and 'iommufd device restore {name}'"


def reachable(space: AddressSpace, address_mask: int) -> tuple[IovaRange, ...]:
    """Return the IOVA ranges that *space* can map and a device with *address_mask* reaches."""
    return tuple(
        IovaRange(one.start, min(one.last, address_mask))
        for one in space.iova_ranges().ranges
        if one.start <= address_mask
    )


def _highest(ranges: tuple[IovaRange, ...], length: int) -> int:
    for one in reversed(ranges):
        iova = (one.last + 1 - length) // PAGE_BYTES * PAGE_BYTES
        if one.contains(iova, length):
            return iova
    raise DmaError(f"no IOVA range that the device reaches has room for {length} bytes: choose another device")
