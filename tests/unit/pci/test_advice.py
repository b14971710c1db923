# SPDX-License-Identifier: MIT
"""Advice how to switch on the IOMMU."""

from iommufd_py.pci.advice import iommu_remedy

CPUS = {
    "intel": "vendor_id\t: GenuineIntel\nflags\t\t: fpu vme\n",
    "amd": "vendor_id\t: AuthenticAMD\nflags\t\t: fpu vme\n",
    "intel guest": "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor vme\n",
    "amd guest": "vendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor\n",
    "other": "processor\t: 0\n",
}


def test_advice_depends_on_the_cpu() -> None:
    """There is no amd_iommu=on: for parse_amd_iommu_options() it is an unknown option."""
    advice = {name: iommu_remedy(text, ()) for name, text in CPUS.items()}
    assert "intel_iommu=on" in advice["intel"]
    assert "intel_iommu" not in advice["amd"]
    assert "without amd_iommu=off" in advice["amd"]
    assert not any("amd_iommu=on" in text for text in advice.values())
    assert "hypervisor" in advice["intel guest"]
    assert "intel_iommu" not in advice["amd guest"]


def test_advice_depends_on_what_the_firmware_reports() -> None:
    """A virtual VT-d can be in front of a CPU of any vendor."""
    assert "intel_iommu=on" in iommu_remedy(CPUS["amd guest"], ("APIC", "DMAR"))
    assert "amd_iommu=off" in iommu_remedy(CPUS["amd guest"], ("IVRS",))
    assert "intel" not in iommu_remedy(CPUS["amd"], ("IVRS",))
