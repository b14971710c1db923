# SPDX-License-Identifier: MIT
"""Several areas over the same pages, by IOAS_COPY and by a split: the mark belongs to the pages, the flush to the
area."""

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.scenario import scenario

COHERENT, NON_COHERENT = Coherency.COHERENT, Coherency.NON_COHERENT


@scenario((2, 3), "iopt_area_fill_domain", "iopt_get_pages")
def shared_parts_attached_one_by_one(context: ScenarioContext) -> None:
    """Two IOASes hold copies of different parts of one mapping; a domain joins one IOAS, then the other.

    The mark from the first area does not cover the second area: see the last paragraph of the rules' mail.
    """
    source, first, second = context.ioas(), context.ioas(), context.ioas()
    buffer = context.buffer()
    whole = context.map(source, buffer)
    context.copy(first, whole, 0, 4)
    context.copy(second, whole, 8, 4)
    one = context.domain(first, NON_COHERENT, enter=buffer.pages(0, 4))
    other = context.domain(second, NON_COHERENT, enter=buffer.pages(8, 4))
    context.close(one, "the first domain goes", leave=buffer.pages(0, 4))
    context.close(other, "the second domain goes", leave=buffer.pages(8, 4))


@scenario((1, 2, 3), "iopt_area_fill_domains", "iopt_get_pages")
def shared_part_copied_after_an_attach(context: ScenarioContext) -> None:
    """One part is copied into an IOAS, a domain joins, then another part is copied into it.

    The set of pages is marked when the second part is mapped, but the pages of that part were never flushed.
    """
    source, target = context.ioas(), context.ioas()
    buffer = context.buffer()
    whole = context.map(source, buffer)
    first = context.copy(target, whole, 0, 4)
    context.domain(target, NON_COHERENT, enter=buffer.pages(0, 4))
    second = context.copy(target, whole, 8, 4, enter=buffer.pages(8, 4))
    context.close(first, "unmap the first part", leave=buffer.pages(0, 4))
    context.close(second, "unmap the second part", leave=buffer.pages(8, 4))


@scenario((1, 3), "iopt_area_fill_domains", "batch_from_domain")
def shared_with_a_coherent_ioas(context: ScenarioContext) -> None:
    """Pages of a coherent IOAS are copied into a non-coherent one; the copy is unmapped first.

    The kernel flushes the pages at the copy. It flushes them again when the last of the two IOASes unpins them,
    although this IOAS is coherent.
    """
    coherent, other = context.ioas(), context.ioas()
    context.domain(coherent, COHERENT)
    context.domain(other, NON_COHERENT)
    buffer = context.buffer()
    source = context.map(coherent, buffer)
    copy = context.copy(other, source, enter=buffer.pages())
    context.close(copy, "unmap the copy")
    context.close(source, "unmap the source", leave=buffer.pages())


@scenario((1, 3), "iopt_area_fill_domains", "batch_from_domain")
def shared_into_a_coherent_ioas(context: ScenarioContext) -> None:
    """Pages of a non-coherent IOAS are copied into a coherent one; the source is unmapped first.

    A coherent domain gains nothing from a flush. Rule 1 looks at the IOAS, not at the pages.
    """
    non_coherent, other = context.ioas(), context.ioas()
    context.domain(non_coherent, NON_COHERENT)
    context.domain(other, COHERENT)
    buffer = context.buffer()
    source = context.map(non_coherent, buffer, enter=buffer.pages())
    copy = context.copy(other, source)
    context.close(source, "unmap the source")
    context.close(copy, "unmap the copy", leave=buffer.pages())


@scenario((1, 3), "iopt_area_fill_domains", "batch_from_domain")
def shared_by_two_non_coherent_ioases(context: ScenarioContext) -> None:
    """Pages of a non-coherent IOAS are copied into another non-coherent one.

    A new mapping flushes each page, whatever the source of the page.
    """
    first, second = context.ioas(), context.ioas()
    context.domain(first, NON_COHERENT)
    context.domain(second, NON_COHERENT)
    buffer = context.buffer()
    source = context.map(first, buffer, enter=buffer.pages())
    copy = context.copy(second, source, enter=buffer.pages())
    context.close(source, "unmap the source")
    context.close(copy, "unmap the copy", leave=buffer.pages())


@scenario((2, 3), "iopt_area_split", "iopt_area_fill_domain")
def shared_after_a_split(context: ScenarioContext) -> None:
    """The middle of a mapping is unmapped, as VFIO's old interface allows; a domain joins the rest.

    The split makes two areas from one. The mark from the first area does not cover the second.
    """
    ioas = context.ioas()
    split = context.splitter(ioas)
    buffer = context.buffer(12)
    iova = ioas.map_user_va(buffer.memory.user_va, buffer.memory.length, context.iova(buffer.memory.length))
    with context.step("split", rule=3):
        split(iova + 4 * PAGE_BYTES, 4 * PAGE_BYTES)
    parts = buffer.pages(0, 4) + buffer.pages(8, 4)
    hwpt = context.domain(ioas, NON_COHERENT, enter=parts)
    context.close(hwpt, "the domain goes", leave=parts)
    context.domain(ioas, NON_COHERENT, enter=parts)
    with context.step("unmap", rule=3, leave=parts):
        ioas.unmap_all()


@scenario((1, 2, 3), "iopt_area_split", "iopt_area_unfill_domains")
def shared_after_a_split_while_mapped(context: ScenarioContext) -> None:
    """The middle of a mapping in a non-coherent domain is unmapped; then the ends, one by one.

    The kernel flushes each part when it is unmapped, and no other pages.
    """
    ioas = context.ioas()
    split = context.splitter(ioas)
    context.domain(ioas, NON_COHERENT)
    buffer = context.buffer(12)
    with context.step("map", enter=buffer.pages()):
        iova = ioas.map_user_va(buffer.memory.user_va, buffer.memory.length, context.iova(buffer.memory.length))
    for first in (4, 0, 8):
        with context.step(f"unmap from page {first}", rule=3, leave=buffer.pages(first, 4)):
            split(iova + first * PAGE_BYTES, 4 * PAGE_BYTES)
