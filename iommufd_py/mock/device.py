# SPDX-License-Identifier: MIT
"""Mock devices."""

from typing import Any

from iommufd_py.base.arguments import checked
from iommufd_py.base.errors import ToolError, UnsupportedIoctlError
from iommufd_py.base.signals import held_signals
from iommufd_py.objects.device import Attachment, BoundDevice
from iommufd_py.objects.hwpt import Hwpt, NestedHwpt
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.objects.object import check_same_iommufd
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.enums import MockDeviceFlags, PageFaultPermission
from iommufd_py.uapi.iommufd_test import issue_test_op


class MockDevice(BoundDevice):
    """A mock device, attached to *target*.

    The kernel has no detached mock devices. So a detached device, or one without *target*, is attached to an empty IOAS
    of its own.

    Raises:
        ToolError: the running kernel is built without CONFIG_IOMMUFD_TEST.
    """

    @checked
    def __init__(
        self,
        iommufd: Iommufd,
        flags: MockDeviceFlags = MockDeviceFlags(0),
        *,
        target: Ioas | Hwpt | NestedHwpt | None = None,
    ) -> None:
        super().__init__(iommufd)
        if target is not None:
            target._check_open()
            check_same_iommufd(iommufd, "MockDevice", target=target)
        self._parking = iommufd.alloc_ioas()
        self._stands_on = (iommufd, self._parking)
        try:
            with self._opening():
                made = make_device(iommufd.fileno(), (target or self._parking).id, flags)
                self.id = int(made.out_stdev_id)
                self.dev_id = int(made.out_idev_id)
        except UnsupportedIoctlError:
            raise ToolError(
                "this kernel has no mock driver: it needs CONFIG_IOMMUFD_TEST, as in 'iommufd lab run -- ...'"
            ) from None
        if target is not None:
            self.attachments[None] = Attachment(self, target, None, int(made.out_hwpt_id))

    def __repr__(self) -> str:
        return f"MockDevice(id={self.id})"

    @property
    def name(self) -> str:
        """Always ``mock``."""
        return "mock"

    def _attach(self, pt_id: int, pasid: int | None) -> int:
        fd = self.iommufd.fileno()
        if pasid is None:
            answer = issue_test_op(fd, "MOCK_DOMAIN_REPLACE", self.id, "mock_domain_replace", pt_id=pt_id)
            return int(answer.mock_domain_replace.pt_id)
        if pasid in self.attachments:
            answer = issue_test_op(fd, "PASID_REPLACE", self.id, "pasid_replace", pasid=pasid, pt_id=pt_id)
            return int(answer.pasid_replace.pt_id)
        answer = issue_test_op(fd, "PASID_ATTACH", self.id, "pasid_attach", pasid=pasid, pt_id=pt_id)
        return int(answer.pasid_attach.pt_id)

    def _detach(self, pasid: int | None) -> None:
        if pasid is None:
            self._attach(self._parking.id, None)
        else:
            issue_test_op(self.iommufd.fileno(), "PASID_DETACH", self.id, "pasid_detach", pasid=pasid)

    def _release(self) -> None:
        uapi.destroy(self.iommufd.fileno(), self.id)

    def close(self) -> None:
        """Close the resources that depend on the device, the device, and the IOAS for its detached state."""
        with held_signals():
            # The kernel detaches a device that it destroys.
            attachment = self.attachments.pop(None, None)
            if attachment is not None:
                attachment._mark_closed()
            super().close()
            self._parking.close()

    @checked
    def check_pasid(self, pasid: int, hwpt_id: int) -> None:
        """Make the kernel check that *pasid* is attached to the HWPT (0: to none); EINVAL if not."""
        issue_test_op(self.iommufd.fileno(), "PASID_CHECK_HWPT", self.id, "pasid_check", pasid=pasid, hwpt_id=hwpt_id)

    @checked
    def check_cache(self, index: int, value: int) -> None:
        """Make the kernel check that an entry of the device's cache holds *value*; EINVAL if not."""
        issue_test_op(self.iommufd.fileno(), "DEV_CHECK_CACHE", self.dev_id, "check_dev_cache", id=index, cache=value)

    @checked
    def trigger_fault(
        self, address: int, permission: PageFaultPermission, *, pasid: int | None = None, group: int = 0
    ) -> None:
        """Make the device access a page that is not present."""
        issue_test_op(
            self.iommufd.fileno(),
            "TRIGGER_IOPF",
            0,
            "trigger_iopf",
            dev_id=self.dev_id,
            pasid=pasid or 0,
            grpid=group,
            perm=permission,
            addr=address,
        )

    def trigger_event(self) -> None:
        """Make the device send an event to its vIOMMU."""
        issue_test_op(self.iommufd.fileno(), "TRIGGER_VEVENT", 0, "trigger_vevent", dev_id=self.dev_id)


@checked
def make_device(fd: int, pt_id: int, flags: MockDeviceFlags = MockDeviceFlags(0)) -> Any:
    """Make a mock device that is attached to an IOAS or HWPT; returns its ids in fields ``out_...``."""
    if flags:
        return issue_test_op(fd, "MOCK_DOMAIN_FLAGS", pt_id, "mock_domain_flags", dev_flags=flags).mock_domain_flags
    return issue_test_op(fd, "MOCK_DOMAIN", pt_id).mock_domain
