# SPDX-License-Identifier: MIT
"""Cases in which the device does DMA while the kernel maps or unmaps.

If the kernel flushes after a map or before an unmap, the device can reach memory in between: it reads old contents of
memory, or writes to memory whose lines are in the caches again. Each round starts a transfer, waits, and lets the
kernel map or unmap. The waits grow, so that transfers happen at all times of the call. The last transfer happens
entirely while the memory is mapped.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from iommufd_py.base.coherency import ATTACH_RULE, MAP_RULE, UNPIN_RULE
from iommufd_py.base.errors import DmaError, SkipError
from iommufd_py.base.units import PAGE_BYTES, counted
from iommufd_py.dma.coherency.domains import attached, other_ioas
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.dma.coherency.readings import LINE_BYTES, Content, Piece, Reading, merged, recognize
from iommufd_py.objects.buffer import DmaBuffer

# The flush of so many pages takes longer than the step from one wait to the next.
_PAGES = 512
_ROUNDS = 24
# The longest wait, as a multiple of the time of one transfer.
_LONGEST = 1.5


def read_during_map(harness: CoherencyHarness) -> None:
    """A device that reads while the kernel maps does not read the old contents of memory."""
    with DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        _read_during(harness, buffer, lambda: harness.space.map(buffer, harness.iova), MAP_RULE)


def read_during_attach(harness: CoherencyHarness) -> None:
    """A device that reads while it attaches to an IOAS with mappings does not read the old contents of memory."""
    if harness.engine.pasid is not None:
        raise SkipError("a PASID attaches to a HWPT only, which the kernel fills before")
    with other_ioas(harness) as other, DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        other.map(buffer, harness.iova)
        # Not to a HWPT of the IOAS: the kernel fills a HWPT when it is made, before a device attaches to it.
        _read_during(harness, buffer, lambda: attached(harness, other), ATTACH_RULE)


def _read_during(
    harness: CoherencyHarness, buffer: DmaBuffer, reach: Callable[[], AbstractContextManager[object]], rule: int
) -> None:
    """Let the device read *buffer* while *reach* makes the buffer reachable, and once afterwards.

    Args:
        rule: the rule that a kernel broke if the device reads old contents.
    """
    engine = harness.engine
    origins = []
    with reach():
        start = time.perf_counter()
        engine.start_fetch(harness.iova, LINE_BYTES)
        engine.wait()
        duration = time.perf_counter() - start
    for at, wait in _rounds(duration):
        new, old = harness.write(buffer)
        engine.start_fetch(harness.iova + at, LINE_BYTES)
        _spin(wait)
        with reach():
            found = engine.fetched(LINE_BYTES)
        origins.append(_origin(found, new.part(at), old.part(at)))
    new, old = harness.write(buffer)
    with reach():
        last = _origin(engine.fetch(harness.iova, LINE_BYTES), new, old)
    # The IOMMU stopped each read that came too early: it returned neither content. Nothing can stop the last read.
    met = [*(origin for origin in origins if origin in (new.origin, old.origin)), last]
    harness.readings.append(
        Reading("device", f"in {counted(len(met), 'read')}", _pieces(met), _pieces([new.origin] * len(met)), rule)
    )


def write_during_unmap(harness: CoherencyHarness) -> None:
    """After an unmap during which the device writes, a CLFLUSH does not change the bytes that the CPU reads."""
    engine = harness.engine
    before: list[str] = []
    after: list[str] = []
    with DmaBuffer(_PAGES * PAGE_BYTES) as buffer, buffer.view as view:
        with harness.space.map(buffer, harness.iova):
            start = time.perf_counter()
            engine.fill(harness.iova, LINE_BYTES)
            duration = time.perf_counter() - start
        for at, wait in (*_rounds(duration), (0, None)):
            mine = harness.content("the CPU's data", buffer.length)
            with harness.space.map(buffer, harness.iova):
                # Do this only now, because the flush of the map removes the lines from the caches.
                harness.put(buffer, mine, in_memory=True)
                written = Content("the device's data", engine.start_write(harness.iova + at, LINE_BYTES))
                if wait is None:
                    engine.wait()
                else:
                    _spin(wait)
            _await_end(harness)
            for notes in (before, after):
                notes.append(_origin(bytes(view[at : at + LINE_BYTES]), written, mine.part(at)))
                buffer.flush(at, LINE_BYTES)
    harness.readings.append(
        Reading("CPU", f"after {counted(len(before), 'unmap')}", _pieces(before), _pieces(after), UNPIN_RULE)
    )


def _rounds(duration: float) -> Iterator[tuple[int, float]]:
    """Yield the offset of each transfer in the buffer, and the wait in seconds before the kernel maps or unmaps.

    A kernel that flushes from the start to the end leaves the longest time between the flush of the first page and an
    unmap, and between a map and the flush of the last page.
    """
    places = (0, _PAGES // 2 * PAGE_BYTES, (_PAGES - 1) * PAGE_BYTES)
    for number in range(_ROUNDS):
        yield places[number % len(places)], duration * _LONGEST * number / _ROUNDS


def _spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _await_end(harness: CoherencyHarness) -> None:
    try:
        harness.engine.wait()
    except DmaError:
        # The unmap ended before the DMA, so the IOMMU stopped the device.
        harness.engine.restart()


def _origin(line: bytes, *known: Content) -> str:
    """Return the origin of a line that may be the first of one of the *known* contents."""
    return recognize(line, known)[0].origin


def _pieces(origins: Sequence[str]) -> tuple[Piece, ...]:
    return merged([Piece(number * LINE_BYTES, LINE_BYTES, origin) for number, origin in enumerate(origins)])
