# SPDX-License-Identifier: MIT
"""A point made ready to be timed: the kernel's objects, the memory, the loops."""

import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

from iommufd_py.bench.model import LEGACY_MODES, Accounting, CacheState, IovaUse, Point, Target, Workload
from iommufd_py.bench.steps import Parts, Place, steps
from iommufd_py.container import ContainerMode, Type1Container, open_container
from iommufd_py.context import Iommufd
from iommufd_py.device import BoundDevice, VfioDevice
from iommufd_py.enums import HwInfoType
from iommufd_py.errors import ToolError
from iommufd_py.group import VfioGroupDevice
from iommufd_py.hwpt import Coherency, CoherencyEvidence, Hwpt
from iommufd_py.ioas import Ioas
from iommufd_py.iova import IovaRanges
from iommufd_py.memory import Backing, DmaBuffer
from iommufd_py.mock import MockDevice
from iommufd_py.resource import Resource
from iommufd_py.uapi import vfio
from iommufd_py.uapi.bench import Loop, can_flush, without_ipc_lock
from iommufd_py.units import PAGE_BYTES, format_size

__all__ = ["MOCK", "Setup", "Worker", "points", "set_up", "target"]

MOCK = "mock"


def points(**axes: Iterable[Any]) -> tuple[list[Point], list[str]]:
    """Combine the values of all axes; returns the points that can exist, and why others cannot.

    Args:
        axes: values for each field of :class:`Point`.
    """
    found: list[Point] = []
    left_out: list[str] = []
    for values in product(*axes.values()):
        point = Point(**dict(zip(axes, values, strict=True)))
        problem = _problem(point)
        if problem is None:
            found.append(point)
        else:
            left_out.append(problem)
    return list(dict.fromkeys(found)), list(dict.fromkeys(left_out))


def _problem(point: Point) -> str | None:
    size, backing = format_size(point.size_bytes), Backing(point.backing)
    if point.size_bytes % backing.page_bytes:
        return f"{size} is no multiple of the {format_size(backing.page_bytes)} pages of {backing}"
    if point.size_bytes % point.ioctl_bytes or point.ioctl_bytes % PAGE_BYTES:
        return f"{size} cannot be mapped in chunks of {format_size(point.ioctl_bytes)}"
    if point.workload is Workload.MAP_FILE and backing is not Backing.MEMFD:
        return f"map-file needs a memfd, not {backing}"
    if point.workload is Workload.TEARDOWN and point.hwpts != 1:
        return "teardown is of the only domain, not of one of several"
    if point.workload in (Workload.ATTACH, Workload.TEARDOWN) and (point.threads > 1 or point.own_ioas):
        return f"{point.workload} is for one thread"
    if point.workload in (Workload.ATTACH, Workload.TEARDOWN) and point.iova_use is IovaUse.FRESH:
        return f"{point.workload} maps nothing, so it has no fresh IOVA"
    if point.backend is not ContainerMode.IOMMUFD and not _fits_container(point):
        return f"{point.backend} has no {point.workload}, or no choice of domains, large pages, spaces or accounting"
    if point.workload is Workload.ATTACH and point.hwpts == 0:
        return "attach adds a domain to those that are there: the first one is the workload teardown"
    return None


def _fits_container(point: Point) -> bool:
    plain = point.hwpts == 1 and point.huge_pages and not point.own_ioas
    # iommufd keeps what is mapped when the group leaves its imitation of a container: there is no teardown.
    known = point.workload is Workload.MAP or (point.workload is Workload.TEARDOWN and point.backend in LEGACY_MODES)
    return plain and known and point.accounting is Accounting.NONE


@dataclass(frozen=True, slots=True)
class Worker:
    """What one thread does: its loop, and where its memory is."""

    loop: Loop
    buffer: DmaBuffer
    iova: int


@dataclass(frozen=True, slots=True)
class Setup:
    """A point made ready: the kernel's objects are there, and each worker's loop may run.

    Attributes:
        iommufd: for what the kernel counts, which it does for all alike.
        bdf: the device whose page tables show what is mapped, None if none do.
    """

    iommufd: Iommufd
    bdf: str | None
    workers: tuple[Worker, ...]


@contextmanager
def set_up(point: Point, device_name: str, coherency: Coherency, iova: int | None = None) -> Iterator[Setup]:
    """Make all that *point* needs; everything is given back at the end.

    Raises:
        ToolError: it cannot be had here.
    """
    if point.cache in (CacheState.CLEAN, CacheState.EVICTED) and not can_flush():
        raise ToolError(f"no buffer can be made {point.cache} here: user space needs CLFLUSHOPT; use --cache dirty")
    make = _in_ioas if point.backend is ContainerMode.IOMMUFD else _in_container
    with _accounting(point), make(point, device_name, coherency) as (iommufd, bdf, spaces), ExitStack() as buffers:
        workers = []
        for thread in range(point.threads):
            space = spaces[thread % len(spaces)]
            place = Place.find(device_name, space.ranges, point, thread, iova)
            buffer = buffers.enter_context(DmaBuffer(point.size_bytes, Backing(point.backing)))
            parts = Parts(point, space.fd, space.ioas_id, space.dev_id, space.group_fd, space.iommu_type, buffer, place)
            loop = Loop(
                steps(parts), user_va=buffer.user_va, length=buffer.length, cache=str(point.cache), places=place.places
            )
            workers.append(Worker(loop, buffer, place.iova))
        try:
            yield Setup(iommufd, bdf, tuple(workers))
        finally:
            # What is mapped goes before the memory does.
            for space in spaces:
                space.resource.close()


@dataclass(frozen=True, slots=True)
class _Space:
    """An IO address space: what is closed to give it back, where it may map, and how ioctls name it."""

    resource: Resource
    ranges: IovaRanges
    fd: int
    ioas_id: int = 0
    dev_id: int = 0
    group_fd: int = 0
    iommu_type: int = 0


_Spaces = tuple[Iommufd, str | None, list[_Space]]


@contextmanager
def _in_ioas(point: Point, device_name: str, coherency: Coherency) -> Iterator[_Spaces]:
    with Iommufd() as iommufd, ExitStack() as devices:
        if point.accounting is Accounting.MM:
            iommufd.rlimit_mode = 1  # which the kernel takes before there is any object only
        device = devices.enter_context(_open(iommufd, device_name))
        spaces = []
        for _ in range(point.threads if point.own_ioas else 1):
            ioas = iommufd.alloc_ioas()
            ioas.huge_pages = point.huge_pages
            ranges = _make_domains(device, ioas, point, coherency)
            spaces.append(_Space(ioas, ranges, iommufd.fileno(), ioas.id, device.dev_id))
        shows = isinstance(device, VfioDevice) and bool(device.attachments)
        yield iommufd, device_name if shows else None, spaces


@contextmanager
def _in_container(point: Point, device_name: str, coherency: Coherency) -> Iterator[_Spaces]:
    with Iommufd() as iommufd, open_container(point.backend, device_name) as container:
        assert isinstance(container, Type1Container)
        CoherencyEvidence(container.dma_cc(), None).require(coherency, device_name)
        assert isinstance(container.device, VfioGroupDevice)
        group, fd, ranges = container.device.group, container.fileno(), container.iova_ranges()
        space = _Space(container, ranges, fd, group_fd=group.fileno(), iommu_type=container.iommu_type)
        if point.workload is Workload.TEARDOWN:
            # A group with an open device does not leave. The rounds let it come back.
            container.device.close()
            vfio.group_unset_container(group.fileno())
        yield iommufd, device_name, [space]


def _open(iommufd: Iommufd, name: str) -> BoundDevice:
    return MockDevice(iommufd) if name == MOCK else VfioDevice(iommufd, name)


def _accounting(point: Point) -> AbstractContextManager[None]:
    """See to it that pages are charged, but to a limit that they do not reach, where we may set it."""
    if point.accounting is Accounting.NONE:
        return nullcontext()
    if os.geteuid() == 0:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return without_ipc_lock()


def _make_domains(device: BoundDevice, ioas: Ioas, point: Point, coherency: Coherency) -> IovaRanges:
    """Make the HWPTs that are there all the time, the first for the device, and return where they all can map."""
    if point.workload is Workload.TEARDOWN:
        # It comes and goes with each round; what it can map is known while it is there.
        with device.alloc_hwpt(ioas, coherency=coherency):
            return ioas.iova_ranges()
    hwpts = [device.alloc_hwpt(ioas, coherency=coherency) for _ in range(point.hwpts)]
    if hwpts and not device.attachments:
        device.attach(hwpts[0])
    return ioas.iova_ranges()


def target(device_name: str, coherency: Coherency) -> Target:
    """Describe the device and the domains made for it.

    Raises:
        CoherencyError: they are not of the coherency asked for.
    """
    with Iommufd() as iommufd, _open(iommufd, device_name) as device:
        hwpt: Hwpt = device.alloc_hwpt(iommufd.alloc_ioas(), coherency=coherency)
        assert hwpt.evidence is not None
        info = device.hw_info()
        registers = info.vtd_registers
        return Target(
            device=device.name,
            iommu=info.type.name if isinstance(info.type, HwInfoType) else f"type {info.type}",
            cap=registers[0] if registers else None,
            evidence=hwpt.evidence,
        )
