# SPDX-License-Identifier: MIT
"""This machine, read only: its description, its kernel's features, IOMMUs, limits, log and traces."""

from iommufd_py.base.environment import Environment, Platform
from iommufd_py.host.environment import NONCOHERENT_KNOB, environment, pinned_bytes
from iommufd_py.host.features import KernelFeatures, kernel_features
from iommufd_py.host.iommus import Iommu, iommu_options, iommus
from iommufd_py.host.limits import HugePagePool, Limits, limits

__all__ = [
    "NONCOHERENT_KNOB",
    "Environment",
    "HugePagePool",
    "Iommu",
    "KernelFeatures",
    "Limits",
    "Platform",
    "environment",
    "iommu_options",
    "iommus",
    "kernel_features",
    "limits",
    "pinned_bytes",
]
