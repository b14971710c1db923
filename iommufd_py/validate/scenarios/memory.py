# SPDX-License-Identifier: MIT
"""Memory of every kind: every cached page is flushed, whatever its origin."""

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.objects.buffer import Backing
from iommufd_py.validate.context import HUGE_PAGES, ScenarioContext
from iommufd_py.validate.scenario import scenario

NON_COHERENT = Coherency.NON_COHERENT
_FRAME_OF_4G = (1 << 32) // PAGE_BYTES


@scenario((1, 2, 3), "batch_from_folios", "batch_unpin")
def memory_of_a_memfd(context: ScenarioContext) -> None:
    """Map a memfd through its descriptor, let a second domain join, unmap; then a part of it.

    The kernel gets its pages as folios, not by user addresses.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(backing=Backing.MEMFD)
    mapping = context.map(ioas, buffer, enter=buffer.pages(), through_file=True)
    context.domain(ioas, NON_COHERENT, enter=buffer.pages())
    context.close(mapping, "unmap", leave=buffer.pages())
    part = context.map(ioas, buffer, 3, 5, enter=buffer.pages(3, 5), through_file=True)
    context.close(part, "unmap", leave=buffer.pages(3, 5))


@scenario((1, 3), "batch_from_pages", "batch_unpin")
def memory_shared(context: ScenarioContext) -> None:
    """Map a memfd by its address, unmap.

    The pages are shared, and pinned as user memory.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(backing=Backing.MEMFD)
    context.close(context.map(ioas, buffer, enter=buffer.pages()), "unmap", leave=buffer.pages())


@scenario((1, 2, 3), "batch_add_pfn_num", "batch_unpin")
def memory_in_huge_pages(context: ScenarioContext) -> None:
    """Map a transparent huge page, let a second domain join, unmap; then some pages in the middle of it.

    The kernel flushes a run of pages from its first byte to its last one. If a part is mapped, it flushes that part
    only.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(HUGE_PAGES, Backing.THP)
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    context.domain(ioas, NON_COHERENT, enter=buffer.pages())
    context.close(mapping, "unmap", leave=buffer.pages())
    part = context.map(ioas, buffer, 100, 3, enter=buffer.pages(100, 3))
    context.close(part, "unmap", leave=buffer.pages(100, 3))


@scenario((1, 3), "batch_add_pfn_num", "batch_unpin")
def memory_in_hugetlb_pages(context: ScenarioContext) -> None:
    """Map a page of hugetlbfs, and unmap.

    The run of pages is as long as the huge page.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(HUGE_PAGES, Backing.HUGETLB_2M)
    context.close(context.map(ioas, buffer, enter=buffer.pages()), "unmap", leave=buffer.pages())


@scenario((1, 2, 3), "batch_add_pfn_num", "batch_unpin")
def memory_in_a_page_of_1g(context: ScenarioContext) -> None:
    """Map pages in the middle of a page of 1G, let a second domain join, unmap.

    The kernel flushes the mapped pages only, 2M and more, and not the whole huge page.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    middle = Backing.HUGETLB_1G.page_bytes // PAGE_BYTES // 2
    mapped = range(middle - HUGE_PAGES, middle + 6)
    buffer = context.buffer(2 * middle, Backing.HUGETLB_1G, named=mapped)
    mapping = context.map(ioas, buffer, mapped.start, len(mapped), enter=buffer.pages())
    context.domain(ioas, NON_COHERENT, enter=buffer.pages())
    context.close(mapping, "unmap", leave=buffer.pages())


@scenario((1, 2, 3), "batch_from_folios", "batch_unpin")
def memory_of_a_memfd_in_huge_pages(context: ScenarioContext) -> None:
    """Map a memfd in huge pages through its descriptor, let a second domain join, unmap; then a part of it.

    The memory is one folio, and the kernel flushes only its mapped pages. Virtual machines use such memory.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(HUGE_PAGES, Backing.MEMFD_HUGETLB_2M)
    mapping = context.map(ioas, buffer, enter=buffer.pages(), through_file=True)
    context.domain(ioas, NON_COHERENT, enter=buffer.pages())
    context.close(mapping, "unmap", leave=buffer.pages())
    part = context.map(ioas, buffer, 100, 3, enter=buffer.pages(100, 3), through_file=True)
    context.close(part, "unmap", leave=buffer.pages(100, 3))


@scenario((3,), "iopt_pages_unpin_xarray", "batch_unpin")
def memory_in_huge_pages_held_in_part(context: ScenarioContext) -> None:
    """An access pins one page in the middle of a huge page; the domain is destroyed, then the access unpins.

    The pin divides the run: the kernel flushes the unpinned pages, and the pinned page when the access unpins it.
    """
    ioas = context.ioas()
    hwpt = context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(HUGE_PAGES, Backing.THP)
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    with context.step("an access pins page 7"):
        pin = context.access(ioas).pin(mapping.iova + 7 * PAGE_BYTES, PAGE_BYTES, mapping.user_va + 7 * PAGE_BYTES)
    others = tuple(page for page in buffer.pages() if page.number != 7)
    context.close(hwpt, "the domain goes", leave=others)
    context.close(pin, "the access unpins", leave=buffer.pages(7, 1))


@scenario((1, 2, 3), "iommufd_ioas_change_process", "batch_unpin")
def memory_taken_over_by_another_process(context: ScenarioContext) -> None:
    """Another process takes over the mappings and ends; a second domain joins, the first one goes, then all is closed.

    The pages are then charged to the other process and stay pinned. Their mark also stays.
    """
    context.need_ioctl("IOMMU_IOAS_CHANGE_PROCESS")
    ioas = context.ioas()
    hwpt = context.domain(ioas, NON_COHERENT)
    buffers = [context.buffer(8, Backing.MEMFD), context.buffer(8, Backing.MEMFD)]
    for buffer in buffers:
        context.map(ioas, buffer, enter=buffer.pages(), through_file=True)
    with context.step("another process takes over"):
        context.in_another_process(context.iommufd.change_process)
    pages = buffers[0].pages() + buffers[1].pages()
    context.domain(ioas, NON_COHERENT, enter=pages)
    context.close(hwpt, "the first domain goes")
    with context.step("unmap everything", rule=3, leave=pages):
        ioas.unmap_all()


@scenario((1, 2, 3), "batch_add_pfn_num", "batch_unpin")
def memory_above_4g(context: ScenarioContext) -> None:
    """Map memory whose physical addresses need more than 32 bits, let a second domain join, unmap.

    A kernel that computes a physical address in 32 bits flushes other pages.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(HUGE_PAGES)
    frames = buffer.frames()
    context.need(
        any(frame >= _FRAME_OF_4G for frame in frames),
        "no page of the buffer is above 4 GiB, or frames are not visible",
    )
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    context.domain(ioas, NON_COHERENT, enter=buffer.pages())
    context.close(mapping, "unmap", leave=buffer.pages())
