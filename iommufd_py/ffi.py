# SPDX-License-Identifier: MIT
"""The doorway: the only module that imports the compiled extension."""

from iommufd_py._uapi import ffi, lib

__all__ = ["ffi", "lib"]
