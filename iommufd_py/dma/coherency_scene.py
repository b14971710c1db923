# SPDX-License-Identifier: MIT
"""A device and a CPU that write and read the same memory, and notes of what each of them saw."""

from collections.abc import Sequence

from iommufd_py.base.errors import SkipError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.coherency import LINE_BYTES, Content, Look, Piece, joined, recognize
from iommufd_py.dma.engine import AddressSpace, DmaEngine, reachable
from iommufd_py.objects.buffer import DmaBuffer

_ROOM, _ALIGNMENT = 4 << 20, 2 << 20
_PROOFS = 8
# What an engine that cannot fetch says of bytes that it does not know.
_NONE = "none of what anybody put there"


class Scene:
    """Where stories happen.

    Args:
        engine: of the device.
        space: where the device's DMA goes.

    Attributes:
        iova: where they map: some MiB are free there, for a huge page as well.
        looks: the notes, in order.
    """

    def __init__(self, engine: DmaEngine, space: AddressSpace) -> None:
        self.engine = engine
        self.space = space
        self.looks: list[Look] = []
        self.iova = self._room()

    def _room(self) -> int:
        for one in reachable(self.space, self.engine.address_mask):
            iova = -(-max(one.start, 1) // _ALIGNMENT) * _ALIGNMENT
            if one.contains(iova, _ROOM) and not iova <= self.engine.memory.iova < iova + _ROOM:
                return iova
        raise SkipError(f"{self.engine!r} reaches no {_ROOM >> 20} MiB of free IOVA")

    def content(self, origin: str, length: int) -> Content:
        """Return *length* bytes, whole pages that are all alike, which the engine can tell from others."""
        return Content(origin, self.engine.readable(PAGE_BYTES)).times(length // PAGE_BYTES)

    def put(self, buffer: DmaBuffer, content: Content, *, in_memory: bool) -> None:
        """Have the CPU write *content* to the start of a buffer: into memory, or into its caches alone."""
        length = len(content.data)
        with buffer.view as view:
            view[:length] = content.data
        if in_memory:
            buffer.flush(0, length)

    def write(self, buffer: DmaBuffer, length: int | None = None) -> tuple[Content, Content]:
        """Have the CPU write to the start of a buffer while memory holds something older; return both."""
        length = length or buffer.length
        new, old = self.content("the CPU's data", length), self.content("the old contents of memory", length)
        self.put(buffer, old, in_memory=True)
        self.put(buffer, new, in_memory=False)
        return new, old

    def device_writes(self, length: int, origin: str, at: int = 0) -> Content:
        """Have the device write *length* bytes, *at* bytes behind :attr:`iova`; return what must stand there then."""
        return Content(origin, self.engine.fill(self.iova + at, length))

    def device_reads(self, when: str, wanted: Content, others: Sequence[Content], at: int = 0) -> None:
        """Have the device read what must be *wanted*, *at* bytes behind :attr:`iova`, and note whose it was."""
        found, origin = self._read(self.iova + at, wanted, others)
        self.looks.append(Look("device", when, found, (Piece(0, len(wanted.data), origin),)))

    def device_reads_pages(self, when: str, wanted: Content, others: Sequence[Content]) -> None:
        """Have the device read the first line of every page of *wanted*, and note whose the pages are."""
        pages = []
        for at in range(0, len(wanted.data), PAGE_BYTES):
            line, *lines = (one.part(at, LINE_BYTES) for one in (wanted, *others))
            (piece,), _origin = self._read(self.iova + at, line, lines)
            pages.append(Piece(at, PAGE_BYTES, piece.origin))
        self.looks.append(Look("device", when, joined(pages), (Piece(0, len(wanted.data), wanted.origin),)))

    def cpu_reads(
        self, when: str, buffer: DmaBuffer, wanted: Sequence[Content], others: Sequence[Content] = (), at: int = 0
    ) -> None:
        """Have the CPU read a buffer from *at* on, without a flush, and note whose the bytes were.

        Args:
            when: in the course of the story.
            buffer: what is read.
            wanted: what must be there, one behind the other.
            others: what may be there instead, each from *at* on.
            at: where to begin.
        """
        whole, known = b"", []
        for content in wanted:
            known.append(Content(content.origin, bytes(len(whole)) + content.data))
            whole += content.data
        known += others
        with buffer.view as view:
            found = bytes(view[at : at + len(whole)])
        self.looks.append(Look("CPU", when, recognize(found, known), recognize(whole, known)))

    def snoops(self) -> bool:
        """Tell whether DMA of the device snoops: of eight times, it always finds what is in the CPU's caches alone."""
        with DmaBuffer(PAGE_BYTES) as buffer, self.space.map(buffer, self.iova):
            for _ in range(_PROOFS):
                new, _old = self.write(buffer)
                if not self._finds(self.iova, new.data):
                    return False
        return True

    def _read(self, iova: int, wanted: Content, others: Sequence[Content]) -> tuple[tuple[Piece, ...], str]:
        """Return what the device read, and the origin that must be that of all of it."""
        length = len(wanted.data)
        try:
            return recognize(self.engine.fetch(iova, length), (wanted, *others)), wanted.origin
        except SkipError:
            # It can tell whether the device read what it knows, and knows no zeros.
            origin = _NONE if wanted.is_zeros else wanted.origin
            for content in (wanted, *others):
                if not content.is_zeros and self._finds(iova, content.data[:length]):
                    return (Piece(0, length, content.origin),), origin
            return (Piece(0, length, _NONE),), origin

    def _finds(self, iova: int, data: bytes) -> bool:
        step = PAGE_BYTES if self.engine.reads.max_bytes >= PAGE_BYTES else PAGE_BYTES // 2
        return all(self.engine.read(iova + at, data[at : at + step]) for at in range(0, len(data), step))
