# SPDX-License-Identifier: MIT
"""Devices of the kernel's own mock driver (CONFIG_IOMMUFD_TEST): real iommufd, real page tables, no hardware."""

from dataclasses import dataclass
from typing import Self

from iommufd_py.context import Iommufd
from iommufd_py.device import BoundDevice
from iommufd_py.enums import MockDeviceFlags
from iommufd_py.errors import NotSupportedError, ToolError, UnsupportedIoctlError
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi import iommufd_test

__all__ = ["FlushCount", "MockDevice", "flush_count"]


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


@dataclass(frozen=True, slots=True)
class FlushCount:
    """How often iommufd flushed the CPU caches for DMA pages, and how many pages by that.

    Contiguous pages are flushed by one call.
    """

    calls: int
    pages: int

    def __sub__(self, earlier: Self) -> "FlushCount":
        return FlushCount(self.calls - earlier.calls, self.pages - earlier.pages)


def flush_count(iommufd: Iommufd) -> FlushCount | None:
    """Return what the kernel flushed for all iommufds so far, None if it does not count, as a stock kernel.

    Source: IOMMU_TEST_OP_CACHE_FLUSH_COUNT, iommufd_py/lab/patches/README.md; counts for real devices too.
    """
    try:
        answer = iommufd_test.command(iommufd.fileno(), "CACHE_FLUSH_COUNT", 0, "cache_flush_count", flags=0)
    except (NotSupportedError, UnsupportedIoctlError):
        return None
    return FlushCount(int(answer.cache_flush_count.out_calls), int(answer.cache_flush_count.out_pages))
