# SPDX-License-Identifier: MIT
"""Errors of the lab."""

from iommufd_py.base.errors import SkipError, ToolError


class LabError(ToolError):
    """The lab cannot do what was asked; the text is one sentence with the cause and the remedy."""


class NoSourceError(LabError, SkipError):
    """The kernel series that was asked for is neither here nor to be had: nothing can be said of it on this machine."""
