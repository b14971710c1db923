# SPDX-License-Identifier: MIT
"""Check a device's DMA at random: many maps and transfers of random size and place, each verified byte by byte."""

import math
import time
from collections.abc import Iterator

from iommufd_py.base.errors import DmaError
from iommufd_py.base.iova import IovaRange
from iommufd_py.base.units import PAGE_BYTES, round_up
from iommufd_py.dma.checks import CaseOutcome, CaseResult
from iommufd_py.dma.harness import Harness, MismatchError
from iommufd_py.objects.buffer import DmaBuffer

_BUFFER_BYTES = 256 << 10
_MOST_BYTES = 64 << 10


def run_storm(harness: Harness, rounds: int) -> CaseResult:
    """Run :func:`dma_storm` and judge the memory and the IOMMU's faults."""
    harness.faults()
    name, begun = f"storm of {rounds}", time.monotonic()
    try:
        for _ in dma_storm(harness, rounds):
            pass
    except (MismatchError, DmaError) as failure:
        return CaseResult(name, CaseOutcome.FAIL, str(failure), harness.faults())
    faults = harness.faults()
    verdict = CaseOutcome.FAIL if faults else CaseOutcome.PASS
    return CaseResult(name, verdict, f"0 mismatches in {time.monotonic() - begun:.0f} s", faults)


def dma_storm(harness: Harness, rounds: int) -> Iterator[int]:
    """Map, do DMA, verify and unmap, with random sizes, offsets and IOVAs; yield the number of each round.

    Raises:
        MismatchError: a byte is wrong. The text names the transfer of that round.
    """
    ranges = harness.ranges
    with DmaBuffer(_BUFFER_BYTES) as buffer:
        before = harness.random.randbytes(_BUFFER_BYTES)
        with buffer.view as view:
            view[:] = before
        for number in range(rounds):
            _round(harness, ranges, buffer, before)
            yield number + 1


def _round(harness: Harness, ranges: tuple[IovaRange, ...], buffer: DmaBuffer, before: bytes) -> None:
    chance, engine = harness.random, harness.engine
    reading = bool(engine.reads.max_bytes) and chance.random() < 0.25
    limits = engine.reads if reading else engine.writes
    # A random exponent: each power of two is equally likely.
    most = min(limits.max_bytes, _MOST_BYTES)
    length = max(limits.fit(int(2 ** chance.uniform(0, math.log2(most)))), limits.granule)
    skew = chance.randrange(0, PAGE_BYTES, limits.alignment) if limits.alignment < PAGE_BYTES else 0
    size = round_up(skew + length, PAGE_BYTES)
    offset = chance.randrange(0, buffer.length - size + 1, PAGE_BYTES)
    room = chance.choice([one for one in ranges if one.length >= size])
    first = chance.randrange(-(-room.start // PAGE_BYTES), (room.last + 1 - size) // PAGE_BYTES + 1) * PAGE_BYTES
    transfer = f"{'read' if reading else 'write'} of {length} bytes at IOVA {first + skew:#x}"
    at = offset + skew
    with harness.space.map(buffer, first, offset=offset, length=size):
        engine.sync(buffer)
        if reading:
            content = engine.readable(length)
            with buffer.view as view:
                view[at : at + length] = content
            engine.sync(buffer)
            if not engine.read(first + skew, content):
                raise MismatchError(f"{transfer}: the device read other bytes than memory holds")
        else:
            content = engine.write(first + skew, length)
            engine.sync(buffer)
    with buffer.view as view:
        # bytes() first: memoryviews are compared element by element, which is slow.
        if bytes(view) != before[:at] + content + before[at + length :]:
            raise MismatchError(f"{transfer}: memory holds wrong bytes afterwards")
        view[at : at + length] = before[at : at + length]
