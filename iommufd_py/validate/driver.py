# SPDX-License-Identifier: MIT
"""Sources of devices for scenarios: the mock driver, or a PCI device and perhaps a second one."""

from typing import Protocol
from uuid import UUID

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import DeviceError, NotSupportedError, SkipError
from iommufd_py.base.meanings import NO_MOCK_DEVICE
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.mock import MockDevice, MockDmabuf, mock_makes
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.dmabuf import Dmabuf
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.uapi.enums import MockDeviceFlags, RegionIndex
from iommufd_py.vfio.device import VfioDevice
from iommufd_py.vfio.pci_device import PciCommand

_DMABUF_BYTES = 4 * PAGE_BYTES


class Driver(Protocol):
    """Source of the devices of a scenario."""

    name: str

    def open(self, iommufd: Iommufd, coherency: Coherency) -> BoundDevice:
        """Return a device whose domains have this coherency."""
        ...

    def dmabuf(self, iommufd: Iommufd, device: BoundDevice) -> Dmabuf:
        """Return a dma-buf of one page or more, of *device* if it exports any."""
        ...


class MockDriver:
    """The kernel's mock devices. Coherent ones exist only on a kernel with the flush series."""

    name = "mock"

    def open(self, iommufd: Iommufd, coherency: Coherency) -> BoundDevice:
        """Make a mock device, with PASIDs if possible."""
        if not iommufd.probe()["IOMMU_TEST_CMD"]:
            raise SkipError("this kernel has no mock driver (CONFIG_IOMMUFD_TEST): give a PCI device with --device")
        flags = MockDeviceFlags.COHERENT if coherency is Coherency.COHERENT else MockDeviceFlags(0)
        # The mock driver of older kernels has no PASIDs.
        for one in (flags | MockDeviceFlags.PASID, flags):
            if mock_makes(iommufd, one):
                return MockDevice(iommufd, one)
        if not mock_makes(iommufd, MockDeviceFlags(0)):
            raise SkipError(NO_MOCK_DEVICE)
        raise SkipError(f"the mock driver of this kernel makes no {coherency} devices")

    def dmabuf(self, iommufd: Iommufd, device: BoundDevice) -> Dmabuf:
        """Make a dma-buf of the mock driver."""
        try:
            return MockDmabuf(iommufd, _DMABUF_BYTES)
        except NotSupportedError:
            raise SkipError("the mock driver of this kernel makes no dma-bufs") from None


class VfioDriver:
    """One PCI device bound to vfio-pci; its IOMMU decides the coherency of its domains.

    Attributes:
        name: address of the device.
        vf_token: token of a virtual function, or None.
        second: address of one more device on vfio-pci, for scenarios with two devices, or None.
    """

    def __init__(self, bdf: str, vf_token: UUID | None = None, second: str | None = None) -> None:
        self.name = bdf
        self.vf_token = vf_token
        self.second = second
        self._coherency: Coherency | None = None

    def open(self, iommufd: Iommufd, coherency: Coherency) -> BoundDevice:
        """Bind the device to the iommufd."""
        if coherency is not self.coherency(iommufd):
            raise SkipError(f"the IOMMU of {self.name} makes no {coherency} domain")
        return VfioDevice(iommufd, self.name, vf_token=self.vf_token)

    def dmabuf(self, iommufd: Iommufd, device: BoundDevice) -> Dmabuf:
        """Export a BAR of the device. The device need not reach it by DMA to have it mapped."""
        assert isinstance(device, VfioDevice)
        device.change_command(set_bits=PciCommand.MEMORY)
        bars = [device.region(index) for index in range(RegionIndex.BAR0, RegionIndex.BAR5 + 1)]
        usable = [bar.info for bar in bars if bar.info.mmap_areas and bar.info.size % PAGE_BYTES == 0]
        if not usable:
            raise SkipError(f"{self.name} has no BAR of whole pages to export as a dma-buf")
        try:
            return device.export_dmabuf(usable[0].index, length=min(usable[0].size, _DMABUF_BYTES))
        except DeviceError as failure:
            raise SkipError(str(failure)) from None

    def coherency(self, iommufd: Iommufd) -> Coherency:
        """Return the coherency of the device's domains. The first call opens the device, which must be free then."""
        if self._coherency is None:
            with VfioDevice(iommufd, self.name, vf_token=self.vf_token) as device, iommufd.alloc_ioas() as ioas:
                self._coherency = device.alloc_hwpt(ioas).evidence.coherency
        return self._coherency
