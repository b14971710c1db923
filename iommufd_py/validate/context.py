# SPDX-License-Identifier: MIT
"""The context of a running scenario: its devices, its buffers, and the kernel objects that it makes."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from uuid import UUID

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import (
    BackingError,
    IommufdError,
    NotSupportedError,
    SkipError,
    ToolError,
)
from iommufd_py.base.units import PAGE_BYTES, round_up
from iommufd_py.host.limits import lift_memlock
from iommufd_py.mock import MockAccess, limit_memory
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.dmabuf import Dmabuf
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import HwptAllocFlags, VfioIoasOp
from iommufd_py.uapi.syscalls import without_ipc_lock
from iommufd_py.validate.driver import Driver, MockDriver, VfioDriver
from iommufd_py.validate.probes import Probes
from iommufd_py.validate.recorder import Buffer, Pages, Recorder
from iommufd_py.vfio.type1 import Type1Container

HUGE_PAGES = (2 << 20) // PAGE_BYTES
"""Number of 4 KiB pages in a huge page."""

PASID = 100
"""The PASID that scenarios attach."""

_R = TypeVar("_R", bound=Resource)

# Memory for five runs of pages; see temp_kmalloc() in drivers/iommu/iommufd/pages.c.
_SMALL_BATCH_BYTES = 64
_FIRST_IOVA = 512 << 20
_IOVA_STEP = 2 << 20


class ScenarioContext(Recorder):
    """The devices, buffers and kernel objects of one scenario, and the recorder of its steps."""

    def __init__(self, driver: Driver, probes: Probes | None) -> None:
        super().__init__(probes)
        self._driver = driver
        self._devices: dict[Coherency, BoundDevice] = {}
        self._next_iova = _FIRST_IOVA

    @property
    def on_mock(self) -> bool:
        """Whether the devices are those of the kernel's mock driver."""
        return isinstance(self._driver, MockDriver)

    @property
    def bdf(self) -> str:
        """Address of the VFIO device."""
        return self._driver.name

    @property
    def second_bdf(self) -> str | None:
        """Address of the second VFIO device, None if there is none."""
        assert isinstance(self._driver, VfioDriver)
        return self._driver.second

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

    def flushed(self, pages: Pages) -> Pages:
        """Return those of *pages* that the kernel must flush for the VFIO device: all, or none if it is coherent."""
        return pages if self.coherency is Coherency.NON_COHERENT else ()

    def ioas(self) -> Ioas:
        """Make an empty IOAS."""
        return self.iommufd.alloc_ioas()

    def buffer(
        self,
        pages: int = 16,
        backing: Backing = Backing.ANON_4K,
        *,
        scattered: bool = False,
        named: range | None = None,
    ) -> Buffer:
        """Make a buffer of *pages* pages of 4 KiB.

        Args:
            pages: number of pages.
            backing: kind of memory.
            scattered: whether no two pages are contiguous.
            named: indexes of the pages that the scenario maps, by default of all pages.
        """
        try:
            memory = self._open.enter_context(DmaBuffer(pages * PAGE_BYTES, backing, prefault=not scattered))
        except BackingError as failure:
            raise SkipError(str(failure)) from None
        if scattered:
            # Pages that are touched in order mostly get consecutive page frames.
            with memory.view as view:
                for page in (*range(0, pages, 2), *range(1, pages, 2)):
                    view[page * PAGE_BYTES] = 0
        buffer = Buffer(f"buffer {len(self._buffers) + 1}", memory, named or range(pages))
        self._buffers.append(buffer)
        return buffer

    def dmabuf(self) -> Dmabuf:
        """Make a dma-buf of one page or more, from the mock driver or from a BAR of the VFIO device.

        Raises:
            SkipError: neither can make one.
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

    def device_with_pasids(self, coherency: Coherency) -> BoundDevice:
        """Return the scenario's device of this coherency, which may use PASIDs.

        Raises:
            SkipError: there is no such device, or it has no PASIDs.
        """
        device = self.device(coherency)
        with self.step("ask for the width of PASIDs"):
            width = device.hw_info().max_pasid_log2
        self.need(1 << width > PASID, f"the device {self._driver.name} has no PASIDs")
        return device

    def another_mock_device(self, coherency: Coherency) -> BoundDevice:
        """Make one more mock device of this coherency."""
        self.need(self.on_mock, "needs several devices, so it runs with the mock driver only")
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
        """Return a non-coherent device if there is one, else a coherent device."""
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
        if through_file:
            self.need_ioctl("IOMMU_IOAS_MAP_FILE")
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
        self._next_iova += round_up(length, _IOVA_STEP)
        return iova

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
        """Lower RLIMIT_MEMLOCK to *pages* pages and drop CAP_IPC_LOCK, which lifts it."""
        limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (pages * PAGE_BYTES, limits[1]))
        try:
            with without_ipc_lock():
                yield
        finally:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)

    @contextmanager
    def charged(self, whom: str) -> Iterator[None]:
        """Charge the memory that is pinned in the block to ``nobody``, the ``user`` or the ``process``.

        Raises:
            SkipError: this process has no permission to lift RLIMIT_MEMLOCK.
        """
        if whom == "nobody":
            yield
            return
        limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        if whom == "process":
            self.iommufd.rlimit_mode = 1
        # Without CAP_IPC_LOCK the kernel charges pinned pages. No limit applies: the scenario needs only the accounts.
        if not lift_memlock():
            raise SkipError("RLIMIT_MEMLOCK cannot be lifted: this process has no CAP_SYS_RESOURCE")
        try:
            with without_ipc_lock():
                yield
        finally:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)

    def in_another_process(self, task: Callable[[], None]) -> None:
        """Run *task* in a child process, and wait for the end of the process.

        Raises:
            ToolError: the task raised an error; the text names it.
        """
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                task()
                status = 0
            except BaseException as failure:
                os.write(writing, f"{type(failure).__name__}: {failure}".encode())
            finally:
                os._exit(status)
        os.close(writing)
        with open(reading, errors="replace") as answer:
            reason = answer.read()
        _, status = os.waitpid(child, 0)
        if status:
            raise ToolError(f"the other process of the scenario failed: {reason or f'wait status {status:#x}'}")

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

    def truncate(self, buffer: Buffer, pages: int) -> None:
        """Truncate a memfd after *pages* pages."""
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

    def change_user_addresses(self, container: Type1Container, buffer: Buffer, iova: int, length: int) -> None:
        """Invalidate the user addresses of a mapping, and set them again."""
        with self.step("invalidate the user addresses"):
            container.invalidate_user_va(iova, length)
        with self.step("set the user addresses again"):
            container.update_user_va(buffer.memory.user_va, length, iova)

    def crash(self, held: Resource) -> None:
        """Close descriptors as the kernel does at the end of a process; nothing is unmapped or destroyed before."""
        _drop(held)

    def need(self, condition: bool, otherwise: str) -> None:
        """Skip the scenario with the reason *otherwise* unless *condition* holds."""
        if not condition:
            raise SkipError(otherwise)

    def need_parts_of_pages(self, alignment: int) -> None:
        """Skip the scenario if *alignment*, the smallest unit that the domains map, is a whole page."""
        self.need(alignment < PAGE_BYTES, "the IOMMU maps nothing smaller than a page")

    def need_ioctl(self, name: str) -> None:
        """Skip the scenario on a kernel without the ioctl *name*."""
        self.need(self.iommufd.probe()[name], f"the kernel has no {name}")


def _drop(held: Resource) -> None:
    for dependent in reversed(tuple(held._dependents)):
        _drop(dependent)
    if hasattr(held, "fileno"):
        held._release()
    held._mark_closed()
