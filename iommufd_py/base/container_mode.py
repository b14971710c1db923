# SPDX-License-Identifier: MIT
"""The five interfaces through which VFIO gives a device an IO address space."""

from enum import StrEnum


class ContainerMode(StrEnum):
    """The kernel interface behind a container. tools/testing/selftests/vfio distinguishes the same five."""

    VFIO_TYPE1 = "vfio_type1"
    VFIO_TYPE1V2 = "vfio_type1v2"
    COMPAT_TYPE1 = "compat_type1"
    """The type1 interface that iommufd emulates on /dev/iommu (drivers/iommu/iommufd/vfio_compat.c)."""
    COMPAT_TYPE1V2 = "compat_type1v2"
    IOMMUFD = "iommufd"
    """An IOAS of an iommufd and the device's cdev."""
