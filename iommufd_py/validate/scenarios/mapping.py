# SPDX-License-Identifier: MIT
"""New mappings, rule 1: the domains of the IOAS decide whether pages are flushed."""

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.uapi.enums import MapFlags
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.scenario import scenario

COHERENT, NON_COHERENT = Coherency.COHERENT, Coherency.NON_COHERENT


@scenario((1, 3), "iopt_area_fill_domains", "batch_unpin")
def map_non_coherent(context: ScenarioContext) -> None:
    """Map into an IOAS with a non-coherent domain, and unmap.

    The plain case: flush before the map, and again between unmap and unpin.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    context.close(mapping, "unmap", leave=buffer.pages())


@scenario((1, 3), "iopt_area_fill_domains", "batch_unpin")
def map_coherent(context: ScenarioContext) -> None:
    """Map into an IOAS whose only domain is coherent, unmap, map again and destroy the domain.

    The kernel must flush nothing: coherent devices must not pay for it.
    """
    ioas = context.ioas()
    hwpt = context.domain(ioas, COHERENT)
    buffer = context.buffer()
    context.close(context.map(ioas, buffer), "unmap")
    context.map(ioas, buffer)
    context.close(hwpt, "the domain goes")


@scenario((1, 3), "iopt_map_pages")
def map_without_domain(context: ScenarioContext) -> None:
    """Map into an IOAS without a domain, and unmap.

    No device can reach the pages; the kernel does not even pin them.
    """
    ioas = context.ioas()
    buffer = context.buffer()
    context.close(context.map(ioas, buffer), "unmap")


@scenario((1, 3), "iopt_area_fill_domains", "iopt_table_add_domain")
def map_one_of_each(context: ScenarioContext) -> None:
    """Map into an IOAS with a coherent and a non-coherent domain, in both orders of joining.

    One non-coherent domain is enough, in any position of the list of domains.
    """
    for first, second in ((COHERENT, NON_COHERENT), (NON_COHERENT, COHERENT)):
        ioas = context.ioas()
        context.domain(ioas, first)
        context.domain(ioas, second)
        buffer = context.buffer()
        mapping = context.map(ioas, buffer, enter=buffer.pages())
        context.close(mapping, f"unmap, {first} first", leave=buffer.pages())


@scenario((1, 3), "iopt_area_fill_domains")
def map_two_non_coherent(context: ScenarioContext) -> None:
    """Map into an IOAS with two non-coherent domains, and unmap.

    The kernel flushes once per page, not once per domain.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    context.close(mapping, "unmap", leave=buffer.pages())


@scenario((1, 3), "iopt_table_remove_domain", "iopt_area_fill_domains")
def map_after_the_last_non_coherent(context: ScenarioContext) -> None:
    """Map, destroy the only non-coherent domain of two, map something else, unmap both.

    New pages are not flushed any more, but the old ones are flushed when they are unpinned.
    """
    ioas = context.ioas()
    context.domain(ioas, COHERENT)
    goes = context.domain(ioas, NON_COHERENT)
    old, new = context.buffer(), context.buffer()
    first = context.map(ioas, old, enter=old.pages())
    context.close(goes, "the non-coherent domain goes")
    second = context.map(ioas, new)
    context.close(second, "unmap the new pages")
    context.close(first, "unmap the old pages", leave=old.pages())


@scenario((1, 3), "iopt_table_remove_domain", "iopt_table_add_domain")
def map_while_domains_come_and_go(context: ScenarioContext) -> None:
    """Two non-coherent domains join and one leaves, then the other, then one comes back; map each time.

    The kernel counts non-coherent domains, and must not count the coherent domains that come and go. With a count
    too low a map is not flushed; with a count too high it is flushed for coherent devices.
    """
    ioas = context.ioas()
    context.domain(ioas, COHERENT)
    first, second = context.domain(ioas, NON_COHERENT), context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(4)

    def map_and_unmap(flushed: bool) -> None:
        pages = buffer.pages() if flushed else ()
        context.close(context.map(ioas, buffer, enter=pages), "unmap", leave=pages)

    map_and_unmap(True)
    context.close(first, "one non-coherent domain goes")
    map_and_unmap(True)
    context.close(context.domain(ioas, COHERENT), "a coherent domain comes and goes while a non-coherent one stays")
    map_and_unmap(True)
    context.close(second, "the other goes")
    map_and_unmap(False)
    context.close(context.domain(ioas, COHERENT), "a coherent domain comes and goes")
    map_and_unmap(False)
    context.domain(ioas, NON_COHERENT)
    map_and_unmap(True)


@scenario((1, 3), "iopt_area_fill_domains")
def map_for_reading(context: ScenarioContext) -> None:
    """Map so that the device may only read, and unmap.

    A device that only reads can still read stale data from memory, so its pages are flushed as well.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    with context.step("map", enter=buffer.pages()):
        iova = context.iova(buffer.memory.length)
        mapping = ioas.map(buffer.memory, iova, flags=MapFlags.READABLE)
    context.close(mapping, "unmap", leave=buffer.pages())


@scenario((1, 3), "iopt_alloc_pages")
def map_the_same_memory_twice(context: ScenarioContext) -> None:
    """Map the same memory twice, into one IOAS, and into one with a coherent domain; unmap one after the other.

    For the kernel two maps are two sets of pages: it flushes each of them, and never the coherent one.
    """
    ioas, other = context.ioas(), context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    first = context.map(ioas, buffer, enter=buffer.pages())
    second = context.map(ioas, buffer, enter=buffer.pages())
    without = context.map(other, buffer)
    context.close(first, "unmap the first", leave=buffer.pages())
    context.close(second, "unmap the second", leave=buffer.pages())
    context.close(without, "unmap from the IOAS without a domain")


@scenario((1, 3), "iopt_area_fill_domains", "batch_to_domain")
def map_parts_of_pages(context: ScenarioContext) -> None:
    """Map from the middle of one page to the middle of another; then the two halves of a page by themselves.

    The first and the last page are partly mapped. The kernel may flush the whole page or the mapped part.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    half = ioas.iova_ranges().alignment
    context.need_parts_of_pages(half)
    across, halves = context.buffer(4), context.buffer(1)
    with context.step("map across pages", enter=across.pages(0, 3)):
        mapping = ioas.map(across.memory, context.iova(PAGE_BYTES), offset=half, length=2 * PAGE_BYTES)
    context.close(mapping, "unmap", leave=across.pages(0, 3))
    parts = []
    for offset in (0, half):
        with context.step("map a half", enter=halves.pages()):
            iova = context.iova(PAGE_BYTES) + offset
            parts.append(ioas.map(halves.memory, iova, offset=offset, length=PAGE_BYTES - half))
    for part in parts:
        context.close(part, "unmap a half", leave=halves.pages())


@scenario((1, 3), "pfn_reader_next", "iopt_area_unpin_domain")
def map_in_several_batches(context: ScenarioContext) -> None:
    """Map and unmap with so little memory for batches that the kernel needs many.

    Every batch is flushed, not only the first or the last.
    """
    ioas = context.ioas()
    first = context.domain(ioas, NON_COHERENT)
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(40, scattered=True)
    with context.small_batches():
        context.map(ioas, buffer, enter=buffer.pages())
        context.close(first, "a domain goes")
        again = context.domain(ioas, NON_COHERENT, enter=buffer.pages())
        with context.step("unmap", rule=3, leave=buffer.pages()):
            ioas.unmap_all()
        again.close()


@scenario((1, 3), "iommufd_ioas_map")
def map_from_threads(context: ScenarioContext) -> None:
    """Four threads map and unmap, each in an IOAS of its own and all in a common one.

    The kernel's counter and mark need locks.
    """
    rounds = 4
    common = context.ioas()
    context.domain(common, NON_COHERENT)
    tasks = []
    for _ in range(4):
        own = context.ioas()
        context.domain(own, NON_COHERENT)
        tasks.append([(ioas, context.buffer(4), context.iova(4 * PAGE_BYTES)) for ioas in (own, common)])
    pages = rounds * tuple(page for task in tasks for _, buffer, _ in task for page in buffer.pages())

    def map_and_unmap(task: int) -> None:
        for _ in range(rounds):
            for ioas, buffer, iova in tasks[task]:
                ioas.map_user_va(buffer.memory.user_va, buffer.memory.length, iova)
            for ioas, buffer, iova in tasks[task]:
                ioas.unmap(iova, buffer.memory.length)

    with context.step("map and unmap", enter=pages, leave=pages):
        context.in_threads(len(tasks), map_and_unmap)


@scenario((1, 3), "iopt_map_file_pages")
def map_dmabuf(context: ScenarioContext) -> None:
    """Map a dma-buf, destroy a non-coherent domain, make another, unmap.

    Its memory belongs to a device and is neither cached nor pinned: a flush is useless, and can be fatal. On a device
    the dma-buf is a BAR of the device itself, which vfio-pci exports.
    """
    context.need_ioctl("IOMMU_IOAS_MAP_FILE")
    ioas = context.ioas()
    goes = context.domain(ioas, NON_COHERENT)
    dmabuf = context.dmabuf()
    with context.step("map"):
        mapping = ioas.map_file(dmabuf, context.iova(dmabuf.length))
    context.close(goes, "the domain goes")
    context.domain(ioas, NON_COHERENT)
    context.close(mapping, "unmap")
