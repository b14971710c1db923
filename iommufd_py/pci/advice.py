# SPDX-License-Identifier: MIT
"""How to switch on the IOMMU of this machine: the remedy depends on the vendor of the CPU and on a hypervisor."""

import re
from pathlib import Path

_VENDOR = re.compile(r"^vendor_id\s*: (\S+)", re.MULTILINE)
_HYPERVISOR = re.compile(r"^flags\s*:.*\bhypervisor\b", re.MULTILINE)
_REMEDIES = {
    # intel_iommu_setup() in drivers/iommu/intel/iommu.c.
    "GenuineIntel": "switch VT-d on in the firmware setup, and boot with intel_iommu=on",
    # parse_amd_iommu_options() in drivers/iommu/amd/init.c: there is no amd_iommu=on, as the driver starts by itself.
    "AuthenticAMD": "switch the IOMMU (AMD-Vi) on in the firmware setup, and boot without amd_iommu=off and iommu=off",
    "HygonGenuine": "switch the IOMMU (AMD-Vi) on in the firmware setup, and boot without amd_iommu=off and iommu=off",
}


def iommu_remedy(cpuinfo: str | None = None) -> str:
    """Return what to do on a machine with no IOMMU in use, as a clause.

    Args:
        cpuinfo: text of /proc/cpuinfo; this machine's by default.
    """
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    vendor = _VENDOR.search(text)
    if _HYPERVISOR.search(text):
        intel = " (a virtual VT-d also needs intel_iommu=on)" if vendor and vendor[1] == "GenuineIntel" else ""
        return f"this is a virtual machine: the hypervisor must give it a virtual IOMMU{intel}"
    return _REMEDIES.get(vendor[1] if vendor else "", "switch the IOMMU on in the firmware setup")
