# SPDX-License-Identifier: MIT
"""Execute operations on a scenario's iommufd, each as a step with the flushes that the model predicts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import PAGE_BYTES, counted
from iommufd_py.mock import AccessPin
from iommufd_py.objects.buffer import Backing
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi.enums import HwptAllocFlags, MapFlags
from iommufd_py.validate.context import PASID, ScenarioContext
from iommufd_py.validate.recorder import Buffer, Pages
from iommufd_py.validate.space import model
from iommufd_py.validate.space.model import Area, FlushedPages, IoasModel, PageSet, Pin

_T = TypeVar("_T")


@dataclass(eq=False, slots=True)
class HeldDomain:
    """A domain of an IOAS.

    Attributes:
        resource: a HWPT, or the attachment for which the kernel made one.
        device: the device that is attached, None for a HWPT without a device.
    """

    coherency: Coherency
    resource: Resource
    device: BoundDevice | None = None


@dataclass(eq=False, slots=True)
class HeldIoas:
    """An IOAS with its model, and its name in the steps."""

    object: Ioas
    name: str
    model: IoasModel = field(default_factory=IoasModel)
    domains: list[HeldDomain] = field(default_factory=list)
    mappings: list["HeldMapping"] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class HeldMapping:
    """A mapping with its model.

    Attributes:
        offset: bytes between the start of the first page and the start of the mapping.
    """

    ioas: HeldIoas
    mapping: DmaMapping
    area: Area
    buffer: Buffer
    offset: int = 0
    pins: list["HeldPin"] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class HeldPin:
    """A pin of the kernel, and the same pin in the model."""

    pin: AccessPin
    model: Pin


class Player:
    """Operations on one iommufd.

    Attributes:
        ioases: the IOASes.
        buffers: memory to map.
    """

    def __init__(self, context: ScenarioContext) -> None:
        self.context = context
        self.ioases: list[HeldIoas] = []
        self.buffers: list[Buffer] = []
        self._sets: dict[int, Buffer] = {}

    def alloc_ioas(self, *, huge_pages: bool = True) -> HeldIoas:
        """Make an IOAS."""
        held = HeldIoas(self.context.ioas(), f"IOAS {len(self.ioases) + 1}")
        if not huge_pages:
            held.object.huge_pages = False
        self.ioases.append(held)
        return held

    def buffer(self, pages: int, backing: Backing, *, scattered: bool = False) -> Buffer:
        """Make memory."""
        self.buffers.append(self.context.buffer(pages, backing, scattered=scattered))
        return self.buffers[-1]

    def map(
        self,
        ioas: HeldIoas,
        buffer: Buffer,
        *,
        offset: int = 0,
        length: int | None = None,
        flags: MapFlags = MapFlags.READ_WRITE,
        through_file: bool = False,
    ) -> HeldMapping:
        """Map *length* bytes of a buffer from *offset*, which need not be whole pages."""
        length = buffer.memory.length - offset if length is None else length
        first, end = offset // PAGE_BYTES, -(-(offset + length) // PAGE_BYTES)
        pages = PageSet(len(self._sets))
        self._sets[pages.key] = buffer
        area = Area(ioas.model, pages, first, end - first)
        if through_file:
            self.context.need_ioctl("IOMMU_IOAS_MAP_FILE")
        call = ioas.object.map_file if through_file else ioas.object.map
        iova = self.context.iova(length + offset % PAGE_BYTES) + offset % PAGE_BYTES
        mapping = self._step(
            f"map {buffer.name} into {ioas.name}",
            1,
            model.add_area(area),
            lambda: call(buffer.memory, iova, offset=offset, length=length, flags=flags),
        )
        held = HeldMapping(ioas, mapping, area, buffer, offset % PAGE_BYTES)
        ioas.mappings.append(held)
        return held

    def copy(
        self,
        ioas: HeldIoas,
        source: HeldMapping,
        first: int,
        count: int,
        *,
        flags: MapFlags = MapFlags.READ_WRITE,
    ) -> HeldMapping:
        """Copy *count* pages of a mapping from its page *first* into an IOAS."""
        area = Area(ioas.model, source.area.pages, source.area.first + first, count)
        iova = self.context.iova(count * PAGE_BYTES)
        mapping = self._step(
            f"copy {counted(count, 'page')} from page {area.first} of {source.buffer.name} into {ioas.name}",
            1,
            model.add_area(area),
            lambda: ioas.object.copy(
                source.mapping, iova, offset=first * PAGE_BYTES, length=count * PAGE_BYTES, flags=flags
            ),
        )
        held = HeldMapping(ioas, mapping, area, source.buffer)
        ioas.mappings.append(held)
        return held

    def unmap(self, held: HeldMapping) -> None:
        """Unmap one mapping."""
        held.ioas.mappings.remove(held)
        self._drop_pins([held])
        self._step(
            f"unmap {held.buffer.name} from {held.ioas.name}", 3, model.remove_areas([held.area]), held.mapping.close
        )

    def unmap_all(self, ioas: HeldIoas) -> None:
        """Unmap everything in one call."""
        gone, ioas.mappings = ioas.mappings, []
        self._drop_pins(gone)
        areas = [held.area for held in gone]
        self._step(f"unmap everything from {ioas.name}", 3, model.remove_areas(areas), ioas.object.unmap_all)

    def join(self, ioas: HeldIoas, coherency: Coherency, flags: HwptAllocFlags = HwptAllocFlags(0)) -> HeldDomain:
        """Make a HWPT."""
        device = self.context.device(coherency)
        flushes = model.add_domain(ioas.model, coherency)

        def make() -> Hwpt:
            hwpt = self.context.hwpt(ioas.object, device, flags)
            self.context.joined(ioas.object, hwpt, coherency)
            return hwpt

        hwpt = self._step(f"a {coherency} domain joins {ioas.name}", 2, flushes, make, makes=coherency)
        ioas.domains.append(HeldDomain(coherency, hwpt))
        return ioas.domains[-1]

    def attach(self, ioas: HeldIoas, coherency: Coherency) -> HeldDomain:
        """Attach the device of this coherency, for which the kernel makes a domain."""
        device = self.context.device(coherency)
        flushes = model.add_domain(ioas.model, coherency)

        def make() -> Resource:
            attachment = device.attach(ioas.object)
            self.context.joined(ioas.object, attachment, coherency)
            return attachment

        attachment = self._step(f"the {coherency} device attaches to {ioas.name}", 2, flushes, make, makes=coherency)
        ioas.domains.append(HeldDomain(coherency, attachment, device))
        return ioas.domains[-1]

    def attach_pasid(self, ioas: HeldIoas, coherency: Coherency, flags: HwptAllocFlags) -> HeldDomain:
        """Make a HWPT for PASIDs, and attach the device of this coherency and a PASID of it to the HWPT."""
        device = self.context.device_with_pasids(coherency)
        domain = self.join(ioas, coherency, flags | HwptAllocFlags.PASID)
        hwpt = domain.resource
        assert isinstance(hwpt, Hwpt)
        domain.device = device
        # The kernel attaches a PASID only if the device itself is attached to a HWPT for PASIDs.
        self._step(f"the {coherency} device attaches", 2, FlushedPages(), lambda: device.attach(hwpt))
        self._step("its PASID attaches", 2, FlushedPages(), lambda: device.attach(hwpt, PASID))
        return domain

    def leave(self, ioas: HeldIoas, domain: HeldDomain) -> None:
        """Detach the device from the domain, and destroy the HWPT."""
        ioas.domains.remove(domain)
        flushes = model.remove_domain(ioas.model, domain.coherency)
        # A mock device gets a domain of the kernel when it is detached.
        makes = None if domain.device is None else domain.coherency
        name = f"the {domain.coherency} domain leaves {ioas.name}"
        self._step(name, 3, flushes, domain.resource.close, makes=makes)

    def pin(self, held: HeldMapping, first: int, count: int) -> HeldPin:
        """Let a new access pin *count* pages of a mapping from its page *first*."""
        pin = Pin(held.area, held.area.first + first, count)
        model.add_pin(pin)
        at = first * PAGE_BYTES
        mapping = held.mapping
        page = held.area.first + first
        user_va = held.buffer.memory.user_va + page * PAGE_BYTES
        made = self._step(
            f"an access pins {count} pages from page {page} of {held.buffer.name} in {held.ioas.name}",
            1,
            FlushedPages(),
            lambda: self.context.access(held.ioas.object).pin(mapping.iova + at, count * PAGE_BYTES, user_va),
        )
        held.pins.append(HeldPin(made, pin))
        return held.pins[-1]

    def unpin(self, held: HeldMapping, pin: HeldPin) -> None:
        """Let the access unpin."""
        held.pins.remove(pin)
        self._step(f"the access to {held.buffer.name} unpins", 3, model.remove_pin(pin.model), pin.pin.close)

    def close(self) -> None:
        """Close the accesses and the iommufd as the end of a process does, with everything mapped."""
        mappings = [held for ioas in self.ioases for held in ioas.mappings]
        accesses = [pin.pin.access for held in mappings for pin in held.pins]
        domains = [domain for ioas in self.ioases for domain in ioas.domains]
        self._drop_pins(mappings)
        flushes = model.remove_areas([held.area for held in mappings])
        for ioas in self.ioases:
            ioas.mappings.clear()
            ioas.domains.clear()

        def close_all() -> None:
            for access in accesses:
                access.close()
            if self.context.on_mock:
                # The mock driver's release function forgets PASIDs, and the kernel warns.
                for domain in domains:
                    if domain.device is not None:
                        domain.device.detach(PASID)
            self.context.crash(self.context.iommufd)

        self._step("close the iommufd", 3, flushes, close_all)

    def finish(self) -> None:
        """Unmap everything that is left."""
        for ioas in self.ioases:
            if ioas.mappings:
                self.unmap_all(ioas)

    def _drop_pins(self, mappings: list[HeldMapping]) -> None:
        for held in mappings:
            held.pins.clear()

    def _step(
        self, name: str, rule: int, flushes: FlushedPages, call: Callable[[], _T], makes: Coherency | None = None
    ) -> _T:
        with self.context.step(
            name,
            rule=rule,
            enter=self._named(flushes.enter),
            leave=self._named(flushes.leave),
            may=self._named(flushes.may),
            makes=makes,
        ):
            return call()

    def _named(self, pages: list[tuple[PageSet, int]]) -> Pages:
        return tuple(self._sets[pages_.key].pages(index, 1)[0] for pages_, index in pages)
