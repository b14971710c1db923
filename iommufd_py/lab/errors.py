# SPDX-License-Identifier: MIT
"""Errors of the lab."""

from iommufd_py.errors import ToolError

__all__ = ["LabError"]


class LabError(ToolError):
    """The lab cannot do what was asked; the text is one sentence with the cause and the remedy."""
