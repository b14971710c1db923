# SPDX-License-Identifier: MIT
"""Whether a device's DMA goes where the mapping says, and nowhere else: the cases, one function each.

A case returns a remark, and raises MismatchError or DmaError where the mapping is violated, SkipError where the device
cannot do what it needs.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from iommufd_py.base.errors import BackingError, DmaError, SkipError
from iommufd_py.base.iova import IovaRange
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.faults import DmaFault
from iommufd_py.dma.harness import Harness, MismatchError, Window
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.uapi.enums import MapFlags

_2M = 2 << 20
_ROUNDS = 16
_STORM_BYTES = 256 << 10
_STORM_MOST = 64 << 10


class CaseOutcome(StrEnum):
    """What came of a case."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case that was run.

    Attributes:
        name: of the case.
        verdict: whether the mapping held.
        remark: what was seen, or why not.
        faults: what the IOMMU stopped meanwhile, by the kernel log.
    """

    name: str
    verdict: CaseOutcome
    remark: str
    faults: tuple[DmaFault, ...]


Case = Callable[[Harness], str]


def write_page(harness: Harness) -> str:
    """Write 4 KiB, a whole page."""
    return _lands(harness, harness.place(3 * PAGE_BYTES) + PAGE_BYTES, PAGE_BYTES)


def write_sub_page(harness: Harness) -> str:
    """Write less than a page, inside it."""
    return _lands(harness, harness.place(PAGE_BYTES) + 0x124, 0x5A4)


def write_across_pages(harness: Harness) -> str:
    """Write from one page into the next, and over several where the device can at once."""
    _lands(harness, harness.place(2 * PAGE_BYTES) + PAGE_BYTES - 0x34, 0x68)
    most = harness.engine.writes.fit(9 * PAGE_BYTES + 0x80)
    return _lands(harness, harness.place(12 * PAGE_BYTES) + 0x7C, most)


def write_across_2m(harness: Harness) -> str:
    """Write across a 2 MiB boundary, mapped by base pages."""
    return _lands(harness, harness.place(_2M, _2M, before=0x400), 0x800)


def write_huge_pages(harness: Harness) -> str:
    """Write from one transparent 2 MiB page into the next."""
    iova = harness.place(2 * _2M, _2M)
    return _lands(harness, iova + _2M - 0x400, 0x800, first=iova, size=2 * _2M, backing=Backing.THP)


def write_high(harness: Harness) -> str:
    """Write to the highest IOVA that the device reaches and the IOMMU translates."""
    return _lands(harness, harness.highest(PAGE_BYTES) + 0x800, 0x400)


def read_page(harness: Harness) -> str:
    """Read 4 KiB, a whole page."""
    return _is_read(harness, harness.place(PAGE_BYTES), PAGE_BYTES)


def read_across_pages(harness: Harness) -> str:
    """Read from one page into the next."""
    iova = harness.place(2 * PAGE_BYTES)
    if harness.engine.reads.alignment < PAGE_BYTES:
        return _is_read(harness, iova + PAGE_BYTES - 0x40, 0x80)
    return _is_read(harness, iova, 2 * PAGE_BYTES)


def read_high(harness: Harness) -> str:
    """Read from the highest IOVA that the device reaches and the IOMMU translates."""
    return _is_read(harness, harness.highest(PAGE_BYTES), 0x400)


def read_only(harness: Harness) -> str:
    """A mapping without MapFlags.WRITEABLE stops the device's write and lets it read."""
    iova = harness.place(PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova, flags=MapFlags.READABLE) as window:
        said = harness.try_write(iova + 0x100, 0x200)
        window.expect()
        if harness.engine.reads.max_bytes:
            harness.read(window, iova, 0x400)
    return said or "memory untouched, and readable"


def unmapped_write(harness: Harness) -> str:
    """Where nothing is mapped a write is stopped; the pages mapped around it stay as they are."""
    iova = harness.place(3 * PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova) as below, harness.window(PAGE_BYTES, iova + 2 * PAGE_BYTES) as above:
        said = harness.try_write(iova + PAGE_BYTES + 0x100, 0x200)
        below.expect()
        above.expect()
    return said or "memory untouched"


def unmapped_read(harness: Harness) -> str:
    """Where nothing is mapped a read finds nothing."""
    _needs_reads(harness)
    iova = harness.place(PAGE_BYTES)
    content = harness.engine.readable(harness.engine.reads.fit(0x200))
    if harness.engine.read(iova, content):
        raise MismatchError(f"the device read memory at IOVA {iova:#x}, where nothing is mapped")
    return "nothing found"


def after_unmap(harness: Harness) -> str:
    """After unmap the IOVA is dead at once, though the device has just used it."""
    iova = harness.place(PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova, mapped=False) as window:
        mapping = harness.space.map(window.buffer, iova)
        content = harness.write(iova + 0x40, 0x100)
        window.expect(iova + 0x40, content)
        window.refill()
        mapping.close()
        said = harness.try_write(iova + 0x40, 0x100)
        window.expect()
    return said or "memory untouched"


def remapped(harness: Harness) -> str:
    """An IOVA that is mapped anew leads to the new memory only, though the device has just used the old one."""
    iova = harness.place(PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova, mapped=False) as old, harness.window(PAGE_BYTES, iova, mapped=False) as new:
        with harness.space.map(old.buffer, iova):
            content = harness.write(iova, 0x100)
        old.expect(iova, content)
        with harness.space.map(new.buffer, iova):
            again = harness.write(iova + 0x800, 0x100)
            new.expect(iova + 0x800, again)
        old.expect(iova, content)
    return "the new memory, not the old"


def ioas_copy(harness: Harness) -> str:
    """IOAS_COPY under running DMA: both IOVAs lead to the same memory, and either lives without the other."""
    ioas = _ioas(harness)
    iova = harness.place(2 * PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova) as window:
        original = window.mapping
        assert isinstance(original, DmaMapping)
        content = harness.engine.start_write(iova + 0x200, 0x100)
        copy = ioas.copy(original, iova + PAGE_BYTES)
        harness.engine.wait()
        window.expect(iova + 0x200, content)
        window.refill()
        content = harness.engine.start_write(iova + PAGE_BYTES + 0x600, 0x100)
        original.close()
        harness.engine.wait()
        window.expect(iova + 0x600, content)
        copy.close()
    return "both IOVAs lead there"


def map_file(harness: Harness) -> str:
    """MAP_FILE: what the device writes to a mapped memfd is in the file."""
    ioas = _ioas(harness)
    if not ioas.iommufd.probe()["IOMMU_IOAS_MAP_FILE"]:
        raise SkipError("this kernel has no IOMMU_IOAS_MAP_FILE (since Linux 6.13)")
    iova = harness.place(4 * PAGE_BYTES)
    with harness.window(4 * PAGE_BYTES, iova, backing=Backing.MEMFD, mapped=False) as window:
        ioas.map_file(window.buffer, iova)
        content = harness.write(iova + PAGE_BYTES - 0x80, 0x100)
        window.expect(iova + PAGE_BYTES - 0x80, content)
    return "in the file"


def replace(harness: Harness) -> str:
    """Replace the HWPT while the device writes: with the same mappings in both, no write gets lost unseen.

    Linux 7.3 on VT-d takes the device's context entry away before it sets the new one (device_block_translation() in
    drivers/iommu/intel/iommu.c). A write that falls in between is stopped, and that must show: by the device's error,
    or by a fault.
    """
    ioas, device = _ioas(harness), _bound(harness)
    length = harness.engine.writes.fit(8 * PAGE_BYTES)
    iova = harness.place(length + PAGE_BYTES)
    target = device.attachments[None].target
    stopped = 0
    with harness.window(-(-length // PAGE_BYTES) * PAGE_BYTES, iova) as window:
        hwpts = [device.alloc_hwpt(ioas) for _ in range(2)]
        try:
            for turn in range(_ROUNDS):
                window.refill()
                content = harness.engine.start_write(iova, length)
                device.attach(hwpts[turn % 2])
                stopped += not _arrives_or_stops(harness, window, iova, content)
        finally:
            device.attach(target)
            for hwpt in hwpts:
                hwpt.close()
    return f"{_ROUNDS} times" + (f", {stopped} writes were stopped in between, and seen to be" if stopped else "")


def _arrives_or_stops(harness: Harness, window: Window, iova: int, content: bytes) -> bool:
    """Tell whether the write that was started arrived.

    Raises:
        MismatchError: it did not, without a sign of having been stopped.
    """
    try:
        harness.engine.wait()
        window.expect(iova, content)
    except DmaError:
        harness.engine.restart()
    except MismatchError:
        if not harness.faults(expected=True):
            raise
    else:
        return True
    window.expect_at_most(iova, content)
    return False


def detach(harness: Harness) -> str:
    """Detach stops the device's writes; attached again they land."""
    device = _bound(harness)
    target = device.attachments[None].target
    iova = harness.place(PAGE_BYTES)
    with harness.window(PAGE_BYTES, iova) as window:
        device.detach()
        try:
            harness.engine.start_write(iova, 0x100)
            harness.engine.wait()
            said = ""
        except DmaError as failure:
            said = str(failure)
        finally:
            device.attach(target)
            harness.engine.restart()
        window.expect()
        window.expect(iova, harness.write(iova, 0x100))
    return said or "memory untouched"


ANY_SPACE: tuple[Case, ...] = (
    write_page,
    write_sub_page,
    write_across_pages,
    write_across_2m,
    write_huge_pages,
    write_high,
    read_page,
    read_across_pages,
    read_high,
    read_only,
    unmapped_write,
    unmapped_read,
    after_unmap,
    remapped,
)
"""Cases for an Ioas or a container of any mode."""

IOAS_ONLY: tuple[Case, ...] = (ioas_copy, map_file, replace, detach)
"""Cases of what iommufd alone can do; the space is an Ioas and the device is attached to it, or to a HWPT on it."""


STOPPING: tuple[Case, ...] = (read_only, unmapped_write, unmapped_read, after_unmap, detach)
"""Cases in which the IOMMU is to stop the device."""

_MAY_STOP: tuple[Case, ...] = (*STOPPING, replace)


def run_case(case: Case, harness: Harness) -> CaseResult:
    """Run one case and judge it, with what the IOMMU stopped meanwhile."""
    name = case.__name__.replace("_", " ")
    harness.faults()
    try:
        remark, verdict = case(harness), CaseOutcome.PASS
    except (SkipError, BackingError) as reason:
        remark, verdict = str(reason), CaseOutcome.SKIP
    except (MismatchError, DmaError) as failure:
        remark, verdict = str(failure), CaseOutcome.FAIL
        harness.engine.restart()
    faults = harness.faults(expected=case in STOPPING)
    if faults and verdict is CaseOutcome.PASS and case not in _MAY_STOP:
        remark, verdict = f"{remark}, but the IOMMU stopped DMA to where something is mapped", CaseOutcome.FAIL
    return CaseResult(name, verdict, remark, faults)


def run_storm(harness: Harness, cycles: int) -> CaseResult:
    """Run :func:`storm` and judge it."""
    harness.faults()
    name, begun = f"storm of {cycles}", time.monotonic()
    try:
        for _ in storm(harness, cycles):
            pass
    except (MismatchError, DmaError) as failure:
        return CaseResult(name, CaseOutcome.FAIL, str(failure), harness.faults())
    faults = harness.faults()
    verdict = CaseOutcome.FAIL if faults else CaseOutcome.PASS
    return CaseResult(name, verdict, f"0 mismatches in {time.monotonic() - begun:.0f} s", faults)


def storm(harness: Harness, cycles: int) -> Iterator[int]:
    """Map, have the device write or read, verify and unmap, at sizes, offsets and IOVAs of chance; yield the count.

    Raises:
        MismatchError: in the first cycle in which a byte is wrong; the text has what was tried.
    """
    ranges = harness.ranges
    with DmaBuffer(_STORM_BYTES) as buffer:
        before = harness.random.randbytes(_STORM_BYTES)
        with buffer.view as view:
            view[:] = before
        for cycle in range(cycles):
            _storm_cycle(harness, ranges, buffer, before)
            yield cycle + 1


def _storm_cycle(harness: Harness, ranges: tuple[IovaRange, ...], buffer: DmaBuffer, before: bytes) -> None:
    chance, engine = harness.random, harness.engine
    reading = bool(engine.reads.max_bytes) and chance.random() < 0.25
    limits = engine.reads if reading else engine.writes
    # As many small as large ones.
    most = min(limits.max_bytes, _STORM_MOST)
    length = max(limits.fit(int(2 ** chance.uniform(0, math.log2(most)))), limits.granule)
    skew = chance.randrange(0, PAGE_BYTES, limits.alignment) if limits.alignment < PAGE_BYTES else 0
    size = -(-(skew + length) // PAGE_BYTES) * PAGE_BYTES
    offset = chance.randrange(0, buffer.length - size + 1, PAGE_BYTES)
    one = chance.choice([one for one in ranges if one.length >= size])
    first = chance.randrange(-(-one.start // PAGE_BYTES), (one.last + 1 - size) // PAGE_BYTES + 1) * PAGE_BYTES
    tried = f"{'read' if reading else 'write'} of {length} bytes at IOVA {first + skew:#x}"
    at = offset + skew
    with harness.space.map(buffer, first, offset=offset, length=size):
        engine.sync(buffer)
        if reading:
            content = engine.readable(length)
            with buffer.view as view:
                view[at : at + length] = content
            engine.sync(buffer)
            if not engine.read(first + skew, content):
                raise MismatchError(f"{tried}: the device found something else")
        else:
            content = engine.write(first + skew, length)
            engine.sync(buffer)
    with buffer.view as view:
        # bytes() and a comparison of bytes: one of memoryviews goes element by element.
        if bytes(view) != before[:at] + content + before[at + length :]:
            raise MismatchError(f"{tried}: memory is not as it must be")
        view[at : at + length] = before[at : at + length]


def _lands(
    harness: Harness,
    iova: int,
    length: int,
    *,
    first: int | None = None,
    size: int | None = None,
    backing: Backing = Backing.ANON_4K,
) -> str:
    """Have the device write, and check all of the pages that it touches."""
    if first is None:
        first = iova // PAGE_BYTES * PAGE_BYTES
    if size is None:
        size = (iova + length - 1) // PAGE_BYTES * PAGE_BYTES + PAGE_BYTES - first
    with harness.window(size, first, backing=backing) as window:
        window.expect(iova, harness.write(iova, length))
    return f"{length} bytes at {iova:#x}"


def _is_read(harness: Harness, iova: int, length: int) -> str:
    _needs_reads(harness)
    first = iova // PAGE_BYTES * PAGE_BYTES
    size = (iova + length - 1) // PAGE_BYTES * PAGE_BYTES + PAGE_BYTES - first
    with harness.window(size, first) as window:
        harness.read(window, iova, length)
    return f"{length} bytes at {iova:#x}"


def _needs_reads(harness: Harness) -> None:
    if not harness.engine.reads.max_bytes:
        raise SkipError(f"{harness.bdf} has no namespace to read from, without which it fetches no commands of its own")


def _ioas(harness: Harness) -> Ioas:
    assert isinstance(harness.space, Ioas)
    return harness.space


def _bound(harness: Harness) -> BoundDevice:
    assert isinstance(harness.engine.device, BoundDevice)
    return harness.engine.device
