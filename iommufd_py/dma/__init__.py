# SPDX-License-Identifier: MIT
"""Drivers that make a device read and write memory through a mapping.

    with open_container(ContainerMode.IOMMUFD, bdf) as container, DmaBuffer(4096) as buffer:
        engine = open_engine(container.device, container)
        with container.map(buffer, 0x20_0000):
            content = engine.write(0x20_0000, 1000)
        assert buffer.view[:1000] == content

A new driver is a subclass of DmaEngine and a word in ENGINES.
"""

from iommufd_py import pci
from iommufd_py.base.errors import SkipError
from iommufd_py.dma.edu import EduEngine
from iommufd_py.dma.engine import AddressSpace, DmaEngine, TransferLimits, reachable
from iommufd_py.dma.faults import DmaFault, FaultLog, parse_dma_faults
from iommufd_py.dma.nvme import NvmeEngine
from iommufd_py.vfio.pci_device import VfioPciDevice

__all__ = [
    "ENGINES",
    "AddressSpace",
    "DmaEngine",
    "DmaFault",
    "EduEngine",
    "FaultLog",
    "NvmeEngine",
    "TransferLimits",
    "engine_for",
    "open_engine",
    "parse_dma_faults",
    "reachable",
]

ENGINES: tuple[type[DmaEngine], ...] = (EduEngine, NvmeEngine)
"""The drivers there are."""


def engine_for(bdf: str) -> type[DmaEngine]:
    """Return the driver for the device at *bdf*, by its ids or its class.

    Raises:
        SkipError: there is none.
        DeviceError: there is no such device.
    """
    device = pci.pci_device(bdf)
    for engine in ENGINES:
        if device.ids in engine.ids or (engine.class_code and device.class_code.startswith(engine.class_code)):
            return engine
    known = ", ".join(engine.__name__.removesuffix("Engine").lower() for engine in ENGINES)
    raise SkipError(
        f"nothing here can make {device.bdf} ({device.ids}, class {device.class_code}) do DMA, only {known}: "
        "choose another device, or write a driver (iommufd_py/dma)"
    )


def open_engine(
    device: VfioPciDevice, space: AddressSpace, *, iova: int | None = None, interrupt: bool = False
) -> DmaEngine:
    """Start the driver for an open device, whose DMA goes to *space*; closing the device closes it.

    Args:
        device: on vfio-pci, as cdev or through its group.
        space: the Ioas it is attached to, or its container.
        iova: where the engine's own memory is mapped; default: as high as the device reaches.
        interrupt: learn of completions by an interrupt instead of polling.
    """
    return engine_for(device.bdf)(device, space, iova=iova, interrupt=interrupt)
