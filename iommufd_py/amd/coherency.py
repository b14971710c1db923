# SPDX-License-Identifier: MIT
"""Derive the coherency of domains behind an AMD IOMMU, and the format of their page tables.

The driver claims that every domain enforces cache coherency. The claim is true for page tables of format v1: the
driver sets the Force Coherency bit in their entries. Format v2 is the format of the CPU and has no such bit. With v2,
the claim is wrong for a device that asks for no snooping, and a kernel that trusts the claim does not flush the data
pages.

Source: amdv2_ops and amd_iommu_enforce_cache_coherency() in drivers/iommu/amd/iommu.c.
"""

from enum import StrEnum

from iommufd_py.amd.registers import Features
from iommufd_py.vtd.coherency import Flushes, answered, coherency_of

_CLAIM = "the AMD driver claims coherency for every domain (amd_iommu_enforce_cache_coherency)"
_V1 = f"{_CLAIM}, and sets the Force Coherency bit of v1 page tables"
_V2 = (
    f"{_CLAIM}, but v2 page tables have no Force Coherency bit: the claim is wrong for a device that asks for no "
    "snooping"
)
_PAGE_TABLES = "the AMD driver flushes no page tables"


class TableFormat(StrEnum):
    """The format of the page tables that the kernel makes for DMA without PASID."""

    V1 = "v1"
    V2 = "v2"


def table_format(command_line: str, features: Features | None) -> TableFormat:
    """Return the format for devices without PASID. It follows from the kernel's command line and the IOMMU's features.

    The kernel also uses v2 if the IOMMU reports no levels for v1. It uses v1 if v2 is requested but not supported.

    Source: parse_amd_iommu_options() and early_amd_iommu_init() in drivers/iommu/amd/init.c.
    """
    wanted = [word for word in command_line.split() if word.startswith("amd_iommu=")]
    options = [option for word in wanted for option in word.partition("=")[2].split(",")]
    formats = [option for option in options if option in ("pgtbl_v1", "pgtbl_v2")]
    wished = formats[-1:] == ["pgtbl_v2"]
    if features is None:
        return TableFormat.V2 if wished else TableFormat.V1
    return TableFormat.V2 if features.v2_for_dma and (wished or features.host_levels is None) else TableFormat.V1


def flushes_of_amd(table: TableFormat, dma_cc: bool | None = None) -> Flushes:
    """Return coherency and flushes of a HWPT behind an AMD IOMMU.

    Args:
        table: the format of its page table.
        dma_cc: the answer to VFIO_DMA_CC_IOMMU for the HWPT; None to predict it.
    """
    evidence = _V1 if table is TableFormat.V1 else _V2
    shown = f"{evidence} (predicted)" if dma_cc is None else f"{answered(dma_cc)}; {evidence}"
    return Flushes(coherency_of(dma_cc is not False), shown, False, _PAGE_TABLES)
