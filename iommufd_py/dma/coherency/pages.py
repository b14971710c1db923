# SPDX-License-Identifier: MIT
"""Cases of one map and one unmap: fresh pages, a page's next owner, and memory of each kind."""

from iommufd_py.base.errors import SkipError
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.dma.coherency.readings import Content
from iommufd_py.dma.coherency.steps import PAGES, after_an_unmap, both_ways, the_ioas
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.uapi.enums import MapFlags

_SCATTERED, _CONTIGUOUS = 24, 64
# iommufd maps batches of pages. A batch holds 5461 runs (struct pfn_batch in drivers/iommu/iommufd/pages.c).
_MANY = 8000
# Pages that a case frees, in the hope that its next buffer gets some of them. The device writes to some of them.
_FREED, _WRITTEN = 64, 8
_HUGE = 2 << 20


def fill_before_map(harness: CoherencyHarness) -> None:
    """The device reads the data that the CPU wrote before the map."""
    with DmaBuffer(PAGES * PAGE_BYTES) as buffer:
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
    after_an_unmap(harness, harness.space.map)


def read_only_map(harness: CoherencyHarness) -> None:
    """The device reads the data that the CPU wrote before a read-only map."""
    with DmaBuffer(PAGES * PAGE_BYTES) as buffer:
        new, old = harness.write(buffer)
        with harness.space.map(buffer, harness.iova, flags=MapFlags.READABLE):
            harness.device_reads("after the map", new, [old])


def scattered_pages(harness: CoherencyHarness) -> None:
    """The device reads the CPU's data in each of many pages that are physically scattered."""
    with DmaBuffer(_SCATTERED * PAGE_BYTES, Backing.FRAGMENTED_1) as buffer:
        new, old = harness.write(buffer)
        with harness.space.map(buffer, harness.iova):
            harness.device_reads_pages("after the map", new, [old])


def many_scattered_pages(harness: CoherencyHarness) -> None:
    """The device reads the CPU's data in the first and the last of more scattered pages than a batch holds."""
    with DmaBuffer(_MANY * PAGE_BYTES, Backing.FRAGMENTED_1) as buffer:
        new, old = harness.write(buffer)
        last = buffer.length - PAGE_BYTES
        with harness.space.map(buffer, harness.iova):
            harness.device_reads("after the map", new.part(0, PAGE_BYTES), [old.part(0, PAGE_BYTES)])
            harness.device_reads("after the map", new.part(last), [old.part(last)], last)


def contiguous_pages(harness: CoherencyHarness) -> None:
    """The device reads the CPU's data in each page of a huge page of which a part is mapped."""
    with DmaBuffer(_HUGE, Backing.THP) as buffer:
        new, old = harness.write(buffer, _CONTIGUOUS * PAGE_BYTES)
        with harness.space.map(buffer, harness.iova, length=_CONTIGUOUS * PAGE_BYTES):
            harness.device_reads_pages("after the map", new, [old])


def huge_folio(harness: CoherencyHarness) -> None:
    """Device and CPU read each other's writes in one 2 MiB folio, the memory that a virtual machine often has."""
    both_ways(harness, harness.space.map, Backing.MEMFD_HUGETLB_2M, _HUGE)


def mapped_file(harness: CoherencyHarness) -> None:
    """Device and CPU read each other's writes in a memfd that is mapped by its descriptor."""
    ioas = the_ioas(harness)
    if not ioas.iommufd.probe()["IOMMU_IOAS_MAP_FILE"]:
        raise SkipError("this kernel has no IOMMU_IOAS_MAP_FILE (since Linux 6.13)")
    both_ways(harness, ioas.map_file, Backing.MEMFD, PAGES * PAGE_BYTES)


def _reused_page(buffer: DmaBuffer, frames: set[int]) -> int:
    """Return the number of a page of *buffer* whose page frame is one of *frames*.

    Raises:
        SkipError: no page has one of these frames, or the kernel hides the page frames.
    """
    if not any(frames):
        raise SkipError(f"the kernel hides page frames: {permission_remedy()}")
    pages = [page for page, frame in enumerate(buffer.frames()) if frame and frame in frames]
    if not pages:
        raise SkipError(f"the next buffer has none of the {len(frames)} freed pages")
    # A page from the middle: other processes may have freed some of the first pages on a list of free pages.
    return pages[len(pages) // 2]
