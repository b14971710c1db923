# SPDX-License-Identifier: MIT
"""Devices of the kernel's own mock driver (CONFIG_IOMMUFD_TEST): real iommufd, real page tables, no hardware."""

from iommufd_py.context import Iommufd
from iommufd_py.device import BoundDevice
from iommufd_py.enums import MockDeviceFlags
from iommufd_py.errors import ToolError, UnsupportedIoctlError
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import iommufd_test

__all__ = ["MockDevice"]


class MockDevice(BoundDevice):
    """A mock device. The kernel knows none that is not attached, so it has an IOAS of its own to be parked on.

    Raises:
        ToolError: the running kernel is built without CONFIG_IOMMUFD_TEST.

    Source: drivers/iommu/iommufd/selftest.c.
    """

    def __init__(self, iommufd: Iommufd, flags: MockDeviceFlags = MockDeviceFlags(0)) -> None:
        super().__init__(iommufd)
        self._parking = iommufd.alloc_ioas()
        self._stands_on = (iommufd, self._parking)
        try:
            made = iommufd_test.command(
                iommufd.fileno(), "MOCK_DOMAIN_FLAGS", self._parking.id, "mock_domain_flags", dev_flags=flags
            )
        except UnsupportedIoctlError:
            self._parking.close()
            raise ToolError(
                "this kernel has no mock driver: it needs CONFIG_IOMMUFD_TEST, as in 'iommufd lab run -- ...'"
            ) from None
        except BaseException:
            self._parking.close()
            raise
        self.id = int(made.mock_domain_flags.out_stdev_id)
        self.dev_id = int(made.mock_domain_flags.out_idev_id)
        self._opened()

    def __repr__(self) -> str:
        return f"MockDevice(id={self.id})"

    @property
    def name(self) -> str:
        """Always ``mock``."""
        return "mock"

    def _attach(self, pt_id: int) -> None:
        iommufd_test.command(self.iommufd.fileno(), "MOCK_DOMAIN_REPLACE", self.id, "mock_domain_replace", pt_id=pt_id)

    def _detach(self) -> None:
        self._attach(self._parking.id)

    def _release(self) -> None:
        uapi.destroy(self.iommufd.fileno(), self.id)

    def close(self) -> None:
        """Close what stands on the device, the device, and its parking IOAS."""
        super().close()
        self._parking.close()
