# SPDX-License-Identifier: MIT
"""Errors of the lab."""

from iommufd_py.base.errors import SkipError, ToolError


class LabError(ToolError):
    """The lab cannot do the task. The text is one sentence with the cause and the remedy."""


class NoSourceError(LabError, SkipError):
    """The source of the kernel series is not on this machine and no archive has it."""


class NoDeviceError(LabError, SkipError):
    """The QEMU of this machine does not emulate the device."""


class BuildError(LabError):
    """A source tree does not give a kernel for the lab; the machine is not the reason."""
