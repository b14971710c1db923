# SPDX-License-Identifier: MIT
"""What it takes to make a device read and write memory at an IOVA."""

import contextlib
from dataclasses import dataclass
from typing import ClassVar, Protocol

from iommufd_py.base.errors import DmaError, SkipError
from iommufd_py.base.iova import IovaRange, IovaRanges
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.objects.mapping import Mapping
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.enums import IrqIndex, MapFlags, RegionIndex
from iommufd_py.vfio.pci_device import VfioPciDevice

# PCI configuration space: the command register, and its bits that let a device answer to its BARs and do DMA.
_COMMAND, _MEMORY, _BUS_MASTER = 0x04, 1 << 1, 1 << 2


class AddressSpace(Protocol):
    """Where a device's DMA goes: an Ioas that it is attached to, or its Container of any mode."""

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
        """Return where can be mapped."""

    def dma_cc(self) -> bool:
        """Tell whether every domain of it makes DMA snoop the CPU caches."""


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """What one transfer can be.

    Attributes:
        max_bytes: the most that is moved at once; 0 for an engine that has no such transfer.
        granule: lengths are multiples of this many bytes.
        alignment: IOVAs are multiples of this many bytes.
    """

    max_bytes: int
    granule: int
    alignment: int

    def fit(self, length: int) -> int:
        """Return the longest legal transfer that is not longer than *length*."""
        return min(length, self.max_bytes) // self.granule * self.granule


class DmaEngine(Resource):
    """A device that is made to read and write memory. Closing it stops the device and forbids it DMA.

    It keeps one page or more of its own mapped, for queues and for what it must know to check the device. A subclass
    is a driver: it says by *ids* or *class_code* which devices it drives and starts transfers.

    Args:
        device: the device, open.
        space: where the device's DMA goes.
        iova: where the engine's own memory is mapped; default: as high as the device reaches.
        interrupt: learn of completions by an interrupt instead of polling.

    Attributes:
        ids: ``vendor:device`` of the devices it drives, hexadecimal.
        class_code: how the class code of such a device starts, hexadecimal; empty for none.
        memory_bytes: how much memory of its own it needs.
        register_bytes: how much of BAR0 it maps.
        interrupt_kind: how the device says that it is done.
        address_mask: the IOVAs that the device can put on the bus.
        writes: what one write of the device to memory can be.
        reads: what one read of the device from memory can be.
        memory: the mapping of the engine's own memory. Where the device moves to another IOAS, copy it there.
        snooped: whether the domain made DMA snoop the CPU caches when the engine was opened. If it did not, the engine
            flushes its own memory before it tells the device to look there, and before it looks there itself.

    Raises:
        DmaError: the device does not do what its specification says.
    """

    ids: ClassVar[frozenset[str]] = frozenset()
    class_code: ClassVar[str] = ""
    memory_bytes: ClassVar[int] = PAGE_BYTES
    register_bytes: ClassVar[int] = PAGE_BYTES
    interrupt_kind: ClassVar[IrqIndex]

    address_mask: int
    writes: TransferLimits
    reads: TransferLimits

    def __init__(
        self, device: VfioPciDevice, space: AddressSpace, *, iova: int | None = None, interrupt: bool = False
    ) -> None:
        super().__init__(device)
        self.device = device
        with contextlib.ExitStack() as undo:
            self._buffer = undo.enter_context(DmaBuffer(self.memory_bytes))
            if iova is None:
                iova = _highest(reachable(space, self.address_mask), self.memory_bytes)
            self.snooped = space.dma_cc()
            self.memory = space.map(self._buffer, iova)
            self._registers = undo.enter_context(device.region(RegionIndex.BAR0).mmap(0, self.register_bytes))
            self._interrupts = undo.enter_context(device.enable_irqs(self.interrupt_kind, 1)) if interrupt else None
            self._view = undo.enter_context(self._buffer.view)
            self._opened()
            undo.pop_all()
        try:
            # The zeros that the kernel made, still in the caches, must not overwrite what the device writes.
            self._sync()
            self._command(set_bits=_MEMORY | _BUS_MASTER)
            self._start()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.device.name})"

    def _start(self) -> None:
        """Bring the device to where it takes transfers."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Bring the device to where it does nothing of itself; also after a half-done :meth:`_start`."""
        raise NotImplementedError

    def start_write(self, iova: int, length: int) -> bytes:
        """Have the device write *length* bytes to *iova* and return what it writes; :meth:`wait` for it to be done."""
        raise NotImplementedError

    def wait(self, timeout: float = 2.0) -> None:
        """Wait until the write that was started is done.

        Raises:
            DmaError: it is not done after *timeout* seconds, or the device says that it failed.
        """
        raise NotImplementedError

    def write(self, iova: int, length: int) -> bytes:
        """Have the device write *length* bytes to *iova*, and return what must stand there afterwards."""
        content = self.start_write(iova, length)
        self.wait()
        return content

    def fill(self, iova: int, length: int) -> bytes:
        """Have the device write *length* bytes to *iova* in as many transfers as it takes, and return them."""
        content = bytearray()
        while len(content) < length:
            part = self.writes.fit(length - len(content))
            content += self.write(iova + len(content), part)
        return bytes(content)

    def readable(self, length: int) -> bytes:
        """Return *length* fresh bytes such that the engine can tell whether the device read them."""
        raise NotImplementedError

    def read(self, iova: int, content: bytes) -> bool:
        """Have the device read as many bytes at *iova* as *content* has, and tell whether it found just those.

        Args:
            iova: where *content* lies.
            content: what :meth:`readable` returned.
        """
        raise NotImplementedError

    def fetch(self, iova: int, length: int) -> bytes:
        """Have the device read *length* bytes at *iova*, in as many transfers as it takes, and return what it found.

        Raises:
            SkipError: the engine can only tell whether the device finds what :meth:`readable` returned.
        """
        raise SkipError(f"{self!r} can tell whether the device finds what it must, not what it finds instead")

    def restart(self) -> None:
        """Bring the device back after a transfer that failed; without effect where that costs it nothing."""
        raise NotImplementedError

    def sync(self, buffer: DmaBuffer) -> None:
        """Have the CPU and the device see the same of *buffer*, between writes of the one and reads of the other."""
        if not self.snooped:
            buffer.flush()

    def _sync(self, offset: int = 0, length: int | None = None) -> None:
        """Do so with a range of the engine's own memory, by default all of it."""
        if not self.snooped:
            self._buffer.flush(offset, length)

    def _command(self, *, set_bits: int = 0, clear_bits: int = 0) -> None:
        config = self.device.config
        config.write_int(_COMMAND, config.read_int(_COMMAND, 2) & ~clear_bits | set_bits, 2)

    def _check(self, limits: TransferLimits, iova: int, length: int) -> None:
        self._check_open()
        if not 0 < length <= limits.max_bytes or length % limits.granule or iova % limits.alignment:
            raise ValueError(f"{self!r} cannot move {length} bytes at {iova:#x}: {limits}")
        if iova + length - 1 > self.address_mask:
            raise ValueError(f"{self!r} does not reach {iova + length - 1:#x}, only {self.address_mask:#x}")

    def _release(self) -> None:
        try:
            self._stop()
        finally:
            self._command(clear_bits=_BUS_MASTER)
            if self._interrupts is not None:
                self._interrupts.close()
            self._registers.close()
            self._view.release()
            self._buffer.close()


def reachable(space: AddressSpace, address_mask: int) -> tuple[IovaRange, ...]:
    """Return where *space* can map and a device with *address_mask* can reach."""
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
    raise DmaError(f"there is no room for {length} bytes in the IOVAs that the device reaches: it cannot be used here")
