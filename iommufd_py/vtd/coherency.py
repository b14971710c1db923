# SPDX-License-Identifier: MIT
"""Derive the coherency of domains, and which of two cache flushes a domain needs. Pure.

Do not confuse the two flushes. The page-table flush concerns the IOMMU's own tables. It is needed if the page walk does
not snoop the CPU caches, and mainline does it. The data-page flush concerns the memory that a device reads and writes.
It is needed if the domain cannot force DMA to snoop. Mainline does not do it; our kernel patches add it.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum

from iommufd_py.base.coherency import Coherency
from iommufd_py.vtd.registers import Capabilities


class IommuKind(StrEnum):
    """Vendor or driver of an IOMMU."""

    INTEL_VTD = "Intel VT-d"
    AMD_VI = "AMD-Vi"
    VIRTIO = "virtio-iommu"
    SELFTEST = "iommufd selftest"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Flushes:
    """Coherency of a paging HWPT and the flushes that it needs, each with its evidence.

    Attributes:
        coherency: whether the domain forces DMA to snoop; None if unknown.
        coherency_evidence: the evidence for the coherency.
        page_table_flush: whether the kernel flushes the page tables from the CPU caches; None if unknown.
        page_table_evidence: the evidence for the flush of the page tables.
    """

    coherency: Coherency | None
    coherency_evidence: str
    page_table_flush: bool | None
    page_table_evidence: str

    @property
    def data_page_flush(self) -> bool | None:
        """Whether the pages that DMA accesses need a flush; None if unknown."""
        return None if self.coherency is None else self.coherency is Coherency.NON_COHERENT

    def as_dict(self) -> dict[str, object]:
        """Return the answers and the evidence as a JSON object."""
        return {**asdict(self), "data_page_flush": self.data_page_flush}


def flushes_of_vtd(capabilities: Capabilities, scalable: bool | None, dma_cc: bool | None = None) -> Flushes:
    """Return coherency and flushes of a HWPT behind a VT-d unit.

    Args:
        capabilities: capabilities of the unit.
        scalable: whether the unit translates in scalable mode, None if unknown.
        dma_cc: answer of VFIO_DMA_CC_IOMMU for a HWPT. Without it (None), ECAP.SC predicts it, as in the driver.

    Source: intel_iommu_enforce_cache_coherency_ss(), iommu_paging_structure_coherency() in drivers/iommu/intel/iommu.c.
    """
    snoop_control = f"ECAP.SC={capabilities['SC']}"
    if dma_cc is None:
        coherency, evidence = coherency_of(bool(capabilities["SC"])), f"{snoop_control} (predicted)"
    else:
        coherency, evidence = coherency_of(dma_cc), f"{answered(dma_cc)}, {snoop_control}"
    page_table_flush, page_table_evidence = _page_walk(capabilities, scalable)
    return Flushes(coherency, evidence, page_table_flush, page_table_evidence)


def _page_walk(capabilities: Capabilities, scalable: bool | None) -> tuple[bool | None, str]:
    legacy, scalable_mode = f"ECAP.C={capabilities['C']}", f"ECAP.SMPWCS={capabilities['SMPWCS']}"
    if scalable is None and capabilities["C"] != capabilities["SMPWCS"]:
        return None, f"{legacy}, {scalable_mode}; the mode of the unit is not known"
    if scalable is None:
        return not capabilities["C"], f"{legacy}, {scalable_mode}, the same in both modes of the unit"
    if scalable:
        return not capabilities["SMPWCS"], f"{scalable_mode} in scalable mode"
    return not capabilities["C"], f"{legacy} in legacy mode"


# Answers of the drivers of other IOMMUs, the same for all their domains: coherency and page-table flush, with evidence.
_DRIVERS: dict[IommuKind, tuple[bool, str, bool, str]] = {
    IommuKind.VIRTIO: (
        False,
        "the virtio driver enforces coherency for no domain",
        False,
        "mappings go to the host as requests, so there are no page tables here",
    ),
}


def flushes_of(kind: IommuKind, dma_cc: bool | None = None) -> Flushes:
    """Return coherency and flushes of a HWPT behind an IOMMU of another kind, according to the source of its driver.

    Source: drivers/iommu/virtio-iommu.c.
    """
    known = _DRIVERS.get(kind)
    coherency = None if dma_cc is None else coherency_of(dma_cc)
    if known is None:
        evidence = "this IOMMU is unknown to the tool" if dma_cc is None else answered(dma_cc)
        return Flushes(coherency, evidence, None, "this IOMMU is unknown to the tool")
    enforces, evidence, page_tables, page_table_evidence = known
    if dma_cc is None:
        return Flushes(coherency_of(enforces), f"{evidence} (predicted)", page_tables, page_table_evidence)
    return Flushes(coherency, f"{answered(dma_cc)}; {evidence}", page_tables, page_table_evidence)


def coherency_of(enforced: bool) -> Coherency:
    """Return the coherency of a domain that does or does not enforce it."""
    return Coherency.COHERENT if enforced else Coherency.NON_COHERENT


def answered(dma_cc: bool) -> str:
    """Return the kernel's answer for a HWPT as evidence shows it."""
    return f"VFIO_DMA_CC_IOMMU={int(dma_cc)}"
