# SPDX-License-Identifier: MIT
"""A device with its engine in an address space, and what is asked of it over and over."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from iommufd_py.base.errors import DmaError, SkipError, ToolError
from iommufd_py.base.iova import IovaRange
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.engine import AddressSpace, DmaEngine, reachable
from iommufd_py.dma.faults import DmaFault, FaultLog
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.mapping import Mapping
from iommufd_py.uapi.enums import MapFlags

# How long an IOMMU's fault takes to the kernel log, where there is one to come.
_FAULT_SECONDS = 1.0


class MismatchError(ToolError):
    """Memory does not hold what it must after a device's DMA, or the device did not find what lies there."""


@dataclass(frozen=True, slots=True)
class Window:
    """Memory that a case watches.

    Attributes:
        buffer: the memory.
        iova: where its first byte is, or would be, for the device.
        before: what was put into all of it, random.
        mapping: that of all of it, None if it is not mapped, or by the case itself.
        snooped: whether DMA snoops the CPU caches. If it does not, what the CPU writes after the map and reads before
            the unmap is flushed here, as every program must do it.
    """

    buffer: DmaBuffer
    iova: int
    before: bytes
    mapping: Mapping | None
    snooped: bool = True

    def refill(self) -> None:
        """Put back what it held in the beginning."""
        self.put(self.iova, self.before)

    def put(self, iova: int, content: bytes) -> None:
        """Put *content* where the device finds it at *iova*."""
        at = iova - self.iova
        with self.buffer.view as view:
            view[at : at + len(content)] = content
        if not self.snooped:
            self.buffer.flush(at, len(content))

    def found(self) -> bytes:
        """Return what is there now."""
        if not self.snooped:
            self.buffer.invalidate()
        with self.buffer.view as view:
            return bytes(view)

    def expect(self, iova: int = 0, content: bytes = b"") -> None:
        """Check that *content* stands at *iova*, and that all else is as before.

        Raises:
            MismatchError: with the first byte that differs.
        """
        start = iova - self.iova if content else 0
        wanted = self.before[:start] + content + self.before[start + len(content) :]
        found = self.found()
        if found == wanted:
            return
        at, count = first_difference(found, wanted)
        inside = start <= at < start + len(content)
        raise MismatchError(
            f"{count} bytes {'of what the device wrote' if inside else 'that nobody wrote to'} are wrong, the first at "
            f"IOVA {self.iova + at:#x}: {found[at]:#04x} instead of {wanted[at]:#04x}"
        )

    def expect_at_most(self, iova: int, content: bytes) -> None:
        """Check that there is nothing but what was there, and parts of *content* where they belong.

        Raises:
            MismatchError: with the first byte that is neither.
        """
        start = iova - self.iova
        wanted = self.before[:start] + content + self.before[start + len(content) :]
        for at, (found, *allowed) in enumerate(zip(self.found(), self.before, wanted, strict=True)):
            if found not in allowed:
                raise MismatchError(f"the byte at IOVA {self.iova + at:#x} is {found:#04x}, which nobody wrote")


def first_difference(found: bytes, wanted: bytes) -> tuple[int, int]:
    """Return where two equally long byte strings first differ, and in how many bytes they do."""
    differ = [at for at, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other]
    return differ[0], len(differ)


class Harness:
    """What the cases work with. It opens nothing: whoever made the engine closes it.

    Args:
        engine: of the device.
        space: where the device's DMA goes.
        log: where faults are seen.
        seed: of all that is random in sizes and places.
    """

    def __init__(self, engine: DmaEngine, space: AddressSpace, log: FaultLog, seed: int = 0) -> None:
        self.engine = engine
        self.space = space
        self.random = random.Random(seed)
        self._log = log

    @property
    def bdf(self) -> str:
        """Address of the device."""
        return self.engine.device.bdf

    @property
    def ranges(self) -> tuple[IovaRange, ...]:
        """Where the device reaches and the space can map, without the engine's own memory and what lies above it."""
        own = self.engine.memory.iova
        below = (one for one in reachable(self.space, self.engine.address_mask) if one.start < own)
        return tuple(IovaRange(one.start, min(one.last, own - 1)) for one in below)

    def place(self, length: int, alignment: int = PAGE_BYTES, *, before: int = 0) -> int:
        """Return the lowest IOVA, not 0, at which *length* bytes can be mapped, *before* bytes ahead of a boundary."""
        for one in self.ranges:
            iova = IovaRange(max(one.start, PAGE_BYTES), one.last).first_fit(length + alignment, alignment)
            if iova is not None:
                return iova + (alignment - before if before else 0)
        raise SkipError(f"{length} bytes at a multiple of {alignment:#x} fit nowhere in what {self.bdf} reaches")

    def highest(self, length: int) -> int:
        """Return the highest IOVA at which *length* bytes, whole pages, can be mapped."""
        return max(one.last + 1 - length for one in self.ranges if one.length >= length)

    @contextlib.contextmanager
    def window(
        self,
        length: int,
        iova: int,
        *,
        flags: MapFlags = MapFlags.READ_WRITE,
        backing: Backing = Backing.ANON_4K,
        mapped: bool = True,
    ) -> Iterator[Window]:
        """Have memory of *length* bytes with random content, mapped at *iova* unless it is only to be watched."""
        with DmaBuffer(length, backing) as buffer:
            mapping = self.space.map(buffer, iova, flags=flags) if mapped else None
            window = Window(buffer, iova, self.random.randbytes(length), mapping, self.engine.snooped)
            window.refill()
            yield window

    def write(self, iova: int, length: int) -> bytes:
        """As :meth:`DmaEngine.fill`."""
        return self.engine.fill(iova, length)

    def read(self, window: Window, iova: int, length: int) -> None:
        """Put something into *window* and have the device read it.

        Raises:
            MismatchError: the device found something else.
        """
        done = 0
        while done < length:
            content = self.engine.readable(self.engine.reads.fit(length - done))
            window.put(iova + done, content)
            if not self.engine.read(iova + done, content):
                raise MismatchError(f"the device did not find at IOVA {iova + done:#x} what lies there")
            done += len(content)

    def try_write(self, iova: int, length: int) -> str:
        """Have the device write where it should not be able to; return what it says of that, empty for nothing."""
        try:
            self.engine.write(iova, length)
        except DmaError as failure:
            self.engine.restart()
            return str(failure)
        return ""

    def faults(self, *, expected: bool = False) -> tuple[DmaFault, ...]:
        """Return the device's faults since the last call; wait a moment where one is expected."""
        return self._log.take(self.bdf, _FAULT_SECONDS if expected else 0.0)
