# SPDX-License-Identifier: MIT
"""A device in a type1 container, of VFIO or of iommufd's emulation. VFIO's container has its own code for the rules."""

from collections.abc import Iterator

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.errors import SkipError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.objects.buffer import Backing
from iommufd_py.validate.context import HUGE_PAGES, ScenarioContext
from iommufd_py.validate.recorder import Buffer
from iommufd_py.validate.scenario import scenario
from iommufd_py.vfio.container import Container
from iommufd_py.vfio.emulated import EmulatedDevice, OpenEmulatedDevice
from iommufd_py.vfio.group import VfioGroupDevice
from iommufd_py.vfio.modes import open_container
from iommufd_py.vfio.type1 import Type1Container

_VFIO = (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
_ALL = (*_VFIO, ContainerMode.COMPAT_TYPE1, ContainerMode.COMPAT_TYPE1V2)


def _need_device(context: ScenarioContext) -> None:
    # This check comes first: without a device no other check matters.
    context.need(not context.on_mock, "for a VFIO device only")


def _containers(context: ScenarioContext) -> Iterator[tuple[ContainerMode, Container]]:
    """Open a container of each mode in turn, with the device in it."""
    for mode in _ALL:
        # The kernel counts the flushes of iommufd, not those of VFIO's own containers.
        context.counted = mode not in _VFIO
        with context.step(f"open {mode}", rule=2, makes=context.coherency):
            container = open_container(mode, context.bdf, vf_token=context.vf_token)
        yield mode, container
        with context.step(f"close {mode}", rule=3, makes=context.coherency):
            container.close()


@scenario((1, 3), "vfio_pin_map_dma", "vfio_unpin_pages_remote")
def container_map(context: ScenarioContext) -> None:
    """Map memory of three kinds in each of the type1 containers, and unmap.

    VFIO's own container has the same fault as iommufd, and separate code to fix it.
    """
    _need_device(context)
    buffers = [context.buffer(), context.buffer(backing=Backing.MEMFD), context.buffer(HUGE_PAGES, Backing.THP)]
    for mode, container in _containers(context):
        for buffer in buffers:
            pages = context.flushed(buffer.pages())
            with context.step(f"{mode}: map {buffer.name}", enter=pages):
                mapping = container.map(buffer.memory, context.iova(buffer.memory.length))
            context.close(mapping, f"{mode}: unmap {buffer.name}", leave=pages)


@scenario((1, 3), "vfio_remove_dma", "iopt_area_split")
def container_unmap_of_a_part(context: ScenarioContext) -> None:
    """Map two buffers, unmap the first half of one, then everything.

    If the interface can unmap a part, the kernel flushes that part only. VFIO's version 1 unmaps the whole mapping.
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
        with context.step(f"{mode}: unmap the first half", rule=3, leave=context.flushed(part)):
            container.unmap(iovas[0], 4 * PAGE_BYTES)
        with context.step(f"{mode}: unmap everything", rule=3, leave=context.flushed(rest)):
            container.unmap_all()


@scenario((1, 3), "vfio_pin_map_dma", "iopt_area_fill_domains")
def container_failure_at_a_bad_address(context: ScenarioContext) -> None:
    """Map memory whose end does not exist.

    The pages before the failure were mapped, and are flushed again before their unpin. The kernel pins and maps one run
    of contiguous pages after the other: with a single run it would fail before the first map.
    """
    _need_device(context)
    buffer = context.buffer(16, Backing.MEMFD, scattered=True)
    context.truncate(buffer, 12)
    for mode, container in _containers(context):
        transient = context.flushed(buffer.pages(0, 12))
        with context.step(f"{mode}: map", transient=transient), context.fails("a map of missing memory"):
            iova = context.iova(buffer.memory.length)
            container.map_user_va(buffer.memory.user_va, buffer.memory.length, iova)


@scenario((1, 3), "vfio_iommu_type1_release", "vfio_iommu_unmap_unpin_all")
def container_close_without_unmap(context: ScenarioContext) -> None:
    """Close the container with memory mapped, as the end of a process does.

    When the last group leaves, the kernel removes the domain and all mappings.
    """
    _need_device(context)
    for mode in _ALL:
        context.counted = mode not in _VFIO
        with context.step(f"open {mode}", rule=2, makes=context.coherency):
            container = open_container(mode, context.bdf, vf_token=context.vf_token)
        buffer = context.buffer(8)
        _map(context, mode, container, buffer)
        with context.step(f"{mode}: close", rule=3, leave=context.flushed(buffer.pages()), makes=context.coherency):
            context.crash(container)


@scenario((2, 3), "vfio_iommu_replay", "vfio_iommu_unmap_unpin_reaccount")
def container_attach_to_mappings(context: ScenarioContext) -> None:
    """A device joins a container that has mappings and only an emulated device; it leaves, and joins again.

    Without an IOMMU no page is pinned. The pages are pinned when the device joins, and unpinned when it leaves. The
    flush of the first join does not help the second one.
    """
    container = _without_iommu(context)
    buffers = [context.buffer(8), context.buffer(8)]
    pages = context.flushed(buffers[0].pages() + buffers[1].pages())
    for buffer in buffers:
        with context.step(f"map {buffer.name}"):
            container.map_user_va(buffer.memory.user_va, buffer.memory.length, context.iova(buffer.memory.length))
    for _ in range(2):
        with context.step("the device joins", rule=2, enter=pages, makes=context.coherency):
            device = container.open_device(context.bdf, vf_token=context.vf_token)
        with context.step("the device leaves", rule=3, leave=pages, makes=context.coherency):
            device.group.close()
    with context.step("map without an IOMMU"):
        more = context.buffer(8)
        container.map_user_va(more.memory.user_va, more.memory.length, context.iova(more.memory.length))
    pages += context.flushed(more.pages())
    with context.step("the device joins again", rule=2, enter=pages, makes=context.coherency):
        container.open_device(context.bdf, vf_token=context.vf_token)
    with context.step("unmap everything", rule=3, leave=pages):
        container.unmap_all()


@scenario((2, 3), "vfio_iommu_replay", "vfio_unpin_pages_remote")
def container_failure_of_a_join(context: ScenarioContext) -> None:
    """A device cannot join a container, because the memory of a mapping was cut off. It joins when it is back.

    The join that fails has mapped the first pages. The second join must flush these again, and all other pages too.
    """
    container = _without_iommu(context)
    buffer = context.buffer(16, Backing.MEMFD, scattered=True)
    length = buffer.memory.length
    with context.step("map"):
        container.map_user_va(buffer.memory.user_va, length, context.iova(length))
    context.truncate(buffer, 12)
    with (
        context.step(
            "join that fails", rule=2, transient=context.flushed(buffer.pages(0, 12)), makes=context.coherency
        ),
        context.fails("a join with missing memory"),
    ):
        container.open_device(context.bdf, vf_token=context.vf_token)
    context.truncate(buffer, 16)
    pages = context.flushed(buffer.pages())
    with context.step("join", rule=2, enter=pages, makes=context.coherency):
        container.open_device(context.bdf, vf_token=context.vf_token)
    with context.step("unmap everything", rule=3, leave=pages):
        container.unmap_all()


@scenario((2, 3), "vfio_iommu_type1_pin_pages", "vfio_iommu_replay", "vfio_iommu_unmap_unpin_reaccount")
def container_with_pins_of_an_emulated_device(context: ScenarioContext) -> None:
    """An emulated device pins pages of a container. A device joins and leaves, and joins again; everything is unmapped.

    A page that the emulated device pins enters no domain, so this pin needs no flush. When the device joins, the kernel
    flushes the page although it is pinned already. When the device leaves, it flushes the page although it stays
    pinned.
    """
    _need_device(context)
    context.counted = False
    emulated = context.keep(EmulatedDevice())
    container = context.keep(Type1Container(None, group=emulated.group))
    user = context.keep(OpenEmulatedDevice(emulated, container.group(emulated.group)))
    buffer = context.buffer(8)
    iova, half = context.iova(buffer.memory.length), 4 * PAGE_BYTES
    pages = context.flushed(buffer.pages())
    with context.step("map"):
        container.map_user_va(buffer.memory.user_va, buffer.memory.length, iova)
    with context.step("the emulated device pins the first half"):
        user.pin(iova, 4)
    with context.step("the device joins", rule=2, enter=pages, makes=context.coherency):
        device = container.open_device(context.bdf, vf_token=context.vf_token)
    with context.step("the emulated device pins the other half instead"):
        user.pin(iova + half, 4)
    with context.step("the device leaves", rule=3, leave=pages, makes=context.coherency):
        device.group.close()
    with context.step("the emulated device pins the first half instead"):
        user.pin(iova, 4)
    with context.step("the device joins again", rule=2, enter=pages, makes=context.coherency):
        container.open_device(context.bdf, vf_token=context.vf_token)
    # The driver of the emulated device unpins its pages when the kernel tells it about the unmap.
    with context.step("unmap everything", rule=3, leave=pages):
        container.unmap_all()


@scenario((1, 3), "vfio_dma_do_map", "vfio_dma_do_unmap")
def container_change_of_user_addresses(context: ScenarioContext) -> None:
    """Invalidate the user addresses of a mapping, and set them again, as a live update of a hypervisor does; unmap.

    The pages stay pinned and mapped, so no page is flushed until the unmap. The kernel must also keep its record of the
    flushed pages.
    """
    _need_device(context)
    context.counted = False
    with context.step("open", rule=2, makes=context.coherency):
        container = context.keep(Type1Container(context.bdf, vf_token=context.vf_token))
    buffer = context.buffer(8, Backing.MEMFD)
    iova, length = _map(context, ContainerMode.VFIO_TYPE1V2, container, buffer), buffer.memory.length
    context.change_user_addresses(container, buffer, iova, length)
    with context.step("unmap", rule=3, leave=context.flushed(buffer.pages())):
        container.unmap(iova, length)


@scenario((1, 2, 3), "vfio_iommu_type1_attach_group", "vfio_iommu_type1_detach_group")
def container_with_two_devices(context: ScenarioContext) -> None:
    """A second device joins a container with mappings. Then the first device leaves.

    The kernel lets both devices use one domain if their IOMMUs are alike. So no page enters a domain when the second
    device joins, and none leaves with the first device. A kernel that counts devices instead of domains forgets the
    remaining device. It then does not flush the memory that is mapped afterwards.
    """
    _need_device(context)
    second = context.second_bdf
    if second is None:
        raise SkipError("needs a second device: give its address with --second-device")
    for mode, container in _containers(context):
        assert isinstance(container, Type1Container)
        first = container.device
        assert isinstance(first, VfioGroupDevice)
        early, later, last = (context.buffer(8) for _ in range(3))
        pages = context.flushed((*early.pages(), *later.pages(), *last.pages()))
        _map(context, mode, container, early)
        # The kernel makes a second domain if the first one does not suit the IOMMU of the second device.
        may = context.flushed(early.pages())
        with context.step(f"{mode}: the second device joins", rule=2, may=may, makes=context.coherency):
            container.open_device(second)
        alike = container.dma_cc() == (context.coherency is Coherency.COHERENT)
        context.need(alike, f"needs two devices of the same coherency, and {second} has another one")
        _map(context, mode, container, later)
        with context.step(f"{mode}: the first device leaves", rule=3, makes=context.coherency):
            first.group.close()
        _map(context, mode, container, last)
        with context.step(f"{mode}: unmap everything", rule=3, leave=pages):
            container.unmap_all()


def _without_iommu(context: ScenarioContext) -> Type1Container:
    """Make one of VFIO's own containers without an IOMMU, by an emulated device."""
    _need_device(context)
    context.counted = False
    return context.keep(Type1Container(None, group=context.keep(EmulatedDevice()).group))


def _map(context: ScenarioContext, mode: ContainerMode, container: Container, buffer: Buffer) -> int:
    iova = context.iova(buffer.memory.length)
    with context.step(f"{mode}: map {buffer.name}", enter=context.flushed(buffer.pages())):
        container.map_user_va(buffer.memory.user_va, buffer.memory.length, iova)
    return iova
