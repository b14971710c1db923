# SPDX-License-Identifier: MIT
"""The kernel objects of /dev/iommu: iommufd, IOAS, HWPT, mapping, fault queue, vIOMMU, dirty tracking."""
