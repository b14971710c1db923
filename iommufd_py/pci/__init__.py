# SPDX-License-Identifier: MIT
"""PCI functions of this machine: list them, find their users, take one for VFIO and give it back."""

from iommufd_py.pci.advice import iommu_remedy
from iommufd_py.pci.binding import (
    bind_vfio,
    check_bind,
    check_restore,
    check_unbind,
    restore,
    unbind,
    vfio_bound,
)
from iommufd_py.pci.functions import PciDevice, list_devices, pci_device
from iommufd_py.pci.groups import IommuGroup, ReservedRegion, group_types, iommu_group
from iommufd_py.pci.plans import is_replugged, plan_bind, plan_restore, plan_unbind
from iommufd_py.pci.state import Remembered, recall, remembered
from iommufd_py.pci.sysfs_write import SysfsWrite
from iommufd_py.pci.users.judgement import uses
from iommufd_py.pci.users.use import Use, UseKind

__all__ = [
    "IommuGroup",
    "PciDevice",
    "Remembered",
    "ReservedRegion",
    "SysfsWrite",
    "Use",
    "UseKind",
    "bind_vfio",
    "check_bind",
    "check_restore",
    "check_unbind",
    "group_types",
    "iommu_group",
    "iommu_remedy",
    "is_replugged",
    "list_devices",
    "pci_device",
    "plan_bind",
    "plan_restore",
    "plan_unbind",
    "recall",
    "remembered",
    "restore",
    "unbind",
    "uses",
    "vfio_bound",
]
