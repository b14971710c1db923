# SPDX-License-Identifier: MIT
"""The `iommufd` command. Installed as iommufd_py.cli."""
