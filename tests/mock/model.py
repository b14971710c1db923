# SPDX-License-Identifier: MIT
"""A model of an IOAS in Python. It predicts what the kernel must answer, translate and pin.

User memory is named by its buffer and the offset in it. The buffers are so aligned that an offset has the alignment of
its address.

Source: drivers/iommu/iommufd/{io_pagetable,pages,device,selftest}.c.
"""

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from iommufd_py import IovaRange
from iommufd_py.mock import APERTURE, PAGE_BYTES
from tests.mock.areas import CPU_PAGE, LAST, IoasState, IoptArea, Pages, fit, holes

T = TypeVar("T")


class Refused(Exception):
    """The kernel must refuse the call with the errno of this name."""


class NotApplicable(Exception):
    """The model does not predict the kernel's answer: an object is missing, or the case is left out."""


class Named(dict[str, T]):
    """Objects by the name that a script gives them."""

    def __missing__(self, name: str) -> T:
        raise NotApplicable(f"there is no {name}")


@dataclass(slots=True)
class ModelPin:
    """Pages that an access has pinned. *held* is empty if the kernel has dropped the pin."""

    access: str
    span: IovaRange
    held: list[tuple[Pages, range]]


class IommufdModel:
    """The parts of an iommufd that mappings and pins depend on. Every method is one system call.

    Args:
        ioases: names of the IOASes; there are no others.
        devices: names of the mock devices, detached.
        granule: maximum alignment in bytes of an IOVA that the kernel chooses.
        checks_pieces: whether the kernel refuses a copy of several areas that are aligned only together.
    """

    def __init__(
        self, ioases: Iterable[str], devices: Iterable[str], granule: int = 2 << 20, *, checks_pieces: bool = True
    ) -> None:
        self.ioases: Named[IoasState] = Named((name, IoasState()) for name in ioases)
        self.devices: Named[str | None] = Named((name, None) for name in devices)
        self.hwpts: Named[str] = Named()
        self.accesses: Named[str] = Named()
        self.pins: Named[ModelPin] = Named()
        self.granule = granule
        self.checks_pieces = checks_pieces

    # Properties of the present state.

    def domains(self, ioas: str) -> list[str]:
        """Return the domains on *ioas* by name: its HWPTs, and a device that is attached to the IOAS itself."""
        attached = [name for name, target in self.devices.items() if target == ioas]
        return [name for name, owner in self.hwpts.items() if owner == ioas] + attached[:1]

    def alignment(self, ioas: str) -> int:
        """Return the required alignment of IOVA, length and offset in the page."""
        small_pages_only = not self.ioases[ioas].huge_pages
        pinned_by_page = ioas in self.accesses.values()
        if small_pages_only or pinned_by_page:
            return CPU_PAGE
        return PAGE_BYTES if self.domains(ioas) else 1

    def reserved(self, ioas: str) -> list[IovaRange]:
        """Return the ranges that cannot be mapped. With a domain these include all outside of the aperture."""
        outside = [IovaRange(0, APERTURE.start - 1), IovaRange(APERTURE.last + 1, LAST)] if self.domains(ioas) else []
        return self.ioases[ioas].reserved + outside

    def iova_ranges(self, ioas: str) -> list[IovaRange]:
        """Return the ranges in which *ioas* may map."""
        return list(holes(self.reserved(ioas), IovaRange(0, LAST)))

    def pinned(self) -> dict[Pages, set[int]]:
        """Return the pages that domains and accesses hold."""
        held: dict[Pages, set[int]] = defaultdict(set)
        for name, ioas in self.ioases.items():
            if self.domains(name):
                for area in ioas.areas:
                    held[area.pages].update(area.page_numbers())
        for pin in self.pins.values():
            for pages, numbers in pin.held:
                held[pages].update(numbers)
        return held

    def pin_counts(self, memory: str) -> Counter[int]:
        """Return the number of pins of each page of a buffer."""
        return Counter(number for pages, held in self.pinned().items() if pages.memory == memory for number in held)

    def pinned_bytes(self) -> int:
        """Return VmPin."""
        return sum(map(len, self.pinned().values())) * CPU_PAGE

    # Mapping.

    def map(
        self, ioas: str, memory: str, offset: int, length: int, iova: int | None, readable: bool, writable: bool
    ) -> int:
        """IOMMU_IOAS_MAP and IOMMU_IOAS_MAP_FILE: return the IOVA."""
        return self._insert(ioas, [(Pages(memory, writable), offset, length)], iova, readable, writable)

    def copy(
        self, ioas: str, source: str, source_iova: int, length: int, iova: int | None, readable: bool, writable: bool
    ) -> int:
        """IOMMU_IOAS_COPY: map the same pages as *source* in *ioas*; return the IOVA."""
        span = _span(source_iova, length)
        areas, whole = self.ioases[source].contiguous(span)
        if not whole:
            raise Refused("ENOENT")
        pieces = []
        for area in areas:
            first, last = max(area.iova, span.start), min(area.span.last, span.last)
            pieces.append((self._shared(area.pages), area.offset_of(first), last - first + 1))
        return self._insert(ioas, pieces, iova, readable, writable)

    def _shared(self, pages: Pages) -> Pages:
        return pages

    def _insert(
        self, ioas: str, pieces: list[tuple[Pages, int, int]], iova: int | None, readable: bool, writable: bool
    ) -> int:
        length = sum(piece[2] for piece in pieces)
        alignment = self.alignment(ioas)
        if not length or length % alignment:
            raise Refused("EINVAL")
        if iova is None:
            iova = self._choose(ioas, length, pieces[0][1])
        else:
            self._check_free(ioas, iova, length)
        areas = []
        next_iova = iova
        for pages, offset, piece_length in pieces:
            if writable and not pages.writable:
                raise Refused("EPERM")
            area = IoptArea(_span(next_iova, piece_length), pages, offset, readable, writable)
            if offset % CPU_PAGE % alignment or (self.checks_pieces and not area.aligned_to(alignment)):
                raise Refused("EINVAL")
            areas.append(area)
            next_iova += piece_length
        if not all(area.aligned_to(alignment) for area in areas):
            # Mainline checks the whole copy, not its pieces, so it accepts pieces that no map call could make. Without
            # huge pages and with a domain, it warns and maps beyond the end of the memory (batch_iommu_map_small()).
            # The model must not let it do that.
            raise NotApplicable("a copy of several areas that are not aligned each")
        for area in areas:
            insort(self.ioases[ioas].areas, area)
        return iova

    def _check_free(self, ioas: str, iova: int, length: int) -> None:
        if iova % self.alignment(ioas):
            raise Refused("EINVAL")
        span = _span(iova, length)
        if any(one.overlaps(span) for one in self.reserved(ioas)):
            raise Refused("EINVAL")
        if self.ioases[ioas].overlapping(span):
            raise Refused("EEXIST")

    def _choose(self, ioas: str, length: int, offset: int) -> int:
        """Return the lowest free IOVA that has the alignment of the memory and of the length."""
        granule = min(1 << (length - 1).bit_length(), self.granule)
        if offset:
            granule = min(granule, offset & -offset)
        if granule < self.alignment(ioas):
            raise Refused("EINVAL")
        in_page = offset % CPU_PAGE
        # The kernel never chooses the first page or the last.
        everything = IovaRange(CPU_PAGE, LAST - CPU_PAGE)
        allowed = self.ioases[ioas].allowed
        candidates = holes(holes(allowed, everything), everything) if allowed else [everything]
        for candidate in candidates:
            fitting = fit(candidate, length, granule, in_page)
            if fitting is None:
                continue
            for hole in holes(self._taken(ioas), IovaRange(fitting, candidate.last)):
                iova = fit(hole, length, granule, in_page)
                if iova is not None:
                    return iova
        raise Refused("ENOSPC")

    def _taken(self, ioas: str) -> list[IovaRange]:
        return self.reserved(ioas) + [area.span for area in self.ioases[ioas].areas]

    def unmap(self, ioas: str, iova: int, length: int) -> int:
        """IOMMU_IOAS_UNMAP: return the bytes unmapped. Areas before one that reaches past the end are unmapped."""
        gone = self._unmap(ioas, _span(iova, length))
        if not gone:
            raise Refused("ENOENT")
        return gone

    def unmap_all(self, ioas: str) -> int:
        """IOMMU_IOAS_UNMAP of everything, which may be nothing."""
        return self._unmap(ioas, IovaRange(0, LAST))

    def _unmap(self, ioas: str, span: IovaRange) -> int:
        gone = 0
        for area in self.ioases[ioas].overlapping(span):
            if area.iova < span.start or area.span.last > span.last:
                raise Refused("ENOENT")
            self._remove(ioas, area)
            gone += area.length
        return gone

    def _remove(self, ioas: str, area: IoptArea) -> None:
        self.ioases[ioas].areas.remove(area)
        for pin in self.pins.values():
            if self.accesses.get(pin.access) == ioas and pin.span.overlaps(area.span):
                pin.held = []

    # Restrictions of an IOAS.

    def set_huge_pages(self, ioas: str, allowed: bool) -> None:
        """IOMMU_OPTION_HUGE_PAGES."""
        state = self.ioases[ioas]
        if not allowed and state.huge_pages:
            if self.domains(ioas) and state.areas:
                raise Refused("EINVAL")
            self._check_areas(ioas, CPU_PAGE)
        state.huge_pages = allowed

    def allow_iovas(self, ioas: str, ranges: Iterable[IovaRange]) -> None:
        """IOMMU_IOAS_ALLOW_IOVAS."""
        wanted = list(ranges)
        if any(one.start >= one.last for one in wanted) or any(a.overlaps(b) for a, b in pairwise(sorted(wanted))):
            raise Refused("EINVAL")
        if any(one.overlaps(other) for one in wanted for other in self.reserved(ioas)):
            raise Refused("EADDRINUSE")
        self.ioases[ioas].allowed = wanted

    def reserve(self, ioas: str, iova: int, length: int) -> None:
        """IOMMU_TEST_OP_ADD_RESERVED."""
        span = _span(iova, length)
        self._check_unused(ioas, span)
        self.ioases[ioas].reserved.append(span)

    def _check_unused(self, ioas: str, span: IovaRange) -> None:
        state = self.ioases[ioas]
        if state.overlapping(span) or any(one.overlaps(span) for one in state.allowed):
            raise Refused("EADDRINUSE")

    def _check_areas(self, ioas: str, alignment: int) -> None:
        if alignment > self.alignment(ioas) and not all(area.aligned_to(alignment) for area in self.ioases[ioas].areas):
            raise Refused("EADDRINUSE")

    # Domains.

    def alloc_hwpt(self, name: str, ioas: str) -> None:
        """IOMMU_HWPT_ALLOC: the domain gets all mappings."""
        self._check_domain(ioas)
        self.hwpts[name] = ioas

    def _check_domain(self, ioas: str) -> None:
        self._check_areas(ioas, PAGE_BYTES)
        self._check_unused(ioas, IovaRange(0, APERTURE.start - 1))
        self._check_unused(ioas, IovaRange(APERTURE.last + 1, LAST))

    def close_hwpt(self, name: str) -> None:
        """IOMMU_DESTROY, after its devices were detached."""
        del self.hwpts[self._known(self.hwpts, name)]
        for device, target in self.devices.items():
            if target == name:
                self.devices[device] = None

    def attach(self, device: str, target: str) -> None:
        """Attach to an IOAS or a HWPT, instead of the present one. Devices attached to an IOAS share a HWPT of it."""
        self._known(self.devices, device)
        if target in self.ioases:
            if target not in self.devices.values():
                self._check_domain(target)
        else:
            self._known(self.hwpts, target)
        self.devices[device] = target

    def detach(self, device: str) -> None:
        """Detach; the HWPT of an IOAS goes with its last device."""
        self.devices[self._known(self.devices, device)] = None

    # Accesses.

    def open_access(self, name: str, ioas: str) -> None:
        """Create an access, an in-kernel user that pins pages."""
        self._check_areas(ioas, CPU_PAGE)
        self.accesses[name] = ioas

    def close_access(self, name: str) -> None:
        """Destroy an access with its pins."""
        del self.accesses[self._known(self.accesses, name)]
        for pin in [key for key, pin in self.pins.items() if pin.access == name]:
            del self.pins[pin]

    def replace_access(self, name: str, ioas: str) -> None:
        """Change the IOAS of an access; its pins in the old one are dropped."""
        if self.accesses[name] == self._known(self.ioases, ioas):
            return
        self._check_areas(ioas, CPU_PAGE)
        self.accesses[name] = ioas
        for pin in self.pins.values():
            if pin.access == name:
                pin.held = []

    def pin(self, name: str, access: str, iova: int, length: int, memory: str, offset: int, write: bool) -> None:
        """Pin a mapped range, which must be *memory* from byte *offset*."""
        span = _span(iova, length)
        areas, whole = self.ioases[self.accesses[access]].contiguous(span)
        held: list[tuple[Pages, range]] = []
        for area in areas:
            starts_in_page = area.offset_of(max(span.start, area.iova)) % CPU_PAGE
            ends_in_page = area.span.last < span.last and area.offset_of(area.span.last + 1) % CPU_PAGE
            if starts_in_page or ends_in_page:
                raise Refused("EINVAL")
            if not (area.writable if write else area.readable):
                raise Refused("EPERM")
            held.append((area.pages, area.page_numbers(span)))
        if not whole:
            raise Refused("ENOENT")
        shown = [(pages.memory, number) for pages, numbers in held for number in numbers]
        if shown != [(memory, offset // CPU_PAGE + i) for i in range(len(shown))]:
            raise Refused("EBADE")
        self.pins[name] = ModelPin(access, span, held)

    def unpin(self, name: str) -> None:
        """Unpin, unless the kernel has unpinned already."""
        if not self.pins[name].held:
            del self.pins[name]
            raise Refused("ENOENT")
        del self.pins[name]

    @staticmethod
    def _known(table: Named[T], name: str) -> str:
        table[name]
        return name


def _span(iova: int, length: int) -> IovaRange:
    if not length:
        raise Refused("EINVAL")
    if iova + length - 1 > LAST:
        raise Refused("EOVERFLOW")
    return IovaRange(iova, iova + length - 1)
