# SPDX-License-Identifier: MIT
"""The context of a running scenario: kernel objects, recorded steps, and the flushes that each step must show."""

import os
import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Self, TypeVar
from uuid import UUID

from iommufd_py.base.coherency import Coherency, FlushCount
from iommufd_py.base.errors import (
    BackingError,
    InvalidFieldError,
    IommufdError,
    NotSupportedError,
    SkipError,
    ToolError,
)
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.mock import MockAccess, flush_count, limit_memory
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.dmabuf import Dmabuf
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
"""Number of 4 KiB pages in a huge page."""

_R = TypeVar("_R", bound=Resource)

# Memory for five runs of pages; see temp_kmalloc() in drivers/iommu/iommufd/pages.c.
_SMALL_BATCH_BYTES = 64
_NOBODY = 65534
_FIRST_IOVA = 512 << 20
_IOVA_STEP = 2 << 20


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a scenario; its pages have names."""

    name: str
    memory: DmaBuffer

    def pages(self, first: int = 0, count: int | None = None) -> Pages:
        """Return *count* pages from *first*, by default all, as names."""
        total = self.memory.length // PAGE_BYTES
        return tuple(Page(self.name, index) for index in range(first, total if count is None else first + count))

    def frames(self) -> dict[int, Page]:
        """Return the page of each frame number at this moment."""
        if self.memory.closed:
            return {}
        numbers = self.memory.frames()
        return {number: page for number, page in zip(numbers, self.pages(), strict=True) if number}


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of a scenario.

    Attributes:
        counted: the kernel's own count of each step; None where it does not count.
        violations: wrong answers of the kernel about coherency, which are checked at once.
        failing_domains: number of domains in which a map must have failed; otherwise the scenario shows nothing.
    """

    steps: tuple[ScenarioStep, ...]
    counted: tuple[FlushCount | None, ...]
    threads: frozenset[int]
    violations: tuple[Violation, ...]
    failing_domains: int


class ScenarioContext:
    """One iommufd, the objects on it, and the steps.

    Attributes:
        counted: whether the kernel's own counters, where it has some, count the flushes of the steps.
        failing_domains: number of domains in which a map must fail during the scenario.
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
    def vf_token(self) -> UUID | None:
        """Token of the VFIO device, if it is a virtual function that needs one."""
        assert isinstance(self._driver, VfioDriver)
        return self._driver.vf_token

    @property
    def coherency(self) -> Coherency:
        """Coherency of the domains of the VFIO device."""
        assert isinstance(self._driver, VfioDriver)
        return self._driver.coherency(self.iommufd)

    def recorded(self) -> Recorded:
        """Close everything, in a last step in which nothing may be flushed, and return the record."""
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
        """Make a buffer of *pages* pages of 4 KiB; *scattered* makes no two of them contiguous."""
        try:
            memory = self._open.enter_context(DmaBuffer(pages * PAGE_BYTES, backing, prefault=not scattered))
        except BackingError as failure:
            raise SkipError(str(failure)) from None
        if scattered:
            # Pages that are touched in order mostly get consecutive frames.
            with memory.view as view:
                for page in (*range(0, pages, 2), *range(1, pages, 2)):
                    view[page * PAGE_BYTES] = 0
        buffer = Buffer(f"buffer {len(self._buffers) + 1}", memory)
        self._buffers.append(buffer)
        return buffer

    def dmabuf(self) -> Dmabuf:
        """Make a dma-buf of one page or more: of the mock driver, or a BAR of the VFIO device.

        Raises:
            SkipError: there can be none.
        """
        return self.keep(self._driver.dmabuf(self.iommufd, self.any_device()))

    def device(self, coherency: Coherency) -> BoundDevice:
        """Return the scenario's device of this coherency.

        Raises:
            SkipError: there is no such device.
        """
        if coherency not in self._devices:
            with self.step(f"open a {coherency} device", makes=coherency):
                self._devices[coherency] = self._driver.open(self.iommufd, coherency)
        return self._devices[coherency]

    def another_mock_device(self, coherency: Coherency) -> BoundDevice:
        """Make one more mock device of this coherency."""
        self.need(self.on_mock, "for mock devices only, of which there can be several")
        with self.step(f"open another {coherency} device", makes=coherency):
            return self._driver.open(self.iommufd, coherency)

    def coherencies(self) -> tuple[Coherency, ...]:
        """Return the coherencies that have a device, non-coherent first."""
        found = []
        for kind in (Coherency.NON_COHERENT, Coherency.COHERENT):
            with suppress(SkipError):
                self.device(kind)
                found.append(kind)
        return tuple(found)

    def any_device(self) -> BoundDevice:
        """Return a device of either coherency, a non-coherent one if there is one."""
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
        """Make a HWPT on an IOAS, for the device of this coherency or for *device*, in a separate step."""
        device = device or self.device(coherency)
        with self.step(f"a {coherency} domain joins", rule=2, enter=enter, may=may, makes=coherency):
            hwpt = self.hwpt(ioas, device, flags)
            self.joined(ioas, hwpt, coherency)
        return hwpt

    def hwpt(self, ioas: Ioas, device: BoundDevice, flags: HwptAllocFlags = HwptAllocFlags(0)) -> Hwpt:
        """Make a HWPT.

        Raises:
            SkipError: the IOMMU of the device supports no HWPT with these flags.
        """
        try:
            return Hwpt(ioas, device.dev_id, flags)
        except NotSupportedError:
            if not flags:
                raise
            names = " and ".join(str(flag.name) for flag in flags)
            raise SkipError(f"the IOMMU of {self._driver.name} supports no HWPT with {names}") from None

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
        """Map *count* pages from *first*, in a separate step."""
        offset, length = first * PAGE_BYTES, len(buffer.pages(first, count)) * PAGE_BYTES
        do_map = ioas.map_file if through_file else ioas.map
        with self.step(f"map {buffer.name}", enter=enter):
            return do_map(buffer.memory, self.iova(length), offset=offset, length=length)

    def copy(
        self, ioas: Ioas, source: DmaMapping, first: int = 0, count: int | None = None, *, enter: Pages = ()
    ) -> DmaMapping:
        """Copy *count* pages from *first* of a mapping into an IOAS, in a separate step."""
        length = source.length - first * PAGE_BYTES if count is None else count * PAGE_BYTES
        with self.step("copy", enter=enter):
            return ioas.copy(source, self.iova(length), offset=first * PAGE_BYTES, length=length)

    def close(self, what: Resource, name: str, *, leave: Pages = (), may: Pages = ()) -> None:
        """Close a resource, in a separate step with this name."""
        with self.step(name, rule=3, leave=leave, may=may):
            what.close()

    def iova(self, length: int) -> int:
        """Return a free IOVA for *length* bytes, below 2 GiB, the limit of the mock driver."""
        iova = self._next_iova
        self._next_iova += -(-length // _IOVA_STEP) * _IOVA_STEP
        return iova

    def joined(self, ioas: Ioas, domain: Resource, coherency: Coherency) -> None:
        """Note that an IOAS has a domain while *domain*, a HWPT or an attachment, is open."""
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
            # Pinning may move a page, so the frame numbers are read afterwards.
            frames |= self._frames()
            self._steps.append(ScenarioStep(name, rule, enter, leave, may, transient, makes, frames, final))
        self._check_answers(name)

    def in_threads(self, count: int, task: Callable[[int], None]) -> None:
        """Run *task* in *count* threads at once, each with its number, and wait for all."""

        def run(number: int) -> None:
            self._threads.add(threading.get_native_id())
            together.wait()
            task(number)

        together = threading.Barrier(count)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(run, range(count)))

    def access(self, ioas: Ioas) -> MockAccess:
        """Make an in-kernel user of an IOAS (an access) that pins pages."""
        return MockAccess(ioas, pins=True)

    def access_that_copies(self, ioas: Ioas) -> MockAccess:
        """Make an in-kernel user of an IOAS (an access) that reads and writes."""
        return MockAccess(ioas)

    @contextmanager
    def small_batches(self) -> Iterator[None]:
        """Limit the kernel to batches of a few pages."""
        limit_memory(self.counter, _SMALL_BATCH_BYTES)
        try:
            yield
        finally:
            limit_memory(self.counter, None)

    @contextmanager
    def locked_memory(self, pages: int) -> Iterator[None]:
        """Lower RLIMIT_MEMLOCK to *pages* pages and drop the privileges that lift it."""
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
        # Without CAP_IPC_LOCK the kernel charges pinned pages. No limit applies: the scenario needs only the accounts.
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        try:
            with without_ipc_lock():
                yield
        finally:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)

    def in_another_process(self, task: Callable[[], None]) -> None:
        """Run *task* in a child process, which ends then, and wait for it.

        Raises:
            ToolError: the task raised an error.
        """
        child = os.fork()
        if child == 0:
            try:
                task()
            except BaseException:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            raise ToolError(f"what another process was to do failed (wait status {status:#x})")

    def alignment(self, coherency: Coherency) -> int:
        """Return the smallest unit in bytes that the domains of a device map."""
        with self.iommufd.alloc_ioas() as ioas, Hwpt(ioas, self.device(coherency).dev_id, HwptAllocFlags(0)):
            return ioas.iova_ranges().alignment

    @contextmanager
    def fails(self, what: str) -> Iterator[None]:
        """Expect the call in the block to fail."""
        try:
            yield
        except IommufdError:
            return
        raise ToolError(f"{what} succeeded, but must fail")

    @contextmanager
    def refused(self, name: str, what: str) -> Iterator[None]:
        """Expect EINVAL from the call in the block; a kernel that takes it breaks rule 2 in step *name*: *what*."""
        try:
            yield
        except InvalidFieldError:
            return
        self._violations.append(Violation(2, name, what))

    def truncate(self, buffer: Buffer, pages: int) -> None:
        """Cut a memfd off after *pages* pages."""
        assert buffer.memory.fd is not None
        os.ftruncate(buffer.memory.fd, pages * PAGE_BYTES)

    def splitter(self, ioas: Ioas) -> Callable[[int, int], int]:
        """Return a function that unmaps a part of a mapping, as VFIO_TYPE1_IOMMU does, without large pages."""
        ioas.huge_pages = False
        uapi.vfio_ioas(self.iommufd.fileno(), VfioIoasOp.SET, ioas.id)
        return lambda iova, length: vfio.iommu_unmap_dma(self.iommufd.fileno(), iova, length)

    def keep(self, held: _R) -> _R:
        """Register *held* to be closed at the end of the scenario, and return it."""
        self._open.enter_context(held)
        return held

    def crash(self, held: Resource) -> None:
        """Close descriptors as the kernel does at the end of a process; nothing is unmapped or destroyed before."""
        _drop(held)

    def need(self, condition: bool, otherwise: str) -> None:
        """Skip the scenario with the reason *otherwise* unless *condition* holds."""
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
        """Compare the answer to VFIO_DMA_CC_IOMMU with the domains of each IOAS."""
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
    held._mark_closed()


def _listed(kinds: set[Coherency]) -> str:
    return " and ".join(sorted(kinds)) or "all gone"
