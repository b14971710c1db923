# SPDX-License-Identifier: MIT
"""The only module that imports the compiled extension."""

from iommufd_py._uapi import ffi as ffi
from iommufd_py._uapi import lib as lib
