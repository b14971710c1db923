# SPDX-License-Identifier: MIT
"""Where the devices of a scenario come from."""

from typing import Protocol

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import InvalidFieldError, SkipError
from iommufd_py.mock import MockDevice
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.uapi.enums import MockDeviceFlags
from iommufd_py.vfio.device import VfioDevice


class Driver(Protocol):
    """What makes the devices of a scenario."""

    name: str

    def open(self, iommufd: Iommufd, coherency: Coherency) -> BoundDevice:
        """Return a device whose domains are of this coherency."""
        ...


class MockDriver:
    """The kernel's own mock devices, coherent ones only with a kernel that has them."""

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
    """One PCI device bound to vfio-pci, whose domains are what its IOMMU makes them."""

    def __init__(self, bdf: str) -> None:
        self.name = bdf
        self._coherency: Coherency | None = None

    def open(self, iommufd: Iommufd, coherency: Coherency) -> BoundDevice:
        """Bind the device to the iommufd."""
        if coherency is not self.coherency(iommufd):
            raise SkipError(f"the IOMMU of {self.name} makes no {coherency} domain")
        return VfioDevice(iommufd, self.name)

    def coherency(self, iommufd: Iommufd) -> Coherency:
        """Return what all domains of the device are; the device is opened for it once, so it must be free then."""
        if self._coherency is None:
            with VfioDevice(iommufd, self.name) as device, iommufd.alloc_ioas() as ioas:
                evidence = device.alloc_hwpt(ioas).evidence
                assert evidence is not None
                self._coherency = evidence.coherency
        return self._coherency
