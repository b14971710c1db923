# SPDX-License-Identifier: MIT
"""The harness of the DMA cases: a device, its engine and address space, and memory that is checked byte by byte."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from iommufd_py.base.errors import DmaError, SkipError, ToolError
from iommufd_py.base.iova import IovaRange
from iommufd_py.base.units import PAGE_BYTES, counted
from iommufd_py.dma.engine import AddressSpace, DmaEngine, reachable
from iommufd_py.dma.faults import DmaFault, FaultLog
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.mapping import Mapping
from iommufd_py.uapi.enums import MapFlags

# An expected fault of the IOMMU appears in the kernel log within this time.
_FAULT_SECONDS = 5.0


class MismatchError(ToolError):
    """DMA by a device left wrong bytes in memory, or the device read bytes that memory does not hold."""


@dataclass(frozen=True, slots=True)
class Window:
    """Memory of which a case checks every byte.

    Attributes:
        buffer: the memory.
        iova: IOVA of the first byte, mapped or not.
        before: random content of the whole buffer before the DMA.
        mapping: the mapping of the whole buffer; None if nothing is mapped, or if the case itself maps.
        snooped: whether DMA snoops the CPU caches. If not, :meth:`put` and :meth:`found` flush, as every program must
            between map and unmap.
    """

    buffer: DmaBuffer
    iova: int
    before: bytes
    mapping: Mapping | None
    snooped: bool = True

    def refill(self) -> None:
        """Write the content *before* again."""
        self.put(self.iova, self.before)

    def put(self, iova: int, content: bytes) -> None:
        """Write *content* to the memory at *iova*."""
        at = iova - self.iova
        with self.buffer.view as view:
            view[at : at + len(content)] = content
        if not self.snooped:
            self.buffer.flush(at, len(content))

    def found(self) -> bytes:
        """Return the present content of the whole buffer."""
        if not self.snooped:
            self.buffer.invalidate()
        with self.buffer.view as view:
            return bytes(view)

    def expect(self, iova: int = 0, content: bytes = b"") -> None:
        """Check that memory holds *content* at *iova*, and *before* elsewhere.

        Raises:
            MismatchError: a byte differs. The text names the first one.
        """
        start = iova - self.iova if content else 0
        wanted = self._with(start, content)
        found = self.found()
        if found == wanted:
            return
        at, count = first_difference(found, wanted)
        inside = start <= at < start + len(content)
        raise MismatchError(
            f"{counted(count, 'wrong byte')}, the first at IOVA {self.iova + at:#x}, "
            f"{'inside' if inside else 'outside'} the device's write: {found[at]:#04x} instead of {wanted[at]:#04x}"
        )

    def expect_at_most(self, iova: int, content: bytes) -> None:
        """Check that every byte is as *before*, or as *content* at *iova* gives it.

        Raises:
            MismatchError: a byte is neither. The text names the first one.
        """
        wanted = self._with(iova - self.iova, content)
        for at, (found, *allowed) in enumerate(zip(self.found(), self.before, wanted, strict=True)):
            if found not in allowed:
                raise MismatchError(
                    f"the byte at IOVA {self.iova + at:#x} is {found:#04x}: neither old nor new content"
                )

    def _with(self, start: int, content: bytes) -> bytes:
        """Return the content *before*, but with *content* from the offset *start*."""
        return self.before[:start] + content + self.before[start + len(content) :]


def first_difference(found: bytes, wanted: bytes) -> tuple[int, int]:
    """Return the position of the first difference of two equally long byte strings, and the number of differences."""
    differ = [at for at, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other]
    return differ[0], len(differ)


class Harness:
    """Everything that a case works with. It opens nothing; the caller closes the engine.

    Args:
        engine: the engine of the device.
        space: the address space of the device's DMA.
        log: source of the IOMMU's faults.
        seed: seed of all random sizes, places and contents.
    """

    def __init__(self, engine: DmaEngine, space: AddressSpace, log: FaultLog, seed: int = 0) -> None:
        self.engine = engine
        self.space = space
        self.random = random.Random(seed)
        self._log = log
        self._case_faults: list[DmaFault] = []

    @property
    def bdf(self) -> str:
        """Address of the device."""
        return self.engine.device.bdf

    @property
    def ranges(self) -> tuple[IovaRange, ...]:
        """IOVA ranges that the device reaches and the space can map, below the engine's own memory."""
        own = self.engine.memory.iova
        below = (one for one in reachable(self.space, self.engine.address_mask) if one.start < own)
        return tuple(IovaRange(one.start, min(one.last, own - 1)) for one in below)

    def place(self, length: int, alignment: int = PAGE_BYTES, *, before: int = 0) -> int:
        """Return the lowest IOVA above 0 for *length* bytes: a multiple of *alignment*, or *before* bytes below one."""
        for one in self.ranges:
            iova = IovaRange(max(one.start, PAGE_BYTES), one.last).first_fit(length + alignment, alignment)
            if iova is not None:
                return iova + (alignment - before if before else 0)
        raise SkipError(f"no IOVA range of {self.bdf} has room for {length} bytes at a multiple of {alignment:#x}")

    def highest(self, length: int) -> int:
        """Return the highest IOVA for *length* bytes, a multiple of the page size."""
        found = [one.last + 1 - length for one in self.ranges if one.length >= length]
        if not found:
            raise SkipError(f"no IOVA range of {self.bdf} has room for {length} bytes")
        return max(found)

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
        """Provide *length* bytes of memory with random content, mapped at *iova* unless *mapped* is False."""
        with DmaBuffer(length, backing) as buffer:
            mapping = self.space.map(buffer, iova, flags=flags) if mapped else None
            window = Window(buffer, iova, self.random.randbytes(length), mapping, self.engine.snooped)
            window.refill()
            yield window

    def write(self, iova: int, length: int) -> bytes:
        """Let the device write *length* bytes to *iova*, and return them; see :meth:`DmaEngine.fill`."""
        return self.engine.fill(iova, length)

    def read(self, window: Window, iova: int, length: int) -> None:
        """Write new content to *window*, let the device read it, and compare.

        Raises:
            MismatchError: the device read other bytes.
        """
        done = 0
        while done < length:
            content = self.engine.readable(self.engine.reads.fit(length - done))
            window.put(iova + done, content)
            if not self.engine.read(iova + done, content):
                raise MismatchError(f"at IOVA {iova + done:#x} the device read other bytes than memory holds")
            done += len(content)

    def try_write(self, iova: int, length: int) -> str:
        """Let the device write to an IOVA that the IOMMU must protect; return the device's error, empty for none."""
        try:
            self.engine.write(iova, length)
        except DmaError as failure:
            self.engine.restart()
            return str(failure)
        return ""

    def await_fault_room(self) -> None:
        """Wait until the rate limit lets the kernel log the next fault."""
        self._log.await_room()

    def faults(self, *, expected: bool = False) -> tuple[DmaFault, ...]:
        """Return the device's faults since the last call. If one is *expected*, wait for it up to 5 s."""
        found = self._log.take(self.bdf, _FAULT_SECONDS if expected else 0.0)
        self._case_faults += found
        return found

    @property
    def sees_faults(self) -> bool:
        """Whether this process may read the kernel log, which has the faults."""
        return self._log.readable

    def begin_case(self) -> None:
        """Forget the faults that happened until now."""
        self.faults()
        self._case_faults.clear()

    @property
    def case_faults(self) -> tuple[DmaFault, ...]:
        """The faults that :meth:`faults` returned since :meth:`begin_case`."""
        return tuple(self._case_faults)
