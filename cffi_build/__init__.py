# SPDX-License-Identifier: MIT
"""Build time only: compiles iommufd_py._uapi. Nothing here is imported at run time."""
