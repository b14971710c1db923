# SPDX-License-Identifier: MIT
"""Calls that fail half way: the pages mapped before the failure were exposed, and are flushed before their unpin."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import IommufdError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.objects.buffer import Backing
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.ioas import Ioas
from iommufd_py.uapi.enums import HwptAllocFlags
from iommufd_py.uapi.fault_injection import FaultInjection
from iommufd_py.validate.context import HUGE_PAGES, ScenarioContext
from iommufd_py.validate.recorder import Pages
from iommufd_py.validate.scenario import scenario

COHERENT, NON_COHERENT = Coherency.COHERENT, Coherency.NON_COHERENT

_PAGES = 8


@scenario((1, 3), "pfn_reader_unpin", "iopt_area_unfill_partial_domain")
def failure_at_a_bad_address(context: ScenarioContext) -> None:
    """Map memory whose last quarter does not exist, by its address and as a file, in batches.

    The batches before the bad address were in the domains. They are flushed before the map and before the unpin.
    """
    context.need_ioctl("IOMMU_IOAS_MAP_FILE")
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(4 * _PAGES, Backing.MEMFD, scattered=True)
    there = buffer.pages(0, 3 * _PAGES)
    context.truncate(buffer, 3 * _PAGES)
    with context.small_batches():
        for name, do_map in (("by address", ioas.map), ("as a file", ioas.map_file)):
            with context.step(f"map {name}", transient=there), context.fails(f"a map of missing memory {name}"):
                do_map(buffer.memory, context.iova(buffer.memory.length))


@scenario((2, 3), "iopt_area_fill_domain", "iopt_area_unfill_partial_domain")
def failure_of_a_join_at_a_bad_address(context: ScenarioContext) -> None:
    """A non-coherent domain cannot join an IOAS, because the memory of a mapping was cut off. It joins when it is back.

    The batches before the bad address were in the domain. They are flushed before the map and before the unpin.
    """
    ioas = context.ioas()
    buffer = context.buffer(4 * _PAGES, Backing.MEMFD, scattered=True)
    context.map(ioas, buffer)
    context.truncate(buffer, 3 * _PAGES)
    device = context.device(NON_COHERENT)
    with (
        context.small_batches(),
        context.step("join", rule=2, transient=buffer.pages(0, 3 * _PAGES), makes=NON_COHERENT),
        context.fails("a join with missing memory"),
    ):
        Hwpt(ioas, device.dev_id, HwptAllocFlags(0))
    context.truncate(buffer, 4 * _PAGES)
    hwpt = context.domain(ioas, NON_COHERENT, enter=buffer.pages())
    context.close(hwpt, "the domain goes", leave=buffer.pages())


@scenario((1, 3), "pfn_reader_update_pinned", "iopt_area_unfill_partial_domain")
def failure_for_too_much_memory(context: ScenarioContext) -> None:
    """Map more than RLIMIT_MEMLOCK allows, into two non-coherent domains.

    The kernel charges for the pages after it has mapped all of them.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(2 * _PAGES)
    with (
        context.step("map", transient=buffer.pages()),
        context.locked_memory(_PAGES),
        context.fails("a map of more than may be locked"),
    ):
        ioas.map(buffer.memory, context.iova(buffer.memory.length))


@scenario((1, 3), "iopt_area_fill_domains", "pfn_reader_release_pins")
def failure_of_a_map(context: ScenarioContext) -> None:
    """Map into two non-coherent domains, each time with another allocation failing, then unmap.

    The first domain may have the pages when the second fails. The kernel must unmap a page before it unpins it.
    """
    context.failing_domains = 2
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(_PAGES)
    length = buffer.memory.length

    def attempt(faults: FaultInjection, number: int) -> None:
        iova = context.iova(length)
        mapped = False
        with context.step(f"map, fault {number}", transient=buffer.pages()), suppress(IommufdError), faults.at(number):
            ioas.map_user_va(buffer.memory.user_va, length, iova)
            mapped = True
        if mapped:
            with context.step(f"unmap after fault {number}", rule=3, leave=buffer.pages()):
                ioas.unmap(iova, length)

    with context.small_batches():
        _sweep(attempt)


@scenario((2, 3), "iopt_fill_domain", "iopt_table_add_domain")
def failure_of_a_join(context: ScenarioContext) -> None:
    """A non-coherent domain joins a populated IOAS, each time with another allocation failing.

    The kernel empties and flushes the areas it has filled. It must not count a domain that did not join.
    """
    ioas = context.ioas()
    buffers = [context.buffer(_PAGES), context.buffer(_PAGES)]
    for buffer in buffers:
        context.map(ioas, buffer)
    pages = buffers[0].pages() + buffers[1].pages()
    with context.small_batches():
        _join_with_faults(context, ioas, pages, leave=pages)


@scenario((1, 2), "iopt_fill_domain", "iopt_table_add_domain")
def failure_of_a_join_beside_another(context: ScenarioContext) -> None:
    """A second non-coherent domain joins, each time with another allocation failing; then map something else.

    The first domain keeps the pages, and must still be counted when the second could not join.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer, more = context.buffer(_PAGES), context.buffer(_PAGES)
    context.map(ioas, buffer, enter=buffer.pages())
    _join_with_faults(context, ioas, buffer.pages(), leave=())
    context.map(ioas, more, enter=more.pages())
    with context.step("unmap", rule=3, leave=buffer.pages() + more.pages()):
        ioas.unmap_all()


@scenario((2, 3), "iopt_table_add_domain", "iopt_area_fill_domains")
def failure_of_a_join_beside_a_coherent_domain(context: ScenarioContext) -> None:
    """A non-coherent domain joins a coherent one, each time with another allocation failing; then map something else.

    The kernel must not count a domain that did not join. Memory that is mapped afterwards enters the coherent domain
    only, and needs no flush.
    """
    ioas = context.ioas()
    context.domain(ioas, COHERENT)
    buffer, more = context.buffer(_PAGES), context.buffer(_PAGES)
    context.map(ioas, buffer)
    _join_with_faults(context, ioas, buffer.pages(), leave=())
    context.map(ioas, more)
    with context.step("unmap", rule=3, leave=buffer.pages()):
        ioas.unmap_all()


@scenario((2, 3), "pfn_reader_release_pins", "pfn_reader_unpin")
def failure_of_a_join_beside_an_access(context: ScenarioContext) -> None:
    """A non-coherent domain joins, each time with another allocation failing; an access holds one half of the pages.

    All pages are one run. The pages that are unpinned after the failed join begin in the middle of the run.
    """
    ioas = context.ioas()
    buffer = context.buffer(HUGE_PAGES, Backing.THP)
    half = HUGE_PAGES // 2
    mapping = context.map(ioas, buffer)
    with context.step("an access pins"):
        pin = context.access(ioas).pin(mapping.iova, half * PAGE_BYTES, mapping.user_va)
    _join_with_faults(context, ioas, buffer.pages(), leave=buffer.pages(half))
    context.close(pin, "the access unpins", leave=buffer.pages(0, half))


@scenario((2, 3), "iommufd_device_attach", "iommufd_hwpt_paging_abort")
def failure_of_an_attach(context: ScenarioContext) -> None:
    """A device is attached to a populated IOAS, each time with another allocation failing.

    The domain that the kernel makes for the device may have joined already, and is removed again.
    """
    ioas = context.ioas()
    buffer = context.buffer(_PAGES)
    context.map(ioas, buffer)
    device = context.device(NON_COHERENT)

    def attempt(faults: FaultInjection, number: int) -> None:
        name = f"attach, fault {number}"
        attached = False
        with (
            context.step(name, rule=2, transient=buffer.pages(), makes=NON_COHERENT),
            suppress(IommufdError),
            faults.at(number),
        ):
            context.joined(ioas, device.attach(ioas), NON_COHERENT)
            attached = True
        if attached:
            with context.step(f"detach after fault {number}", rule=3, leave=buffer.pages(), makes=NON_COHERENT):
                device.detach()

    _sweep(attempt)


def _join_with_faults(context: ScenarioContext, ioas: Ioas, pages: Pages, leave: Pages) -> None:
    device = context.device(NON_COHERENT)

    def attempt(faults: FaultInjection, number: int) -> None:
        hwpt = None
        with (
            context.step(f"join, fault {number}", rule=2, transient=pages, makes=NON_COHERENT),
            suppress(IommufdError),
            faults.at(number),
        ):
            hwpt = Hwpt(ioas, device.dev_id, HwptAllocFlags(0))
            context.joined(ioas, hwpt, NON_COHERENT)
        if hwpt is not None:
            context.close(hwpt, f"go after fault {number}", leave=leave)

    _sweep(attempt)


def _sweep(attempt: Callable[[FaultInjection, int], None]) -> None:
    """Call *attempt* with the first fault, the second, and so on, until no allocation is left to fail."""
    with FaultInjection() as faults:
        for number in count(1):
            attempt(faults, number)
            if not faults.happened:
                return
