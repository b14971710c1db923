# SPDX-License-Identifier: MIT
"""Prepare a device of the tests for DMA."""

import contextlib
import time
from collections.abc import Iterator

from iommufd_py import Iommufd, VfioDevice
from iommufd_py.dma import FaultLog, open_engine
from iommufd_py.dma.harness import Harness

__all__ = ["await_fault_log", "ioas_harness"]


def await_fault_log() -> None:
    """Wait until the kernel logs faults again: earlier tests may have used up the limit of three in five seconds."""
    time.sleep(5.5)


@contextlib.contextmanager
def ioas_harness(address: str, *, interrupt: bool = False) -> Iterator[Harness]:
    with FaultLog() as log, Iommufd() as iommufd:
        device = VfioDevice(iommufd, address)
        ioas = iommufd.alloc_ioas()
        device.attach(device.alloc_hwpt(ioas))
        yield Harness(open_engine(device, ioas, interrupt=interrupt), ioas, log)
