# SPDX-License-Identifier: MIT
"""Ways in which pages are unpinned, rule 3: exposed pages are flushed after the last unmap and before the unpin."""

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.scenario import scenario

COHERENT, NON_COHERENT = Coherency.COHERENT, Coherency.NON_COHERENT


@scenario((1, 3), "iopt_area_unfill_domains", "iommufd_fops_release")
def leave_by_close(context: ScenarioContext) -> None:
    """Close the iommufd with everything still mapped.

    The same happens when a process crashes.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    context.map(ioas, buffer, enter=buffer.pages())
    with context.step("close the iommufd", rule=3, leave=buffer.pages()):
        context.crash(context.iommufd)


@scenario((1, 3), "iopt_unfill_domain", "iopt_unmap_all")
def leave_with_the_domain(context: ScenarioContext) -> None:
    """The HWPT is destroyed while the pages are mapped, and then the IOAS.

    The pages are unpinned with the domain, so the IOAS has none left to unpin.
    """
    ioas = context.ioas()
    hwpt = context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    context.close(hwpt, "the domain goes", leave=buffer.pages())
    context.close(mapping, "unmap")
    context.close(ioas, "the IOAS goes")


@scenario((1, 3), "iopt_area_unfill_domains", "iopt_area_unpin_domain")
def leave_by_unmap_of_everything(context: ScenarioContext) -> None:
    """Several mappings in two non-coherent domains and a coherent one are unmapped in one call.

    The kernel reads the pages from one domain, which need not be the non-coherent one.
    """
    for order in ((COHERENT, NON_COHERENT, NON_COHERENT), (NON_COHERENT, COHERENT, NON_COHERENT)):
        ioas = context.ioas()
        for coherency in order:
            context.domain(ioas, coherency)
        buffers = [context.buffer(4), context.buffer(4)]
        for buffer in buffers:
            context.map(ioas, buffer, enter=buffer.pages())
        with context.step("unmap everything", rule=3, leave=buffers[0].pages() + buffers[1].pages()):
            ioas.unmap_all()


@scenario((1, 3), "iopt_pages_unfill_xarray", "iopt_pages_unpin_xarray")
def leave_by_an_access_after_the_domain(context: ScenarioContext) -> None:
    """An access pins pages of a non-coherent domain; the domain is destroyed, then the access closes.

    The last holder flushes, even if it is an access and no domain is left.
    """
    ioas = context.ioas()
    hwpt = context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    access = context.access(ioas)
    with context.step("an access pins"):
        access.pin(mapping.iova, 4 * PAGE_BYTES, mapping.user_va)
    context.close(hwpt, "the domain goes", leave=buffer.pages(4))
    context.close(access, "the access closes", leave=buffer.pages(0, 4))


@scenario((1, 3), "iommufd_access_notify_unmap", "iopt_area_unfill_domains")
def leave_by_unmap_under_an_access(context: ScenarioContext) -> None:
    """An access pins pages of a non-coherent domain; an unmap asks the access to unpin.

    The pages are unpinned once and flushed once, whether the access or the domain holds them last.
    """
    ioas = context.ioas()
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    with context.step("an access pins"):
        context.access(ioas).pin(mapping.iova, 4 * PAGE_BYTES, mapping.user_va)
    context.close(mapping, "unmap", leave=buffer.pages())


@scenario((3,), "iopt_pages_fill_xarray", "iopt_pages_unpin_xarray")
def leave_by_an_access_alone(context: ScenarioContext) -> None:
    """An access pins pages and unpins them, without a domain, and in an IOAS with a coherent one.

    In-kernel users access memory through the cache, so the rules do not concern their pins.
    """
    for coherency in (None, COHERENT):
        ioas = context.ioas()
        if coherency is not None:
            context.domain(ioas, coherency)
        buffer = context.buffer(4)
        mapping = context.map(ioas, buffer)
        with context.step("an access pins"):
            pin = context.access(ioas).pin(mapping.iova, mapping.length, mapping.user_va)
        context.close(pin, "the access unpins")


@scenario((1, 3), "iopt_pages_rw_access", "iopt_pages_rw_slow")
def leave_after_reads_by_an_access(context: ScenarioContext) -> None:
    """An access reads and writes pages of a non-coherent domain, and again after the domain is destroyed.

    A read does not unpin mapped pages. Pages that are pinned only for the read may be flushed if they are marked.
    """
    ioas = context.ioas()
    hwpt = context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(4)
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    access = context.access_that_copies(ioas)

    def copy() -> None:
        for slow_path in (False, True):
            access.read(mapping.iova, mapping.length, slow_path=slow_path)
            access.write(mapping.iova, bytes(mapping.length), slow_path=slow_path)

    with context.step("read and write", rule=3):
        copy()
    context.close(hwpt, "the domain goes", leave=buffer.pages())
    with context.step("read and write", rule=3, may=4 * buffer.pages()):
        copy()


@scenario((2, 3), "iommufd_hw_pagetable_detach", "iommufd_device_auto_get_domain")
def leave_one_of_two_devices(context: ScenarioContext) -> None:
    """Two devices share the domain that the kernel made for the first; the first detaches, then the second.

    A kernel that counts devices instead of domains flushes too early, or not at all, when the first device detaches.
    """
    ioas = context.ioas()
    first, second = context.device(NON_COHERENT), context.another_mock_device(NON_COHERENT)
    buffer, later = context.buffer(), context.buffer()
    context.map(ioas, buffer)
    with context.step("the first device attaches", rule=2, enter=buffer.pages(), makes=NON_COHERENT):
        context.joined(ioas, first.attach(ioas), NON_COHERENT)
    with context.step("the second device attaches", rule=2):
        context.joined(ioas, second.attach(ioas), NON_COHERENT)
    with context.step("the first device detaches", rule=3, makes=NON_COHERENT):
        first.detach()
    context.map(ioas, later, enter=later.pages())
    with context.step("the second device detaches", rule=3, leave=buffer.pages() + later.pages(), makes=NON_COHERENT):
        second.detach()
