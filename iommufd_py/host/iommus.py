# SPDX-License-Identifier: MIT
"""The IOMMUs of all vendors that the kernel uses, and the PCI functions behind each."""

from dataclasses import dataclass
from pathlib import Path

from iommufd_py.amd import Features, TableFormat, flushes_of_amd, table_format
from iommufd_py.base.sysfs import attribute_text, entries, kernel_text, target_name
from iommufd_py.vtd import DmarUnit, dmar_units
from iommufd_py.vtd.coherency import Flushes, IommuKind, flushes_of, flushes_of_vtd

_CLASS = Path("/sys/class/iommu")
_COMMAND_LINE = Path("/proc/cmdline")
_OPTIONS = ("intel_iommu=", "amd_iommu=", "iommu=", "iommu.", "iommufd.", "vfio")


@dataclass(frozen=True, slots=True)
class Iommu:
    """One IOMMU.

    Attributes:
        name: the kernel's name: ``dmar0``, ``ivhd0``.
        kind: vendor or driver.
        unit: description of a VT-d unit; None for another IOMMU.
        registers: registers of another IOMMU as sysfs shows them, by attribute.
        amd_features: the feature register of an AMD IOMMU, None for another one or if sysfs does not show it.
        amd_table: the format of the page tables that the kernel makes for an AMD IOMMU, None for another one.
        devices: names of the devices behind it, mostly PCI addresses.
    """

    name: str
    kind: IommuKind
    unit: DmarUnit | None
    registers: dict[str, str]
    amd_features: Features | None
    amd_table: TableFormat | None
    devices: tuple[str, ...]

    def flushes(self, dma_cc: bool | None = None) -> Flushes:
        """Return the flushes of a HWPT behind this IOMMU, from the kernel's answer *dma_cc* or else as a prediction."""
        if self.unit is not None:
            return flushes_of_vtd(self.unit.capabilities, self.unit.scalable, dma_cc)
        if self.amd_table is not None:
            return flushes_of_amd(self.amd_table, dma_cc)
        return flushes_of(self.kind, dma_cc)


def iommus() -> tuple[Iommu, ...]:
    """Return the IOMMUs that the kernel uses, those of VT-d first."""
    units = dmar_units()
    found = [Iommu(unit.name, IommuKind.INTEL_VTD, unit, {}, None, None, unit.devices) for unit in units]
    names = {unit.name for unit in units}
    others = (path for path in entries(_CLASS) if path.name not in names)
    return (*found, *map(_other, others))


def _other(path: Path) -> Iommu:
    registers = {one.name: attribute_text(one) for one in entries(path / "amd-iommu")}
    kind = _kind(path)
    features = Features.parse(registers.get("features") or "")
    return Iommu(
        name=path.name,
        kind=kind,
        unit=None,
        registers=registers,
        amd_features=features,
        amd_table=table_format(kernel_text(_COMMAND_LINE), features) if kind is IommuKind.AMD_VI else None,
        devices=tuple(one.name for one in entries(path / "devices")),
    )


def _kind(path: Path) -> IommuKind:
    if (path / "amd-iommu").exists():
        return IommuKind.AMD_VI
    if path.name.startswith("iommufd_selftest"):
        return IommuKind.SELFTEST
    if target_name(path / "device" / "driver") == "virtio_iommu":
        return IommuKind.VIRTIO
    return IommuKind.OTHER


def iommu_options(command_line: str) -> tuple[str, ...]:
    """Return the words of a kernel command line that configure IOMMUs, iommufd or VFIO."""
    return tuple(word for word in command_line.split() if word.startswith(_OPTIONS))
