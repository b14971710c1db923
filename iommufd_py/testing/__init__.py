# SPDX-License-Identifier: MIT
"""For tests of iommufd and VFIO on a real kernel, ours and those of anyone's hardware runner."""
