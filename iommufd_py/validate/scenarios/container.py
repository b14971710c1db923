# SPDX-License-Identifier: MIT
"""A device in a type1 container: VFIO's own, which keeps the rules by itself, and iommufd's imitation of it."""

from collections.abc import Iterator

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.objects.buffer import Backing
from iommufd_py.validate.context import HUGE_PAGES, Buffer, Pages, ScenarioContext
from iommufd_py.validate.emulated import EmulatedDevice
from iommufd_py.validate.scenario import scenario
from iommufd_py.vfio.container import Container
from iommufd_py.vfio.modes import open_container
from iommufd_py.vfio.type1 import Type1Container

_VFIO = (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
_ALL = (*_VFIO, ContainerMode.COMPAT_TYPE1, ContainerMode.COMPAT_TYPE1V2)


def _need_device(context: ScenarioContext) -> None:
    # First of all: what else may be missing is no matter where there is no device.
    context.need(not context.on_mock, "for a VFIO device only")


def _containers(context: ScenarioContext) -> Iterator[tuple[ContainerMode, Container]]:
    """Open a container of each mode in turn, with the device in it."""
    for mode in _ALL:
        # The kernel counts what iommufd flushes, and not what VFIO's own containers do.
        context.counted = mode not in _VFIO
        with context.step(f"open {mode}", rule=2, makes=context.coherency):
            container = open_container(mode, context.bdf)
        yield mode, container
        with context.step(f"close {mode}", rule=3, makes=context.coherency):
            container.close()


def _flushed(context: ScenarioContext, pages: Pages) -> Pages:
    return pages if context.coherency is Coherency.NON_COHERENT else ()


@scenario((1, 3), "vfio_pin_map_dma", "vfio_unpin_pages_remote")
def container_map(context: ScenarioContext) -> None:
    """Map memory of three kinds in each of the type1 containers, and unmap.

    The old interface has the same hole as iommufd, and code of its own to close it.
    """
    _need_device(context)
    buffers = [context.buffer(), context.buffer(backing=Backing.MEMFD), context.buffer(HUGE_PAGES, Backing.THP)]
    for mode, container in _containers(context):
        for buffer in buffers:
            pages = _flushed(context, buffer.pages())
            with context.step(f"{mode}: map {buffer.name}", enter=pages):
                mapping = container.map(buffer.memory, context.iova(buffer.memory.length))
            context.close(mapping, f"{mode}: unmap {buffer.name}", leave=pages)


@scenario((1, 3), "vfio_remove_dma", "iopt_area_split")
def container_unmap_of_a_part(context: ScenarioContext) -> None:
    """Map two buffers, unmap the first half of one, then everything.

    Where the interface allows to unmap a part, the part is flushed and no more; VFIO's version 1 unmaps all of it.
    """
    _need_device(context)
    first, second = context.buffer(8), context.buffer(8)
    for mode, container in _containers(context):
        if mode in (ContainerMode.VFIO_TYPE1V2, ContainerMode.COMPAT_TYPE1V2):
            continue
        iovas = [_map(context, mode, container, buffer) for buffer in (first, second)]
        whole = mode is ContainerMode.VFIO_TYPE1
        part = first.pages() if whole else first.pages(0, 4)
        rest = second.pages() if whole else first.pages(4) + second.pages()
        with context.step(f"{mode}: unmap the first half", rule=3, leave=_flushed(context, part)):
            container.unmap(iovas[0], 4 * PAGE_BYTES)
        with context.step(f"{mode}: unmap everything", rule=3, leave=_flushed(context, rest)):
            container.unmap_all()


@scenario((1, 3), "vfio_pin_map_dma", "iopt_area_fill_domains")
def container_failure_at_a_bad_address(context: ScenarioContext) -> None:
    """Map memory of which the end is not there.

    What was mapped by then is flushed again before it is given back.
    """
    _need_device(context)
    buffer = context.buffer(16, Backing.MEMFD)
    context.truncate(buffer, 12)
    for mode, container in _containers(context):
        transient = _flushed(context, buffer.pages(0, 12))
        with context.step(f"{mode}: map", transient=transient), context.fails("a map of missing memory"):
            iova = context.iova(buffer.memory.length)
            container.map_user_va(buffer.memory.user_va, buffer.memory.length, iova)


@scenario((1, 3), "vfio_iommu_type1_release", "vfio_iommu_unmap_unpin_all")
def container_close_without_unmap(context: ScenarioContext) -> None:
    """Close the container with memory mapped, as the end of a process does.

    The last group takes the domain and all mappings along.
    """
    _need_device(context)
    for mode in _ALL:
        context.counted = mode not in _VFIO
        with context.step(f"open {mode}", rule=2, makes=context.coherency):
            container = open_container(mode, context.bdf)
        buffer = context.buffer(8)
        _map(context, mode, container, buffer)
        with context.step(f"{mode}: close", rule=3, leave=_flushed(context, buffer.pages()), makes=context.coherency):
            context.crash(container)


@scenario((2, 3), "vfio_iommu_replay", "vfio_iommu_unmap_unpin_reaccount")
def container_attach_to_mappings(context: ScenarioContext) -> None:
    """A device joins a container that has mappings, but only an emulated device; it leaves, and joins again.

    Without an IOMMU nothing is pinned: the pages come when the device joins, and go when it leaves. That they were
    flushed once does not help the next time.
    """
    container = _without_iommu(context)
    buffers = [context.buffer(8), context.buffer(8)]
    pages = _flushed(context, buffers[0].pages() + buffers[1].pages())
    for buffer in buffers:
        with context.step(f"map {buffer.name}"):
            container.map_user_va(buffer.memory.user_va, buffer.memory.length, context.iova(buffer.memory.length))
    for _ in range(2):
        with context.step("the device joins", rule=2, enter=pages, makes=context.coherency):
            device = container.open_device(context.bdf)
        with context.step("the device leaves", rule=3, leave=pages, makes=context.coherency):
            device.group.close()
    with context.step("map without an IOMMU"):
        more = context.buffer(8)
        container.map_user_va(more.memory.user_va, more.memory.length, context.iova(more.memory.length))
    pages += _flushed(context, more.pages())
    with context.step("the device joins again", rule=2, enter=pages, makes=context.coherency):
        container.open_device(context.bdf)
    with context.step("unmap everything", rule=3, leave=pages):
        container.unmap_all()


@scenario((2, 3), "vfio_iommu_replay", "vfio_unpin_pages_remote")
def container_failure_of_a_join(context: ScenarioContext) -> None:
    """A device joins a container with a mapping of memory of which the end is not there; and when it is there again.

    What was mapped by then is flushed again. The mark that this leaves says nothing about the pages it did not reach.
    """
    container = _without_iommu(context)
    buffer = context.buffer(16, Backing.MEMFD)
    length = buffer.memory.length
    with context.step("map"):
        container.map_user_va(buffer.memory.user_va, length, context.iova(length))
    context.truncate(buffer, 12)
    with (
        context.step(
            "join that fails", rule=2, transient=_flushed(context, buffer.pages(0, 12)), makes=context.coherency
        ),
        context.fails("a join with missing memory"),
    ):
        container.open_device(context.bdf)
    context.truncate(buffer, 16)
    pages = _flushed(context, buffer.pages())
    with context.step("join", rule=2, enter=pages, makes=context.coherency):
        container.open_device(context.bdf)
    with context.step("unmap everything", rule=3, leave=pages):
        container.unmap_all()


def _without_iommu(context: ScenarioContext) -> Type1Container:
    """Make a container of VFIO's own that has no IOMMU yet: with an emulated device."""
    _need_device(context)
    context.counted = False
    return context.keep(Type1Container(None, group=context.keep(EmulatedDevice()).group))


def _map(context: ScenarioContext, mode: ContainerMode, container: Container, buffer: Buffer) -> int:
    iova = context.iova(buffer.memory.length)
    with context.step(f"{mode}: map {buffer.name}", enter=_flushed(context, buffer.pages())):
        container.map_user_va(buffer.memory.user_va, buffer.memory.length, iova)
    return iova
