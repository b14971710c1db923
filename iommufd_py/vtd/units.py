# SPDX-License-Identifier: MIT
"""Read the DMAR units of this machine from sysfs, and their translation modes from debugfs."""

import re
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries, kernel_text
from iommufd_py.vtd.registers import Capabilities

_CLASS = Path("/sys/class/iommu")
_REGISTERS = Path("/sys/kernel/debug/iommu/intel/iommu_regset")
# Translation Table Mode of the Root Table Address Register: specification 11.4.5, DMA_RTADDR_SMT in the kernel.
_RTADDR_SCALABLE = 1 << 10
_UNIT = re.compile(r"^IOMMU: (\S+) Register Base Address: ")
_RTADDR = re.compile(r"^RTADDR\s+0x[0-9a-f]+\s+0x([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class DmarUnit:
    """One DMA remapping unit.

    Attributes:
        name: the kernel's name of the unit, as in its log: ``dmar0``.
        address: physical address of its registers.
        version: version of the architecture, ``major.minor``.
        capabilities: CAP and ECAP.
        domains_supported: number of its domain ids.
        domains_used: number of domain ids in use.
        scalable: whether it translates in scalable mode; None if neither the registers nor debugfs show that.
        devices: addresses of the PCI functions behind it.

    Source: drivers/iommu/intel/iommu.c, intel_iommu_attrs.
    """

    name: str
    address: int
    version: str
    capabilities: Capabilities
    domains_supported: int
    domains_used: int
    scalable: bool | None
    devices: tuple[str, ...]


def dmar_units() -> tuple[DmarUnit, ...]:
    """Return the units that the kernel uses, by name; none without VT-d or with intel_iommu=off."""
    modes = _translation_modes()
    attributes = entries(_CLASS, "*/intel-iommu")
    return tuple(_unit(directory, modes) for directory in sorted(attributes, key=_number))


def _unit(attributes: Path, modes: dict[str, bool]) -> DmarUnit:
    name = attributes.parent.name
    texts = {one.name: attribute_text(one) for one in entries(attributes)}
    capabilities = Capabilities(int(texts["cap"], 16), int(texts["ecap"], 16))
    return DmarUnit(
        name=name,
        address=int(texts["address"], 16),
        version=texts["version"].replace(":", "."),
        capabilities=capabilities,
        domains_supported=int(texts["domains_supported"]),
        domains_used=int(texts["domains_used"]),
        scalable=modes.get(name) if capabilities["SMTS"] else False,
        devices=tuple(device.name for device in entries(attributes.parent / "devices")),
    )


def _number(attributes: Path) -> tuple[int, str]:
    name = attributes.parent.name
    digits = name.lstrip("dmar")
    return (int(digits) if digits.isdigit() else 0, name)


def _translation_modes() -> dict[str, bool]:
    try:
        return parse_translation_modes(kernel_text(_REGISTERS))
    except (FileNotFoundError, PermissionError):
        return {}


def parse_translation_modes(dump: str) -> dict[str, bool]:
    """Return for each unit whether it uses scalable mode, from debugfs' ``iommu_regset``."""
    modes: dict[str, bool] = {}
    unit = ""
    for line in dump.splitlines():
        if match := _UNIT.match(line):
            unit = match[1]
        elif match := _RTADDR.match(line):
            modes[unit] = bool(int(match[1], 16) & _RTADDR_SCALABLE)
    return modes
