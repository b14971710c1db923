# SPDX-License-Identifier: MIT
"""Cases that show, byte by byte, whether a kernel flushes the CPU caches for DMA that does not snoop.

A case does only what a program may do with a device. It leaves every flush to the kernel that is the kernel's duty, and
records what the device and the CPU read. The docstring of a case is the condition that must hold.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from iommufd_py.base.errors import BackingError, SkipError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.coherency import CoherencyResult, CoherencyVerdict, Content
from iommufd_py.dma.coherency_harness import CoherencyHarness
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.mapping import Mapping
from iommufd_py.uapi.enums import MapFlags

_PAGES = 2
_HALF = 4 * PAGE_BYTES
_SCATTERED, _CONTIGUOUS = 24, 64
# Pages that a case frees, in the hope that its next buffer gets some of them. The device writes to some of them.
_FREED, _WRITTEN = 64, 8
_HUGE = 2 << 20


def fill_before_map(harness: CoherencyHarness) -> None:
    """The device reads the data that the CPU wrote before the map."""
    with DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        new, old = harness.write(buffer)
        with harness.space.map(buffer, harness.iova):
            harness.device_reads("after the map", new, [old])


def fresh_page(harness: CoherencyHarness) -> None:
    """The device reads zeros from a page that the kernel has just cleared, not the memory of its former owner."""
    former = harness.content("the former owner's memory", PAGE_BYTES)
    with DmaBuffer(_FREED * PAGE_BYTES) as old:
        harness.put(old, former.times(_FREED), in_memory=True)
        frames = set(old.frames())
    with DmaBuffer(_FREED * PAGE_BYTES) as new:
        at = _reused_page(new, frames) * PAGE_BYTES
        with harness.space.map(new, harness.iova):
            harness.device_reads("after the map", Content.zeros(PAGE_BYTES), [former], at)


def next_owner(harness: CoherencyHarness) -> None:
    """Neither the device nor the CPU of a page's next owner reads data that a device wrote for the former owner."""
    former = harness.content("the former owner's memory", PAGE_BYTES)
    packets = {}
    with DmaBuffer(_FREED * PAGE_BYTES) as old:
        harness.put(old, former.times(_FREED), in_memory=True)
        with harness.space.map(old, harness.iova):
            for page, frame in enumerate(old.frames()[:_WRITTEN]):
                origin = "the device's data for the former owner"
                packets[frame] = harness.device_writes(PAGE_BYTES // 8, origin, page * PAGE_BYTES)
    with DmaBuffer(_FREED * PAGE_BYTES) as new:
        page = _reused_page(new, set(packets))
        at, zeros, others = page * PAGE_BYTES, Content.zeros(PAGE_BYTES), [packets[new.frames()[page]], former]
        with harness.space.map(new, harness.iova):
            harness.device_reads("after the map", zeros, others, at)
        harness.cpu_reads("after the unmap", new, [zeros], others, at)
        new.flush(at, PAGE_BYTES)
        harness.cpu_reads("after a CLFLUSH", new, [zeros], others, at)


def after_unmap(harness: CoherencyHarness) -> None:
    """After the unmap the CPU reads the device's data, and a CLFLUSH does not change it."""
    _unmapped(harness, harness.space.map)


def read_only_map(harness: CoherencyHarness) -> None:
    """The device reads the data that the CPU wrote before a read-only map."""
    with DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        new, old = harness.write(buffer)
        with harness.space.map(buffer, harness.iova, flags=MapFlags.READABLE):
            harness.device_reads("after the map", new, [old])


def scattered_pages(harness: CoherencyHarness) -> None:
    """The device reads the CPU's data in each of many pages that are physically scattered."""
    with DmaBuffer(2 * _SCATTERED * PAGE_BYTES) as hog:
        for page in range(0, 2 * _SCATTERED, 2):
            hog.give_back(page * PAGE_BYTES, PAGE_BYTES)
        with DmaBuffer(_SCATTERED * PAGE_BYTES) as buffer:
            runs = buffer.physical_runs()
            if runs is not None and sum(runs.values()) < _SCATTERED // 2:
                raise SkipError(
                    f"the kernel gave no scattered pages: {_SCATTERED} pages are {sum(runs.values())} contiguous runs"
                )
            new, old = harness.write(buffer)
            with harness.space.map(buffer, harness.iova):
                harness.device_reads_pages("after the map", new, [old])


def contiguous_pages(harness: CoherencyHarness) -> None:
    """The device reads the CPU's data in each page of a huge page of which a part is mapped."""
    with DmaBuffer(_HUGE, Backing.THP) as buffer:
        new, old = harness.write(buffer, _CONTIGUOUS * PAGE_BYTES)
        with harness.space.map(buffer, harness.iova, length=_CONTIGUOUS * PAGE_BYTES):
            harness.device_reads_pages("after the map", new, [old])


def huge_folio(harness: CoherencyHarness) -> None:
    """Device and CPU read each other's writes in one 2 MiB folio, the memory that a virtual machine often has."""
    _both_ways(harness, harness.space.map, Backing.MEMFD_HUGETLB_2M, _HUGE)


def mapped_file(harness: CoherencyHarness) -> None:
    """Device and CPU read each other's writes in a memfd that is mapped by its descriptor."""
    ioas = _ioas(harness)
    if not ioas.iommufd.probe()["IOMMU_IOAS_MAP_FILE"]:
        raise SkipError("this kernel has no IOMMU_IOAS_MAP_FILE (since Linux 6.13)")
    _both_ways(harness, ioas.map_file, Backing.MEMFD, _PAGES * PAGE_BYTES)


def attach_to_populated(harness: CoherencyHarness) -> None:
    """A device that attaches to an IOAS with mappings reads the data that the CPU wrote before the maps."""
    with _other_ioas(harness) as other, DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        new, old = harness.write(buffer)
        other.map(buffer, harness.iova)
        with _device(harness).alloc_hwpt(other) as domain, _attached(harness, domain):
            harness.device_reads("after the attach", new, [old])


def half_mapped_later(harness: CoherencyHarness) -> None:
    """Two IOASes map the halves of one buffer by IOAS_COPY: the device reads the half that its IOAS maps last."""
    ioas = _ioas(harness)
    with _other_ioas(harness) as source, _other_ioas(harness) as other, DmaBuffer(2 * _HALF) as buffer:
        new, old = harness.write(buffer)
        whole = source.map(buffer, harness.iova)
        other.copy(whole, harness.iova, offset=_HALF, length=_HALF)
        with _device(harness).alloc_hwpt(other) as domain:
            with _attached(harness, domain):
                harness.device_reads("after the attach", new.part(_HALF), [old.part(_HALF)])
            with ioas.copy(whole, harness.iova, length=_HALF):
                harness.device_reads("after the copy", new.part(0, _HALF), [old.part(0, _HALF)])


def half_attached_later(harness: CoherencyHarness) -> None:
    """Two IOASes map the halves of one buffer by IOAS_COPY: the device reads the half of the IOAS it joins last."""
    ioas = _ioas(harness)
    with _other_ioas(harness) as source, _other_ioas(harness) as other, DmaBuffer(2 * _HALF) as buffer:
        new, old = harness.write(buffer)
        whole = source.map(buffer, harness.iova)
        with ioas.copy(whole, harness.iova, length=_HALF):
            harness.device_reads("after the copy", new.part(0, _HALF), [old.part(0, _HALF)])
            other.copy(whole, harness.iova, offset=_HALF, length=_HALF)
            with _device(harness).alloc_hwpt(other) as domain, _attached(harness, domain):
                harness.device_reads("after the attach", new.part(_HALF), [old.part(_HALF)])


def one_of_two_hwpts(harness: CoherencyHarness) -> None:
    """After the unmap the CPU reads the device's data, although one of the IOAS's two HWPTs was destroyed before."""
    ioas, device = _ioas(harness), _device(harness)

    def mapped(buffer: DmaBuffer, iova: int) -> DmaMapping:
        with device.alloc_hwpt(ioas):
            return ioas.map(buffer, iova)

    _unmapped(harness, mapped)


def replaced_hwpt(harness: CoherencyHarness) -> None:
    """Device and CPU read each other's writes although another HWPT replaces the first one after the map."""
    ioas, device = _ioas(harness), _device(harness)
    before = device.attachments[None].target
    with device.alloc_hwpt(ioas) as second:

        def mapped(buffer: DmaBuffer, iova: int) -> DmaMapping:
            mapping = ioas.map(buffer, iova)
            device.attach(second)
            return mapping

        try:
            _both_ways(harness, mapped, Backing.ANON_4K, _PAGES * PAGE_BYTES)
        finally:
            device.attach(before)


def _unmapped(harness: CoherencyHarness, mapped: Callable[[DmaBuffer, int], Mapping]) -> None:
    """Let the device write to memory of which the caches hold clean lines; let the CPU read it after the unmap."""
    with DmaBuffer(_PAGES * PAGE_BYTES) as buffer:
        mine = harness.content("the CPU's data", _PAGES * PAGE_BYTES)
        harness.put(buffer, mine, in_memory=True)
        harness.cpu_reads("before the map", buffer, [mine])
        mapping = mapped(buffer, harness.iova)
        _written_by_the_device(harness, buffer, mapping, mine)


def _both_ways(
    harness: CoherencyHarness, mapped: Callable[[DmaBuffer, int], Mapping], backing: Backing, length: int
) -> None:
    with DmaBuffer(length, backing) as buffer:
        new, old = harness.write(buffer, _PAGES * PAGE_BYTES)
        mapping = mapped(buffer, harness.iova)
        harness.device_reads("after the map", new, [old])
        # Without this flush, stale lines of the map would look like a fault of the unmap.
        buffer.flush(0, _PAGES * PAGE_BYTES)
        _written_by_the_device(harness, buffer, mapping, new)


def _written_by_the_device(harness: CoherencyHarness, buffer: DmaBuffer, mapping: Mapping, before: Content) -> None:
    at = PAGE_BYTES // 4
    written = harness.device_writes(PAGE_BYTES // 2, "the device's data", at)
    mapping.close()
    wanted = [before.part(0, at), written, before.part(at + PAGE_BYTES // 2)]
    harness.cpu_reads("after the unmap", buffer, wanted, [before])
    buffer.flush(0, _PAGES * PAGE_BYTES)
    harness.cpu_reads("after a CLFLUSH", buffer, wanted, [before])


def _reused_page(buffer: DmaBuffer, frames: set[int]) -> int:
    """Return the number of a page of *buffer* whose page frame is one of *frames*.

    Raises:
        SkipError: no page has one of them, or the kernel hides the page frames (not root).
    """
    pages = [page for page, frame in enumerate(buffer.frames()) if frame and frame in frames]
    if not pages:
        raise SkipError(
            f"the next buffer has none of the {len(frames)} freed pages, or the kernel hides page frames (run as root)"
        )
    # From the middle: the first pages on a list of free pages may be mixed with pages that others freed.
    return pages[len(pages) // 2]


def _ioas(harness: CoherencyHarness) -> Ioas:
    if not isinstance(harness.space, Ioas):
        raise SkipError("this case needs an iommufd: use --container iommufd")
    return harness.space


def _device(harness: CoherencyHarness) -> BoundDevice:
    device = harness.engine.device
    if not isinstance(device, BoundDevice):
        raise SkipError("this case needs a device that is bound to an iommufd: use --container iommufd")
    return device


@contextmanager
def _other_ioas(harness: CoherencyHarness) -> Iterator[Ioas]:
    """Allocate another IOAS that maps the memory of the device's engine, for the block; its mappings end with it."""
    memory = harness.engine.memory
    iommufd = _ioas(harness).iommufd
    if not isinstance(iommufd, Iommufd) or not isinstance(memory, DmaMapping):
        raise SkipError("this case needs an iommufd: use --container iommufd")
    with iommufd.alloc_ioas() as other:
        other.copy(memory, memory.iova)
        yield other


@contextmanager
def _attached(harness: CoherencyHarness, hwpt: Hwpt) -> Iterator[None]:
    """Attach the device to another HWPT during the block."""
    device = _device(harness)
    before = device.attachments[None].target
    device.attach(hwpt)
    try:
        yield
    finally:
        device.attach(before)


@dataclass(frozen=True, slots=True)
class CoherencyCase:
    """One case.

    Attributes:
        rule: number of the rule in :data:`~iommufd_py.dma.coherency.RULES` that the case checks.
        run: the function of the case.
    """

    rule: int
    run: Callable[[CoherencyHarness], None]

    @property
    def name(self) -> str:
        """Name of the case."""
        return self.run.__name__.replace("_", " ")

    @property
    def purpose(self) -> str:
        """The condition that must hold."""
        return (self.run.__doc__ or "").strip()


COHERENCY_CASES = (
    CoherencyCase(1, fill_before_map),
    CoherencyCase(1, fresh_page),
    CoherencyCase(3, after_unmap),
    CoherencyCase(3, next_owner),
    CoherencyCase(2, attach_to_populated),
    CoherencyCase(1, half_mapped_later),
    CoherencyCase(2, half_attached_later),
    CoherencyCase(3, one_of_two_hwpts),
    CoherencyCase(3, replaced_hwpt),
    CoherencyCase(1, read_only_map),
    CoherencyCase(1, scattered_pages),
    CoherencyCase(1, contiguous_pages),
    CoherencyCase(1, huge_folio),
    CoherencyCase(1, mapped_file),
)
"""All cases. Those that need another IOAS or HWPT are skipped if the device is not bound to an iommufd."""


def run_coherency_case(case: CoherencyCase, harness: CoherencyHarness) -> CoherencyResult:
    """Run one case and judge its readings."""
    harness.readings.clear()
    try:
        case.run(harness)
    except (SkipError, BackingError) as reason:
        return CoherencyResult(case.name, case.rule, CoherencyVerdict.SKIP, (), str(reason))
    right = all(reading.right for reading in harness.readings)
    verdict = CoherencyVerdict.RIGHT if right else CoherencyVerdict.WRONG
    return CoherencyResult(case.name, case.rule, verdict, tuple(harness.readings))
