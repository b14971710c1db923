# SPDX-License-Identifier: MIT
"""Let a device and the CPU write and read the same memory, and record the origin of the bytes that each reads."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from iommufd_py.base.coherency import MAP_RULE, UNPIN_RULE
from iommufd_py.base.errors import DmaError, SkipError
from iommufd_py.base.units import PAGE_BYTES, round_up
from iommufd_py.dma import open_engine
from iommufd_py.dma.coherency.readings import LINE_BYTES, Content, Piece, Reading, merged, recognize
from iommufd_py.dma.engine import AddressSpace, DmaEngine, reachable
from iommufd_py.dma.no_snoop import no_snoop_enabled
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.vfio.group import VfioGroupDevice
from iommufd_py.vfio.type1 import Type1Container

_ROOM, _ALIGNMENT = 32 << 20, 2 << 20
_PROOFS = 8
# The origin of bytes without a known content, for an engine that can compare bytes but not return them.
_NONE = "no known origin"


class CoherencyHarness:
    """Everything that a coherency case works with. A context manager: Enable No Snoop is set until its end.

    Args:
        engine: DMA engine of the device.
        space: address space that the device's DMA goes through.

    Attributes:
        iova: start of 32 MiB of free IOVA, aligned to 2 MiB, where the cases map.
        readings: the readings so far, in order.
        no_snoop: whether the device may send requests that do not snoop, see :func:`no_snoop_enabled`.
    """

    def __init__(self, engine: DmaEngine, space: AddressSpace) -> None:
        self.readings: list[Reading] = []
        self._no_snoop = ExitStack()
        self._use(engine, space)
        self.iova = self._room()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._no_snoop.close()

    def _use(self, engine: DmaEngine, space: AddressSpace) -> None:
        self.engine = engine
        self.space = space
        self.no_snoop = self._no_snoop.enter_context(no_snoop_enabled(engine.device))

    def _room(self) -> int:
        for one in reachable(self.space, self.engine.address_mask):
            iova = round_up(max(one.start, 1), _ALIGNMENT)
            if one.contains(iova, _ROOM) and not iova <= self.engine.memory.iova < iova + _ROOM:
                return iova
        raise SkipError(f"{self.engine!r} reaches no {_ROOM >> 20} MiB of free IOVA")

    @contextmanager
    def moved(self, container: Type1Container) -> Iterator[None]:
        """Move the device to another container during the block. Each move starts a new engine."""
        home = self.space
        assert isinstance(home, Type1Container)
        self._move(container)
        try:
            yield
        finally:
            self._move(home)

    def _move(self, container: Type1Container) -> None:
        """Move the device by its group, which can be in one container at a time."""
        device = self.engine.device
        assert isinstance(device, VfioGroupDevice)
        self._no_snoop.close()
        device.group.close()
        self._use(open_engine(container.open_device(device.bdf), container), container)

    def content(self, origin: str, length: int) -> Content:
        """Return *length* bytes that the engine can tell from other contents. All their pages are equal."""
        return Content(origin, self.engine.readable(PAGE_BYTES)).times(length // PAGE_BYTES)

    def put(self, buffer: DmaBuffer, content: Content, *, in_memory: bool) -> None:
        """Write *content* by the CPU to the start of a buffer: to memory, or only to the CPU caches."""
        length = len(content.data)
        with buffer.view as view:
            view[:length] = content.data
        if in_memory:
            buffer.flush(0, length)

    def write(self, buffer: DmaBuffer, length: int | None = None) -> tuple[Content, Content]:
        """Write new content to the CPU caches and old content to memory at a buffer's start; return new and old."""
        length = length or buffer.length
        new, old = self.content("the CPU's data", length), self.content("the old contents of memory", length)
        self.put(buffer, old, in_memory=True)
        self.put(buffer, new, in_memory=False)
        return new, old

    def device_writes(self, length: int, origin: str, at: int = 0) -> Content:
        """Let the device write *length* bytes at :attr:`iova` plus *at*; return the content that memory then has."""
        return Content(origin, self.engine.fill(self.iova + at, length))

    def device_reads(
        self, when: str, wanted: Content, others: Sequence[Content], at: int = 0, *, rule: int = MAP_RULE
    ) -> None:
        """Let the device read at :attr:`iova` plus *at*, where *wanted* must be, and record the origin of the bytes.

        Args:
            rule: the rule that a kernel broke if the bytes are others.
        """
        found, origin = self._read(self.iova + at, wanted, others)
        self.readings.append(Reading("device", when, found, (Piece(0, len(wanted.data), origin),), rule))

    def device_reads_pages(self, when: str, wanted: Content, others: Sequence[Content]) -> None:
        """Let the device read the first line of every page of *wanted*, and record the origin of each page."""
        pages = []
        for at in range(0, len(wanted.data), PAGE_BYTES):
            line, *lines = (one.part(at, LINE_BYTES) for one in (wanted, *others))
            (piece,), _origin = self._read(self.iova + at, line, lines)
            pages.append(Piece(at, PAGE_BYTES, piece.origin))
        all_wanted = (Piece(0, len(wanted.data), wanted.origin),)
        self.readings.append(Reading("device", when, merged(pages), all_wanted, MAP_RULE))

    def cpu_reads(
        self, when: str, buffer: DmaBuffer, wanted: Sequence[Content], others: Sequence[Content] = (), at: int = 0
    ) -> None:
        """Let the CPU read a buffer without a flush, and record the origin of the bytes.

        Args:
            when: step of the case, for example ``after the unmap``.
            buffer: the buffer to read.
            wanted: the consecutive contents that must be there.
            others: contents that a wrong kernel may show instead, each starting at *at*.
            at: offset of the first byte to read.
        """
        whole, known = b"", []
        for content in wanted:
            known.append(Content(content.origin, bytes(len(whole)) + content.data))
            whole += content.data
        known += others
        with buffer.view as view:
            found = bytes(view[at : at + len(whole)])
        self.readings.append(Reading("CPU", when, recognize(found, known), recognize(whole, known), UNPIN_RULE))

    def snoops(self) -> bool:
        """Return whether the device's DMA snoops: in each of eight trials it reads data that is only in the caches.

        Raises:
            DmaError: the device does not read data that is in the caches and in memory.
        """
        with DmaBuffer(PAGE_BYTES) as buffer, self.space.map(buffer, self.iova):
            # A device whose DMA does not work also misses data that is only in the caches.
            both = self.content("the CPU's data", PAGE_BYTES)
            self.put(buffer, both, in_memory=True)
            if not self._finds(self.iova, both.data):
                raise DmaError(
                    f"{self.engine!r} does not read the data that is in memory: its DMA does not work, so nothing can "
                    f"be said about the CPU caches; 'iommufd dma check --device {self.engine.device.name}' shows more"
                )
            for _ in range(_PROOFS):
                new, _old = self.write(buffer)
                if not self._finds(self.iova, new.data):
                    return False
        return True

    def _read(self, iova: int, wanted: Content, others: Sequence[Content]) -> tuple[tuple[Piece, ...], str]:
        """Return the pieces that the device read, and the one origin that all of them must have."""
        length = len(wanted.data)
        try:
            return recognize(self.engine.fetch(iova, length), (wanted, *others)), wanted.origin
        except SkipError:
            # This engine returns no bytes. It compares memory with contents of its own, which are never zeros.
            origin = _NONE if wanted.is_zeros else wanted.origin
            for content in (wanted, *others):
                if not content.is_zeros and self._finds(iova, content.data[:length]):
                    return (Piece(0, length, content.origin),), origin
            return (Piece(0, length, _NONE),), origin

    def _finds(self, iova: int, data: bytes) -> bool:
        step = PAGE_BYTES if self.engine.reads.max_bytes >= PAGE_BYTES else PAGE_BYTES // 2
        return all(self.engine.read(iova + at, data[at : at + step]) for at in range(0, len(data), step))
