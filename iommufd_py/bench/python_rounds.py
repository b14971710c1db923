# SPDX-License-Identifier: MIT
"""Rounds that are timed in Python because they are not a series of ioctls: DMA through a mapping, and close()."""

import os
import resource
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from uuid import UUID

from iommufd_py.base.errors import DmaError
from iommufd_py.base.pci_address import MOCK, normalize_bdf
from iommufd_py.bench.ioctl_rounds import Parts
from iommufd_py.dma import DmaEngine
from iommufd_py.mock.device import make_device
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.results.model import CacheState
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio
from iommufd_py.uapi.bench import FAULTED, SWITCHED, Batch, Gate, clock_ns
from iommufd_py.uapi.enums import MockDeviceFlags
from iommufd_py.vfio.sysfs import find_cdev

# Writing one byte at this distance makes every line of the CPU's caches dirty.
_CACHE_LINE = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """The time of one operation in ns, and its disturbances: SWITCHED, FAULTED or both."""

    ns: int
    disturbances: int


class Stopwatch:
    """Time one operation, and count the disturbances of the timed part.

    A disturbance is an involuntary context switch or a major page fault. While the thread waits for the device it gives
    up the CPU voluntarily, which is part of the operation.
    """

    def __enter__(self) -> Self:
        self._before = _disturbances()
        self._start = clock_ns()
        return self

    def __exit__(self, *_: object) -> None:
        self._ns = clock_ns() - self._start
        self._after = _disturbances()

    @property
    def sample(self) -> Sample:
        """The sample, once the block has ended."""
        (switches, faults), (switches_after, faults_after) = self._before, self._after
        return Sample(self._ns, SWITCHED * (switches_after > switches) | FAULTED * (faults_after > faults))


class PythonRounds:
    """One operation, repeated like the steps of a :class:`~iommufd_py.uapi.bench.Loop`.

    Args:
        name: name of the operation.
        once: function that does a whole round and returns its sample.
    """

    def __init__(self, name: str, once: Callable[[], Sample]) -> None:
        self.names = (name,)
        self._once = once

    def run(self, count: int, gate: Gate | None = None) -> list[Batch]:
        """Do *count* rounds and return their samples."""
        assert gate is None, "threads take turns in Python, so their times would mean nothing"
        ns, disturbances = array("Q", bytes(8 * count)), bytearray(count)
        for number in range(count):
            sample = self._once()
            ns[number], disturbances[number] = sample.ns, sample.disturbances
        return [Batch(ns, bytes(disturbances))]

    def run_step(self, number: int) -> None:
        """Do one round, which has one step only."""
        assert number == 0
        self._once()


def _disturbances() -> tuple[int, int]:
    """Return the numbers of involuntary context switches and of major page faults of this thread."""
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_nivcsw, usage.ru_majflt


def dma_rounds(engine: DmaEngine, ioas: Ioas, parts: Parts) -> PythonRounds:
    """Map the buffer, let the device write all of it, unmap it. The content is checked after each round."""
    buffer, iova = parts.buffer, parts.place.iova

    def once() -> Sample:
        with buffer.view as view:
            view[:] = bytes(buffer.length)
        with Stopwatch() as stopwatch, ioas.map(buffer, iova):
            content = engine.fill(iova, buffer.length)
        with buffer.view as view:
            if view != content:
                raise DmaError(
                    f"{engine.device.name} wrote to IOVA {iova:#x}, but the buffer holds other bytes: run "
                    f"'iommufd dma check --device {engine.device.name}'"
                )
        return stopwatch.sample

    return PythonRounds(parts.point.operations[0], once)


def close_rounds(device_name: str, vf_token: UUID | None, mock_flags: MockDeviceFlags, parts: Parts) -> PythonRounds:
    """Fill an IO address space and close its descriptors, as the end of a process does.

    Each cache line of the buffer is written before the close, so that it is dirty as the row says. A kernel that
    flushes at the map has evicted all of them.
    """

    def once() -> Sample:
        with ExitStack() as descriptors:
            fd = _open(DEV_IOMMU, descriptors)
            if device_name == MOCK:
                dev_id = int(make_device(fd, uapi.ioas_alloc(fd), mock_flags).out_idev_id)
            else:
                cdev = _open(find_cdev(normalize_bdf(device_name)), descriptors)
                dev_id = vfio.device_bind_iommufd(cdev, fd, vf_token.bytes if vf_token else None)
            ioas_id = uapi.ioas_alloc(fd)
            for _ in range(parts.point.hwpts):
                uapi.hwpt_alloc(fd, dev_id, ioas_id)
            replace(parts, fd=fd, ioas_id=ioas_id, dev_id=dev_id).populate()
            if parts.point.cache is CacheState.DIRTY:
                with parts.buffer.view as view:
                    view[::_CACHE_LINE] = bytes(len(view[::_CACHE_LINE]))
            with Stopwatch() as stopwatch:
                descriptors.close()
            return stopwatch.sample

    return PythonRounds(parts.point.operations[0], once)


def _open(path: Path, descriptors: ExitStack) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    descriptors.callback(os.close, fd)
    return fd
