# SPDX-License-Identifier: MIT
"""Where a scenario plays: objects of the kernel, steps that are recorded, and what each must show."""

import os
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Self, TypeVar

from iommufd_py.base.coherency import Coherency, FlushCount
from iommufd_py.base.errors import BackingError, IommufdError, SkipError, ToolError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.mock import MockAccess, flush_count, limit_memory
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import HwptAllocFlags, VfioIoasOp
from iommufd_py.uapi.syscalls import without_ipc_lock
from iommufd_py.validate.driver import Driver, MockDriver, VfioDriver
from iommufd_py.validate.events import begin_mark, end_mark
from iommufd_py.validate.probes import Probes
from iommufd_py.validate.steps import Page, ScenarioStep, Violation

Pages = tuple[Page, ...]

HUGE_PAGES = (2 << 20) // PAGE_BYTES
"""How many pages a huge one is."""

_R = TypeVar("_R", bound=Resource)

# Room for five runs of pages; see temp_kmalloc() in drivers/iommu/iommufd/pages.c.
_SMALL_BATCH_BYTES = 64
_NOBODY = 65534
_FIRST_IOVA = 512 << 20
_IOVA_STEP = 2 << 20


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a scenario, with names for its pages."""

    name: str
    memory: DmaBuffer

    def pages(self, first: int = 0, count: int | None = None) -> Pages:
        """Name *count* pages from *first*, by default all."""
        total = self.memory.length // PAGE_BYTES
        return tuple(Page(self.name, index) for index in range(first, total if count is None else first + count))

    def frames(self) -> dict[int, Page]:
        """Return which page each frame is now."""
        if self.memory.closed:
            return {}
        numbers = self.memory.frames()
        return {number: page for number, page in zip(numbers, self.pages(), strict=True) if number}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came out of the steps.

    Attributes:
        counted: what the kernel itself counted in each step; None where it does not count.
        violations: of what is checked at once, the kernel's answer about coherency.
        failing_domains: in how many domains a map must have failed, or the scenario showed nothing.
    """

    steps: tuple[ScenarioStep, ...]
    counted: tuple[FlushCount | None, ...]
    threads: frozenset[int]
    violations: tuple[Violation, ...]
    failing_domains: int


class ScenarioContext:
    """One iommufd, what is made on it, and the steps that are done with it.

    Attributes:
        counted: whether the kernel's own counters, where it has some, see what the steps do.
        failing_domains: in how many domains a map must fail in the course of the scenario.
    """

    def __init__(self, driver: Driver, probes: Probes | None) -> None:
        self.counted = True
        self.failing_domains = 0
        self._driver = driver
        self._probes = probes
        self._open = ExitStack()
        self._devices: dict[Coherency, BoundDevice] = {}
        self._domains: list[tuple[Ioas, Resource, Coherency]] = []
        self._buffers: list[Buffer] = []
        self._steps: list[ScenarioStep] = []
        self._counted: list[FlushCount | None] = []
        self._threads = {threading.get_native_id()}
        self._violations: list[Violation] = []
        self._next_iova = _FIRST_IOVA

    def __enter__(self) -> Self:
        self.counter = self._open.enter_context(Iommufd())
        self.iommufd = self._open.enter_context(Iommufd())
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    @property
    def on_mock(self) -> bool:
        """Whether the devices are those of the kernel's mock driver."""
        return isinstance(self._driver, MockDriver)

    @property
    def bdf(self) -> str:
        """Address of the VFIO device."""
        return self._driver.name

    @property
    def coherency(self) -> Coherency:
        """What the domains of the VFIO device are."""
        assert isinstance(self._driver, VfioDriver)
        return self._driver.coherency(self.iommufd)

    def recorded(self) -> Recorded:
        """End the scenario: everything is closed, in a step of its own in which nothing may be flushed."""
        with self.step("close what is left", rule=3, final=True):
            self.iommufd.close()
        return Recorded(
            tuple(self._steps),
            tuple(self._counted),
            frozenset(self._threads),
            tuple(self._violations),
            self.failing_domains,
        )

    def ioas(self) -> Ioas:
        """Make an empty IOAS."""
        return self.iommufd.alloc_ioas()

    def buffer(self, pages: int = 16, backing: Backing = Backing.ANON_4K, *, scattered: bool = False) -> Buffer:
        """Make a buffer of so many pages of 4 KiB; *scattered* so that each is a run of its own for the kernel."""
        try:
            memory = self._open.enter_context(DmaBuffer(pages * PAGE_BYTES, backing, prefault=not scattered))
        except BackingError as failure:
            raise SkipError(str(failure)) from None
        if scattered:
            # What is touched in a row mostly lies in a row.
            with memory.view as view:
                for page in (*range(0, pages, 2), *range(1, pages, 2)):
                    view[page * PAGE_BYTES] = 0
        buffer = Buffer(f"buffer {len(self._buffers) + 1}", memory)
        self._buffers.append(buffer)
        return buffer

    def device(self, coherency: Coherency) -> BoundDevice:
        """Return the scenario's device of this coherency.

        Raises:
            SkipError: there is none.
        """
        if coherency not in self._devices:
            with self.step(f"open a {coherency} device", makes=coherency):
                self._devices[coherency] = self._driver.open(self.iommufd, coherency)
        return self._devices[coherency]

    def coherencies(self) -> tuple[Coherency, ...]:
        """Return the kinds of devices that there are, non-coherent first."""
        found = []
        for kind in (Coherency.NON_COHERENT, Coherency.COHERENT):
            with suppress(SkipError):
                self.device(kind)
                found.append(kind)
        return tuple(found)

    def any_device(self) -> BoundDevice:
        """Return a device of whichever coherency there is."""
        try:
            return self.device(Coherency.NON_COHERENT)
        except SkipError:
            return self.device(Coherency.COHERENT)

    def domain(
        self,
        ioas: Ioas,
        coherency: Coherency,
        *,
        enter: Pages = (),
        may: Pages = (),
        flags: HwptAllocFlags = HwptAllocFlags(0),
        device: BoundDevice | None = None,
    ) -> Hwpt:
        """Let a domain, of the device of this coherency or another, join an IOAS, in a step of its own."""
        device = device or self.device(coherency)
        with self.step(f"a {coherency} domain joins", rule=2, enter=enter, may=may, makes=coherency):
            hwpt = Hwpt(ioas, device.dev_id, flags)
            self.joined(ioas, hwpt, coherency)
        return hwpt

    def map(
        self,
        ioas: Ioas,
        buffer: Buffer,
        first: int = 0,
        count: int | None = None,
        *,
        enter: Pages = (),
        through_file: bool = False,
    ) -> DmaMapping:
        """Map *count* pages from *first*, in a step of its own."""
        offset, length = first * PAGE_BYTES, len(buffer.pages(first, count)) * PAGE_BYTES
        do_map = ioas.map_file if through_file else ioas.map
        with self.step(f"map {buffer.name}", enter=enter):
            return do_map(buffer.memory, self.iova(length), offset=offset, length=length)

    def copy(
        self, ioas: Ioas, source: DmaMapping, first: int = 0, count: int | None = None, *, enter: Pages = ()
    ) -> DmaMapping:
        """Copy *count* pages from *first* of a mapping into an IOAS, in a step of its own."""
        length = source.length - first * PAGE_BYTES if count is None else count * PAGE_BYTES
        with self.step("copy", enter=enter):
            return ioas.copy(source, self.iova(length), offset=first * PAGE_BYTES, length=length)

    def close(self, what: Resource, name: str, *, leave: Pages = (), may: Pages = ()) -> None:
        """Close something, in a step of its own that is called *name*."""
        with self.step(name, rule=3, leave=leave, may=may):
            what.close()

    def iova(self, length: int) -> int:
        """Return where the next *length* bytes may be mapped, by any device: below 2 GiB, as the mock driver wants."""
        iova = self._next_iova
        self._next_iova += -(-length // _IOVA_STEP) * _IOVA_STEP
        return iova

    def joined(self, ioas: Ioas, domain: Resource, coherency: Coherency) -> None:
        """Say that an IOAS has a domain, as long as *domain*, a HWPT or an attachment, is open."""
        self._domains.append((ioas, domain, coherency))

    @contextmanager
    def step(
        self,
        name: str,
        *,
        rule: int = 1,
        enter: Pages = (),
        leave: Pages = (),
        may: Pages = (),
        transient: Pages = (),
        makes: Coherency | None = None,
        final: bool = False,
    ) -> Iterator[None]:
        """Record the calls of the block as a step; see :class:`~iommufd_py.validate.steps.ScenarioStep`."""
        frames = self._frames()
        before = flush_count(self.counter)
        index = len(self._steps)
        self._mark(begin_mark(index))
        try:
            yield
        finally:
            self._mark(end_mark(index))
            after = flush_count(self.counter)
            self._counted.append(after - before if self.counted and before is not None and after is not None else None)
            # Pinning may move a page, so that only what is read afterwards is sure.
            frames |= self._frames()
            self._steps.append(ScenarioStep(name, rule, enter, leave, may, transient, makes, frames, final))
        self._check_answers(name)

    def in_threads(self, count: int, task: Callable[[int], None]) -> None:
        """Run *task*, given its number, in so many threads at once, and wait for them."""

        def run(number: int) -> None:
            self._threads.add(threading.get_native_id())
            together.wait()
            task(number)

        together = threading.Barrier(count)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(run, range(count)))

    def access(self, ioas: Ioas) -> MockAccess:
        """Make an in-kernel user of an IOAS that pins pages."""
        return MockAccess(ioas, pins=True)

    def access_that_copies(self, ioas: Ioas) -> MockAccess:
        """Make an in-kernel user of an IOAS that reads and writes."""
        return MockAccess(ioas)

    @contextmanager
    def small_batches(self) -> Iterator[None]:
        """Have the kernel handle pages a few at a time."""
        limit_memory(self.counter, _SMALL_BATCH_BYTES)
        try:
            yield
        finally:
            limit_memory(self.counter, None)

    @contextmanager
    def locked_memory(self, pages: int) -> Iterator[None]:
        """Allow this process only so many pages to be pinned: as somebody without privilege, with a low limit."""
        limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        user = os.geteuid()
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (pages * PAGE_BYTES, limits[1]))
        os.seteuid(_NOBODY)
        try:
            yield
        finally:
            os.seteuid(user)
            resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)

    @contextmanager
    def charged(self, whom: str) -> Iterator[None]:
        """Charge the memory that is pinned in the block to ``nobody``, the ``user`` or the ``process``."""
        if whom == "nobody":
            yield
            return
        limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        if whom == "process":
            self.iommufd.rlimit_mode = 1
        # No limit: only the accounting is of interest. Without the capability the kernel charges at all.
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        try:
            with without_ipc_lock():
                yield
        finally:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)

    def alignment(self, coherency: Coherency) -> int:
        """Return the smallest unit in bytes that the domains of a device map."""
        with self.iommufd.alloc_ioas() as ioas, Hwpt(ioas, self.device(coherency).dev_id, HwptAllocFlags(0)):
            return ioas.iova_ranges().alignment

    @contextmanager
    def fails(self, what: str) -> Iterator[None]:
        """Expect a call to fail, which is what the scenario is about."""
        try:
            yield
        except IommufdError:
            return
        raise ToolError(f"{what} did not fail, as it should")

    def truncate(self, buffer: Buffer, pages: int) -> None:
        """Take the pages of a memfd from that number on away."""
        assert buffer.memory.fd is not None
        os.ftruncate(buffer.memory.fd, pages * PAGE_BYTES)

    def splitter(self, ioas: Ioas) -> Callable[[int, int], int]:
        """Return what unmaps a part of a mapping, as VFIO_TYPE1_IOMMU allows: only for an IOAS without large pages."""
        ioas.huge_pages = False
        uapi.vfio_ioas(self.iommufd.fileno(), VfioIoasOp.SET, ioas.id)
        return lambda iova, length: vfio.iommu_unmap_dma(self.iommufd.fileno(), iova, length)

    def keep(self, held: _R) -> _R:
        """Close *held* at the end of the scenario."""
        self._open.enter_context(held)
        return held

    def crash(self, held: Resource) -> None:
        """Close the descriptors alone, as the kernel does when a process ends: nothing is unmapped or destroyed."""
        _drop(held)

    def need(self, condition: bool, otherwise: str) -> None:
        """Skip the scenario, with the reason, where a condition does not hold."""
        if not condition:
            raise SkipError(otherwise)

    def _mark(self, text: str) -> None:
        if self._probes is not None:
            self._probes.trace.mark(text)

    def _frames(self) -> dict[int, Page]:
        if self._probes is None:
            return {}
        return {frame: page for buffer in self._buffers for frame, page in buffer.frames().items()}

    def _check_answers(self, name: str) -> None:
        """Hold VFIO_DMA_CC_IOMMU against the domains that each IOAS has."""
        for ioas in {id(one): one for one, _, _ in self._domains if not one.closed}.values():
            kinds = {kind for one, domain, kind in self._domains if one is ioas and not domain.closed}
            expected = Coherency.NON_COHERENT not in kinds
            if ioas.dma_cc() != expected:
                what = f"the kernel answers {int(not expected)} for an IOAS whose domains are {_listed(kinds)}"
                self._violations.append(Violation(0, name, what))


def _drop(held: Resource) -> None:
    for dependent in reversed(tuple(held._dependents)):
        _drop(dependent)
    if hasattr(held, "fileno"):
        held._release()
    held._forget()


def _listed(kinds: set[Coherency]) -> str:
    return " and ".join(sorted(kinds)) or "all gone"
