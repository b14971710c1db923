# SPDX-License-Identifier: MIT
"""Domains that join a populated IOAS, rule 2: the coherency of the new domain decides."""

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.mock import hwpt_data
from iommufd_py.uapi.enums import HwptAllocFlags
from iommufd_py.validate.context import PASID, ScenarioContext
from iommufd_py.validate.scenario import scenario

COHERENT, NON_COHERENT = Coherency.COHERENT, Coherency.NON_COHERENT


@scenario((2, 3), "iopt_area_fill_domain", "iopt_unfill_domain")
def attach_to_pages_from_nowhere(context: ScenarioContext) -> None:
    """A non-coherent domain joins an IOAS whose pages are not pinned yet, and is destroyed; then another one.

    The new domain pins the pages, and its end unpins them. The flush for the first domain does not help the second.
    """
    ioas = context.ioas()
    buffer = context.buffer()
    context.map(ioas, buffer)
    for _ in range(2):
        hwpt = context.domain(ioas, NON_COHERENT, enter=buffer.pages())
        context.close(hwpt, "the domain goes", leave=buffer.pages())


@scenario((2, 3), "iopt_area_fill_domain", "batch_from_domain")
def attach_to_pages_of_a_coherent_domain(context: ScenarioContext) -> None:
    """A non-coherent domain joins a coherent one and leaves before it.

    The kernel reads the pages from the other domain's table, unflushed. That domain keeps them pinned and marked.
    """
    ioas = context.ioas()
    keeps = context.domain(ioas, COHERENT)
    buffer = context.buffer()
    context.map(ioas, buffer)
    joins = context.domain(ioas, NON_COHERENT, enter=buffer.pages())
    context.close(joins, "the non-coherent domain goes")
    context.close(keeps, "the coherent domain goes", leave=buffer.pages())


@scenario((2, 3), "iopt_area_fill_domain", "batch_from_domain")
def attach_to_pages_of_a_non_coherent_domain(context: ScenarioContext) -> None:
    """A second non-coherent domain joins, and the first is destroyed before it.

    The mark is no reason to skip the flush: rule 2 does not ask where pages come from.
    """
    ioas = context.ioas()
    first = context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    context.map(ioas, buffer, enter=buffer.pages())
    second = context.domain(ioas, NON_COHERENT, enter=buffer.pages())
    context.close(first, "the first goes")
    context.close(second, "the second goes", leave=buffer.pages())


@scenario((2, 3), "iopt_area_fill_domain", "batch_from_xarray")
def attach_to_pages_of_an_access(context: ScenarioContext) -> None:
    """An access pins some of the pages, a non-coherent domain joins and is destroyed, then the access unpins.

    Some pages come from the xarray of pins, the others are newly pinned. The access unpins the last pages when no
    domain is left, and must flush them.
    """
    ioas = context.ioas()
    buffer = context.buffer()
    mapping = context.map(ioas, buffer)
    with context.step("an access pins"):
        pin = context.access(ioas).pin(mapping.iova + 6 * PAGE_BYTES, 4 * PAGE_BYTES, mapping.user_va + 6 * PAGE_BYTES)
    hwpt = context.domain(ioas, NON_COHERENT, enter=buffer.pages())
    context.close(hwpt, "the domain goes", leave=buffer.pages(0, 6) + buffer.pages(10))
    context.close(pin, "the access unpins", leave=buffer.pages(6, 4))


@scenario((2, 3), "iopt_area_fill_domain")
def attach_a_coherent_domain(context: ScenarioContext) -> None:
    """A coherent domain joins a non-coherent one, and outlives it.

    The coherency of the new domain counts, not that of the old ones. The new domain does not clear the mark.
    """
    ioas = context.ioas()
    first = context.domain(ioas, NON_COHERENT)
    buffer = context.buffer()
    mapping = context.map(ioas, buffer, enter=buffer.pages())
    context.domain(ioas, COHERENT)
    context.close(first, "the non-coherent domain goes")
    context.close(mapping, "unmap", leave=buffer.pages())


@scenario((2, 3), "iopt_area_fill_domain")
def attach_only_coherent_domains(context: ScenarioContext) -> None:
    """A coherent domain joins an IOAS whose pages are not pinned yet, and is destroyed; a coherent device attaches.

    No domain is non-coherent, so the kernel flushes nothing, and does not mark the pages. A mark shows at the unpin.
    """
    ioas = context.ioas()
    buffer = context.buffer()
    context.map(ioas, buffer)
    context.close(context.domain(ioas, COHERENT), "the domain goes")
    device = context.device(COHERENT)
    with context.step("attach", rule=2, makes=COHERENT):
        context.joined(ioas, device.attach(ioas), COHERENT)
    with context.step("detach", rule=3, makes=COHERENT):
        device.detach()


@scenario((2, 3), "iopt_fill_domain")
def attach_to_several_areas(context: ScenarioContext) -> None:
    """A non-coherent domain joins an IOAS with mappings of two buffers and a part of a third.

    The kernel fills all areas, and flushes the mapped pages of each.
    """
    ioas = context.ioas()
    buffers = [context.buffer(4), context.buffer(4), context.buffer(8)]
    for buffer in buffers[:2]:
        context.map(ioas, buffer)
    context.map(ioas, buffers[2], 2, 3)
    pages = buffers[0].pages() + buffers[1].pages() + buffers[2].pages(2, 3)
    hwpt = context.domain(ioas, NON_COHERENT, enter=pages)
    context.close(hwpt, "the domain goes", leave=pages)


@scenario((2, 3), "iopt_area_fill_domain")
def attach_to_halves_of_a_page(context: ScenarioContext) -> None:
    """A non-coherent domain joins an IOAS with two mappings, one of each half of a page.

    The kernel flushes each half, or the whole page twice.
    """
    ioas = context.ioas()
    asked = context.domain(ioas, NON_COHERENT)
    half = ioas.iova_ranges().alignment
    context.close(asked, "the domain goes")
    context.need_parts_of_pages(half)
    buffer = context.buffer(1)
    for offset in (0, half):
        ioas.map(buffer.memory, context.iova(PAGE_BYTES) + offset, offset=offset, length=PAGE_BYTES - half)
    hwpt = context.domain(ioas, NON_COHERENT, enter=buffer.pages(), may=buffer.pages())
    context.close(hwpt, "the domain goes", leave=buffer.pages(), may=buffer.pages())


@scenario((2, 3), "iommufd_device_attach", "iommufd_device_detach")
def attach_a_device(context: ScenarioContext) -> None:
    """A device is attached to a populated IOAS, detached, attached again, and detached.

    The kernel makes a domain for the device when it attaches, and destroys it when the device detaches.
    """
    ioas = context.ioas()
    buffer = context.buffer()
    context.map(ioas, buffer)
    device = context.device(NON_COHERENT)
    for _ in range(2):
        with context.step("attach", rule=2, enter=buffer.pages(), makes=NON_COHERENT):
            context.joined(ioas, device.attach(ioas), NON_COHERENT)
        with context.step("detach", rule=3, leave=buffer.pages(), makes=NON_COHERENT):
            device.detach()


@scenario((2, 3), "iommufd_device_auto_get_domain", "iommufd_hwpt_compatible_device")
def attach_beside_a_coherent_device(context: ScenarioContext) -> None:
    """A coherent and then a non-coherent device are attached to a populated IOAS. The second is detached first.

    The HWPT of the coherent device enforces coherency. The IOMMU of the non-coherent device cannot do that. The kernel
    must refuse this HWPT for the non-coherent device, make another one, fill its domain and flush the pages.
    """
    ioas = context.ioas()
    buffer = context.buffer()
    context.map(ioas, buffer)
    keeps, joins = context.device(COHERENT), context.device(NON_COHERENT)
    with context.step("the coherent device attaches", rule=2, makes=COHERENT):
        context.joined(ioas, keeps.attach(ioas), COHERENT)
    with context.step("the non-coherent device attaches", rule=2, enter=buffer.pages(), makes=NON_COHERENT):
        context.joined(ioas, joins.attach(ioas), NON_COHERENT)
    with context.step("the non-coherent device detaches", rule=3, makes=NON_COHERENT):
        joins.detach()
    with context.step("the coherent device detaches", rule=3, leave=buffer.pages(), makes=COHERENT):
        keeps.detach()


@scenario((2, 3), "iommufd_hw_pagetable_attach")
def attach_to_the_domain_of_a_coherent_device(context: ScenarioContext) -> None:
    """A non-coherent device attaches to the HWPT of a coherent one, and is refused; then to the IOAS.

    The HWPT enforces coherency, which is impossible for the device, so no page would be flushed for it. The IOAS gives
    the device its own domain.
    """
    ioas = context.ioas()
    buffer = context.buffer(8)
    context.map(ioas, buffer)
    hwpt = context.domain(ioas, COHERENT)
    device = context.device(NON_COHERENT)
    name = "attach to the HWPT"
    with (
        context.step(name, rule=2),
        context.refused(name, "a non-coherent device was attached to a coherent domain, for which nothing is flushed"),
    ):
        device.attach(hwpt)
    with context.step("attach to the IOAS", rule=2, enter=buffer.pages(), makes=NON_COHERENT):
        context.joined(ioas, device.attach(ioas), NON_COHERENT)
    with context.step("detach", rule=3, may=buffer.pages(), makes=NON_COHERENT):
        device.detach()
    with context.step("unmap everything", rule=3, leave=buffer.pages()):
        ioas.unmap_all()


@scenario((2, 3), "iommufd_device_replace")
def attach_in_place_of_another(context: ScenarioContext) -> None:
    """A device moves among HWPTs of one IOAS, and then to another IOAS and back.

    A move between existing HWPTs moves no pages. A move to another IOAS fills one domain and empties another.
    """
    first, second = context.ioas(), context.ioas()
    here, there = context.buffer(8), context.buffer(8)
    context.map(first, here)
    context.map(second, there)
    device = context.device(NON_COHERENT)
    hwpts = [context.domain(first, NON_COHERENT, enter=here.pages()) for _ in range(2)]
    for hwpt in hwpts:
        with context.step("attach to a HWPT", rule=2):
            device.attach(hwpt)
    for hwpt in hwpts[:1]:
        context.close(hwpt, "the HWPT that is not in use goes")
    with context.step("attach to the other IOAS", rule=2, enter=there.pages(), makes=NON_COHERENT):
        context.joined(second, device.attach(second), NON_COHERENT)
    context.close(hwpts[1], "the other HWPT goes", leave=here.pages())
    with context.step("attach to the first IOAS", rule=2, enter=here.pages(), leave=there.pages(), makes=NON_COHERENT):
        context.joined(first, device.attach(first), NON_COHERENT)
    with context.step("detach", rule=3, leave=here.pages(), makes=NON_COHERENT):
        device.detach()


@scenario((2, 3), "iommufd_hwpt_paging_alloc", "iommufd_device_attach")
def attach_a_pasid(context: ScenarioContext) -> None:
    """A PASID of a device is attached to a populated IOAS's HWPT, and detached.

    The kernel flushes the pages when the HWPT is made; attaching a PASID flushes nothing.
    """
    elsewhere, ioas = context.ioas(), context.ioas()
    buffer = context.buffer()
    context.map(ioas, buffer)
    device = context.device_with_pasids(NON_COHERENT)
    own = context.domain(elsewhere, NON_COHERENT, flags=HwptAllocFlags.PASID)
    with context.step("attach the device elsewhere", rule=2):
        device.attach(own)
    hwpt = context.domain(ioas, NON_COHERENT, enter=buffer.pages(), flags=HwptAllocFlags.PASID)
    with context.step("attach the PASID", rule=2):
        device.attach(hwpt, PASID)
    with context.step("detach the PASID", rule=3):
        device.detach(PASID)
    context.close(hwpt, "the HWPT goes", leave=buffer.pages())


@scenario((1, 2, 3), "iommufd_hwpt_nested_alloc", "iommufd_hwpt_paging_alloc")
def attach_a_nested_hwpt(context: ScenarioContext) -> None:
    """A parent for nesting joins a populated IOAS, a nested HWPT is made on it and attached; both are destroyed.

    The parent maps the pages, so its coherency counts. The nested HWPT is the guest's own table and maps none of them.
    """
    context.need(context.on_mock, "for the mock driver only")
    ioas = context.ioas()
    buffer, more = context.buffer(8), context.buffer(8)
    context.map(ioas, buffer)
    device = context.device(NON_COHERENT)
    parent = context.domain(ioas, NON_COHERENT, enter=buffer.pages(), flags=HwptAllocFlags.NEST_PARENT)
    with context.step("attach a nested HWPT", rule=2):
        nested = device.alloc_nested(parent, hwpt_data())
        device.attach(nested)
    mapping = context.map(ioas, more, enter=more.pages())
    context.close(mapping, "unmap", leave=more.pages())
    with context.step("detach", rule=3, makes=NON_COHERENT):
        device.detach()
        nested.close()
    context.close(parent, "the parent goes", leave=buffer.pages())
