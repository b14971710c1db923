# SPDX-License-Identifier: MIT
"""A device of the tests, made ready for DMA."""

import contextlib
from collections.abc import Iterator

from iommufd_py import Iommufd, VfioDevice
from iommufd_py.dma import FaultLog, open_engine
from iommufd_py.dma.rig import Rig

__all__ = ["ioas_rig"]


@contextlib.contextmanager
def ioas_rig(address: str, *, interrupt: bool = False) -> Iterator[Rig]:
    with FaultLog() as log, Iommufd() as iommufd:
        device = VfioDevice(iommufd, address)
        ioas = iommufd.alloc_ioas()
        device.attach(device.alloc_hwpt(ioas))
        yield Rig(open_engine(device, ioas, interrupt=interrupt), ioas, log)
