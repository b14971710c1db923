# SPDX-License-Identifier: MIT
"""Rounds that are no row of ioctls, and so are timed from Python: DMA through a mapping, and the end of everything."""

import os
import resource
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from iommufd_py.base.errors import DmaError
from iommufd_py.base.pci_address import MOCK, normalize_bdf
from iommufd_py.bench.ioctl_rounds import Parts
from iommufd_py.dma import DmaEngine
from iommufd_py.mock.device import make_device
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import vfio
from iommufd_py.uapi.bench import FAULTED, SWITCHED, Batch, Gate, clock_ns
from iommufd_py.uapi.enums import MockDeviceFlags
from iommufd_py.vfio.sysfs import find_cdev


class Cycle:
    """One operation, gone through over and over like the steps of a :class:`~iommufd_py.uapi.bench.Loop`.

    Args:
        name: of the operation.
        once: does all of a round and returns the nanoseconds of the operation in it.
    """

    def __init__(self, name: str, once: Callable[[], int]) -> None:
        self.names = (name,)
        self._once = once

    def run(self, count: int, gate: Gate | None = None) -> list[Batch]:
        """Go *count* rounds and return what they took."""
        assert gate is None, "threads take turns in Python: nothing of them can be timed here"
        ns, disturbances = array("Q", bytes(8 * count)), bytearray(count)
        for number in range(count):
            switches, faults = _disturbances()
            ns[number] = self._once()
            switches_after, faults_after = _disturbances()
            disturbances[number] = SWITCHED * (switches_after > switches) | FAULTED * (faults_after > faults)
        return [Batch(ns, bytes(disturbances))]

    def run_step(self, number: int) -> None:
        """Go one round, which has one step only."""
        assert number == 0
        self._once()


def _disturbances() -> tuple[int, int]:
    """Return how often this thread lost the CPU against its will, and how often it waited for a page."""
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_nivcsw, usage.ru_majflt


def dma_cycle(engine: DmaEngine, ioas: Ioas, parts: Parts) -> Cycle:
    """Map the buffer, have the device write all of it, unmap it. What arrived is checked after each round."""
    buffer, iova = parts.buffer, parts.place.iova

    def once() -> int:
        with buffer.view as view:
            view[:] = bytes(buffer.length)
        start = clock_ns()
        with ioas.map(buffer, iova):
            content = engine.fill(iova, buffer.length)
        took = clock_ns() - start
        with buffer.view as view:
            if view != content:
                raise DmaError(
                    f"{engine.device.name} wrote to IOVA {iova:#x}, where it did not arrive: try 'iommufd dma check'"
                )
        return took

    return Cycle("map-dma-unmap", once)


def close_cycle(device_name: str, mock_flags: MockDeviceFlags, parts: Parts) -> Cycle:
    """Fill an IO address space and close what it hangs on, as the end of a process does."""

    def once() -> int:
        with ExitStack() as descriptors:
            fd = _open(DEV_IOMMU, descriptors)
            if device_name == MOCK:
                dev_id = int(make_device(fd, uapi.ioas_alloc(fd), mock_flags).out_idev_id)
            else:
                cdev = _open(find_cdev(normalize_bdf(device_name)), descriptors)
                dev_id = vfio.device_bind_iommufd(cdev, fd)
            ioas_id = uapi.ioas_alloc(fd)
            for _ in range(parts.point.hwpts):
                uapi.hwpt_alloc(fd, dev_id, ioas_id)
            replace(parts, fd=fd, ioas_id=ioas_id, dev_id=dev_id).populate()
            start = clock_ns()
            descriptors.close()
            return clock_ns() - start

    return Cycle("close", once)


def _open(path: Path, descriptors: ExitStack) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    descriptors.callback(os.close, fd)
    return fd
