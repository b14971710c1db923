# SPDX-License-Identifier: MIT
"""Sources of devices for scenarios: the mock driver, or one PCI device."""

from typing import Protocol

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import InvalidFieldError, SkipError
from iommufd_py.mock import MockDevice
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.uapi.enums import MockDeviceFlags
from iommufd_py.vfio.device import VfioDevice


class Driver(Protocol):
    """Source of the devices of a scenario."""

    name: str

    def open(self, iommufd: Iommufd, coherency: Coherency) -> BoundDevice:
        """Return a device whose domains have this coherency."""
        ...


class MockDriver:
    """The kernel's mock devices. Coherent ones exist only on a kernel with the flush series."""

    name = "mock"

    def open(self, iommufd: Iommufd, coherency: Coherency) -> BoundDevice:
        """Make a mock device."""
        if not iommufd.probe()["IOMMU_TEST_CMD"]:
            raise SkipError("this kernel has no mock driver (CONFIG_IOMMUFD_TEST): give a PCI device with --device")
        if coherency is Coherency.NON_COHERENT:
            return MockDevice(iommufd)
        try:
            return MockDevice(iommufd, MockDeviceFlags.COHERENT)
        except InvalidFieldError:
            raise SkipError("the mock driver of this kernel has no coherent devices") from None


class VfioDriver:
    """One PCI device bound to vfio-pci; its IOMMU decides the coherency of its domains."""

    def __init__(self, bdf: str) -> None:
        self.name = bdf
        self._coherency: Coherency | None = None

    def open(self, iommufd: Iommufd, coherency: Coherency) -> BoundDevice:
        """Bind the device to the iommufd."""
        if coherency is not self.coherency(iommufd):
            raise SkipError(f"the IOMMU of {self.name} makes no {coherency} domain")
        return VfioDevice(iommufd, self.name)

    def coherency(self, iommufd: Iommufd) -> Coherency:
        """Return the coherency of the device's domains. The first call opens the device, which must be free then."""
        if self._coherency is None:
            with VfioDevice(iommufd, self.name) as device, iommufd.alloc_ioas() as ioas:
                evidence = device.alloc_hwpt(ioas).evidence
                assert evidence is not None
                self._coherency = evidence.coherency
        return self._coherency
