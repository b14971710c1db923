# SPDX-License-Identifier: MIT
"""The space of scenarios of type1 containers: its dimensions, and the operations of each combination."""

from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.uapi.enums import VfioExtension
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.recorder import Buffer, Pages
from iommufd_py.validate.space.combinations import Space
from iommufd_py.validate.space.covering import Axes, Forbidden, Row
from iommufd_py.validate.space.memory import ACCESS, FILES, LENGTHS, MEMORY, whole_pages
from iommufd_py.vfio.emulated import EmulatedDevice, OpenEmulatedDevice
from iommufd_py.vfio.group import VfioGroupDevice
from iommufd_py.vfio.modes import open_container
from iommufd_py.vfio.type1 import Type1Container

_TYPES = {
    ContainerMode.VFIO_TYPE1: VfioExtension.TYPE1_IOMMU,
    ContainerMode.VFIO_TYPE1V2: VfioExtension.TYPE1V2_IOMMU,
}

_AXES: Axes = {
    # VFIO's own container or that of iommufd, in both versions of the interface
    "mode": (*map(str, _TYPES), str(ContainerMode.COMPAT_TYPE1), str(ContainerMode.COMPAT_TYPE1V2)),
    "memory": tuple(kind for kind in MEMORY if kind not in FILES),
    "length": tuple(LENGTHS),
    "access": tuple(ACCESS),
    # the kernel charges pinned memory to nobody (with CAP_IPC_LOCK), or to the user
    "charged": ("nobody", "user"),
    # the device joins before the map, after it, or before it and again after it
    "join": ("before", "after", "again"),
    # an emulated device pins no pages, or some
    "pins": ("none", "some"),
    # the user addresses of the mapping stay, or change as if another process took the container over
    "addresses": ("kept", "changed"),
    # the last operation: the unmap of the mapping, of a part, of everything; the device leaves; the container is closed
    "end": ("unmap", "part", "unmap-all", "leave", "close"),
}

_EMULATED = frozenset({"after", "again"})
_V2 = frozenset(map(str, (ContainerMode.VFIO_TYPE1V2, ContainerMode.COMPAT_TYPE1V2)))
_COMPAT = frozenset(map(str, (ContainerMode.COMPAT_TYPE1, ContainerMode.COMPAT_TYPE1V2)))

_FORBIDDEN: tuple[Forbidden, ...] = (
    # These need an emulated device, which only VFIO's own containers take here.
    {"mode": _COMPAT, "join": _EMULATED},
    {"mode": _COMPAT, "pins": frozenset({"some"})},
    # iommufd cannot change user addresses. VFIO does not allow it with an emulated device.
    {"mode": _COMPAT, "addresses": frozenset({"changed"})},
    {"join": _EMULATED, "addresses": frozenset({"changed"})},
    {"pins": frozenset({"some"}), "addresses": frozenset({"changed"})},
    # VFIO lets an emulated device pin in version 2 only.
    {"mode": frozenset({str(ContainerMode.VFIO_TYPE1)}), "pins": frozenset({"some"})},
    # The emulated device pins for reading and writing.
    {"access": frozenset({"ro", "wo"}), "pins": frozenset({"some"})},
    # Version 2 of the interface refuses to unmap a part.
    {"mode": _V2, "end": frozenset({"part"})},
)

_PINNED, _PART = 3, 4


class _Combination:
    """The operations of one row."""

    def __init__(self, context: ScenarioContext, row: Row) -> None:
        self.context = context
        self.row = row
        self.mode = ContainerMode(row["mode"])
        self.container: Type1Container
        self.emulated: OpenEmulatedDevice | None = None
        self.device: VfioGroupDevice | None = None

    def open(self) -> None:
        """Make the container, with the device in it unless the device joins later."""
        # The kernel counts the flushes of iommufd, not those of VFIO's own containers.
        self.context.counted = self.mode not in _TYPES
        if self.row["join"] == "before" and self.row["pins"] == "none":
            with self.context.step("open", rule=2, makes=self.context.coherency):
                container = open_container(self.mode, self.context.bdf, vf_token=self.context.vf_token)
            assert isinstance(container, Type1Container)
            assert isinstance(container.device, VfioGroupDevice)
            self.container, self.device = self.context.keep(container), container.device
            return
        emulated = self.context.keep(EmulatedDevice())
        container = Type1Container(None, _TYPES[self.mode], group=emulated.group)
        self.container = self.context.keep(container)
        if self.row["pins"] == "some":
            self.emulated = self.context.keep(OpenEmulatedDevice(emulated, container.group(emulated.group)))
        if self.row["join"] != "after":
            self.join(())

    def join(self, pages: Pages) -> None:
        """Let the device join the container."""
        context = self.context
        with context.step("the device joins", rule=2, enter=context.flushed(pages), makes=context.coherency):
            self.device = self.container.open_device(context.bdf, vf_token=context.vf_token)

    def leave(self, pages: Pages) -> None:
        """Let the device leave the container."""
        assert self.device is not None
        context = self.context
        with context.step("the device leaves", rule=3, leave=context.flushed(pages), makes=context.coherency):
            self.device.group.close()

    def buffer(self) -> tuple[Buffer, int]:
        """Make the memory, and return it with the number of pages to map."""
        backing = MEMORY[self.row["memory"]]
        count = LENGTHS[self.row["length"]]
        scattered = self.row["memory"] == "scattered"
        return self.context.buffer(whole_pages(count, backing), backing, scattered=scattered), count


def _play(context: ScenarioContext, row: Row) -> None:
    context.need(not context.on_mock, "for a VFIO device only")
    one = _Combination(context, row)
    buffer, count = one.buffer()
    pages, length = buffer.pages(0, count), count * PAGE_BYTES
    iova = context.iova(length)
    with context.charged(row["charged"]):
        one.open()
        with context.step("map", enter=() if row["join"] == "after" else context.flushed(pages)):
            one.container.map_user_va(buffer.memory.user_va, length, iova, flags=ACCESS[row["access"]])
        if row["join"] == "again":
            one.leave(pages)
        if one.emulated is not None:
            with context.step("the emulated device pins some pages"):
                one.emulated.pin(iova, _PINNED)
        if row["join"] != "before":
            one.join(pages)
        if row["addresses"] == "changed":
            context.change_user_addresses(one.container, buffer, iova, length)
        _end(one, pages, iova)


def _end(one: _Combination, pages: Pages, iova: int) -> None:
    context, container = one.context, one.container
    match one.row["end"]:
        case "part":
            # VFIO's version 1 unmaps the whole mapping. iommufd unmaps the part.
            cut = len(pages) if one.mode is ContainerMode.VFIO_TYPE1 else _PART
            with context.step("unmap a part", rule=3, leave=context.flushed(pages[:cut])):
                container.unmap(iova, _PART * PAGE_BYTES)
            with context.step("unmap the rest", rule=3, leave=context.flushed(pages[cut:])):
                container.unmap_all()
        case "unmap":
            with context.step("unmap", rule=3, leave=context.flushed(pages)):
                container.unmap(iova, len(pages) * PAGE_BYTES)
        case "unmap-all":
            with context.step("unmap everything", rule=3, leave=context.flushed(pages)):
                container.unmap_all()
        case "leave":
            one.leave(pages)
        case _:
            # The emulated device unpins in the same step as the IOMMU.
            others = () if one.emulated is None else pages[:_PINNED]
            with context.step("close", rule=3, leave=context.flushed(pages), others=others, makes=context.coherency):
                context.crash(container)


CONTAINER_SPACE = Space(
    name="container-combination",
    axes=_AXES,
    forbidden=_FORBIDDEN,
    functions=("vfio_pin_map_dma", "vfio_iommu_replay", "vfio_unpin_pages_remote", "iopt_area_fill_domains"),
    play=_play,
)
"""Scenarios that map memory into the type1 container of a VFIO device."""
