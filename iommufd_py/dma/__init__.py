# SPDX-License-Identifier: MIT
"""DMA engines: drivers that let a device read and write memory through a mapping, and checks that use them.

    with open_container(ContainerMode.IOMMUFD, bdf) as container, DmaBuffer(4096) as buffer:
        engine = open_engine(container.device, container)
        with container.map(buffer, 0x20_0000):
            content = engine.write(0x20_0000, 1000)
        assert buffer.view[:1000] == content

To add a driver, write a subclass of DmaEngine and add it to ENGINES.
"""

from iommufd_py import pci
from iommufd_py.base.errors import SkipError
from iommufd_py.dma.dsa import DsaEngine
from iommufd_py.dma.e1000e import E1000eEngine
from iommufd_py.dma.edu import EduEngine
from iommufd_py.dma.engine import AddressSpace, DmaEngine, TransferLimits, reachable
from iommufd_py.dma.faults import DmaFault, FaultLog, parse_dma_faults
from iommufd_py.dma.igb import IgbEngine
from iommufd_py.dma.nvme import NvmeEngine
from iommufd_py.vfio.pci_device import VfioPciDevice

__all__ = [
    "ENGINES",
    "AddressSpace",
    "DmaEngine",
    "DmaFault",
    "DsaEngine",
    "E1000eEngine",
    "EduEngine",
    "FaultLog",
    "IgbEngine",
    "NvmeEngine",
    "TransferLimits",
    "engine_for",
    "open_engine",
    "parse_dma_faults",
    "reachable",
]

ENGINES: tuple[type[DmaEngine], ...] = (EduEngine, NvmeEngine, E1000eEngine, IgbEngine, DsaEngine)
"""All drivers."""


def engine_for(bdf: str) -> type[DmaEngine]:
    """Return the driver for the device at *bdf*, chosen by the device's ids or class code.

    Raises:
        SkipError: there is no driver for this device.
        DeviceError: there is no such device.
    """
    device = pci.pci_device(bdf)
    for engine in ENGINES:
        if device.ids in engine.ids or (engine.class_code and device.class_code.startswith(engine.class_code)):
            return engine
    known = ", ".join(engine.__name__.removesuffix("Engine").lower() for engine in ENGINES)
    raise SkipError(
        f"there is no DMA engine for {device.bdf} ({device.ids}, class {device.class_code}), only for {known}: "
        "choose another device, or write a driver (iommufd_py/dma)"
    )


def open_engine(
    device: VfioPciDevice,
    space: AddressSpace,
    *,
    iova: int | None = None,
    interrupt: bool = False,
    pasid: int | None = None,
) -> DmaEngine:
    """Start the driver for an open device whose DMA goes through *space*. Closing the device closes the driver.

    Args:
        device: the device on vfio-pci, opened as cdev or through its group.
        space: the Ioas that the device is attached to, or its container.
        iova: IOVA of the engine's own memory; default: the highest that the device reaches.
        interrupt: wait for completions by an interrupt instead of polling.
        pasid: the PASID that all DMA carries; *space* is then what this PASID is attached to.
    """
    return engine_for(device.bdf)(device, space, iova=iova, interrupt=interrupt, pasid=pasid)
