# SPDX-License-Identifier: MIT
"""Prepare a device of the tests for DMA.

The lab has an edu device and an NVMe controller for these tests. Elsewhere they use IOMMUFD_BDF, if it has an engine.
"""

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from iommufd_py import ContainerMode, Iommufd, SkipError, VfioDevice, pci
from iommufd_py.dma import FaultLog, engine_for, open_engine
from iommufd_py.dma.harness import Harness
from iommufd_py.dma.pasid import attach_for_dma
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from iommufd_py.testing.requirements import IN_LAB, need, need_container

__all__ = ["address", "await_fault_log", "ioas_harness", "mode_harness"]

GIVEN = os.environ.get("IOMMUFD_BDF")
DMA_DEVICES = [GIVEN] if GIVEN else [TEST_DEVICES[0], NVME_DEVICE]


@pytest.fixture(scope="module", params=DMA_DEVICES)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    need(IN_LAB or bool(GIVEN), "needs a device that can do DMA: run it in the lab, or set IOMMUFD_BDF")
    try:
        engine_for(request.param)
    except SkipError as reason:
        if IN_LAB:  # Whoever chose the lab's machine gave it this device for these tests.
            raise
        pytest.skip(str(reason))
    with pci.vfio_bound(request.param):
        yield request.param


@pytest.fixture(params=ContainerMode, ids=str)
def mode_harness(request: pytest.FixtureRequest, address: str) -> Iterator[Harness]:
    """A running engine in a container of each mode."""
    with FaultLog() as log, need_container(request.param, address) as container:
        yield Harness(open_engine(container.device, container), container, log)


def await_fault_log() -> None:
    """Wait until the kernel logs faults again: earlier tests may have used up the limit of three in five seconds."""
    time.sleep(5.5)


@contextlib.contextmanager
def ioas_harness(address: str, *, interrupt: bool = False, pasid: int | None = None) -> Iterator[Harness]:
    with FaultLog() as log, Iommufd() as iommufd:
        device = VfioDevice(iommufd, address)
        ioas = iommufd.alloc_ioas()
        attach_for_dma(device, ioas, pasid)
        yield Harness(open_engine(device, ioas, interrupt=interrupt, pasid=pasid), ioas, log)
