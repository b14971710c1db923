# SPDX-License-Identifier: MIT
"""Advise how to switch on the IOMMU of this machine, from the firmware's tables, the CPU and the hypervisor."""

import os
from collections.abc import Collection
from pathlib import Path

from iommufd_py.base.sysfs import cpuinfo_field

_TABLES = Path("/sys/firmware/acpi/tables")
# intel_iommu_setup() in drivers/iommu/intel/iommu.c; parse_amd_iommu_options() in drivers/iommu/amd/init.c: there is no
# amd_iommu=on, as the driver starts by itself.
_INTEL, _AMD = "boot with intel_iommu=on, without iommu=off", "boot without amd_iommu=off and iommu=off"


def iommu_remedy(cpuinfo: str | None = None, tables: Collection[str] | None = None) -> str:
    """Return the remedy, as a clause, for a machine with no IOMMU in use.

    Args:
        cpuinfo: text of /proc/cpuinfo; default: that of this machine.
        tables: names of the firmware's ACPI tables; default: those of this machine.
    """
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    found = _acpi_tables() if tables is None else tables
    if "DMAR" in found:
        return f"the firmware reports a VT-d: {_INTEL}"
    if "IVRS" in found:
        return f"the firmware reports an AMD-Vi: {_AMD}"
    if "hypervisor" in cpuinfo_field(text, "flags").split():
        return "this is a virtual machine: its hypervisor must give it a virtual IOMMU"
    vendor = cpuinfo_field(text, "vendor_id")
    if vendor == "GenuineIntel":
        return f"switch VT-d on in the firmware setup, and {_INTEL}"
    if vendor in ("AuthenticAMD", "HygonGenuine"):
        return f"switch the IOMMU (AMD-Vi) on in the firmware setup, and {_AMD}"
    return "switch the IOMMU on in the firmware setup"


def _acpi_tables() -> Collection[str]:
    try:
        return os.listdir(_TABLES)
    except OSError:
        return ()
