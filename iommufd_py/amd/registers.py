# SPDX-License-Identifier: MIT
"""Decode the Extended Feature Registers of an AMD IOMMU, bit by bit.

Source: AMD I/O Virtualization Technology (IOMMU) Specification, publication 48882, "MMIO Offset 0030h IOMMU Extended
Feature Register" and "MMIO Offset 01A0h IOMMU Extended Feature 2 Register"; FEATURE_* in
drivers/iommu/amd/amd_iommu_types.h.
"""

import re
from dataclasses import dataclass
from typing import Self

from iommufd_py.base.register import Field

EFR = (
    Field("SNPSup", 63, "secure nested paging (SEV-SNP): the reverse map table is checked"),
    Field("ForcePhyDestSup", 62, "interrupts can be forced to physical destination mode"),
    Field("GaUpdateDisSup", 61, "guest APIC updates can be disabled per interrupt"),
    Field("VIommuSup", 55, "virtualizes an IOMMU for a guest"),
    Field("InvIotlbTypeSup", 54, "an invalidation of device TLBs can name its type"),
    Field("HDSup", 52, "dirty bits in the host's page tables, hence dirty tracking"),
    Field("AttrFWSup", 51, "the attribute of a translation goes back to the device"),
    Field("EPHSup", 50, "enhanced handling of page requests"),
    Field("HASup", 49, "access bits in the host's page tables"),
    Field("GIoSup", 48, "guest page tables for DMA without PASID, which amd_iommu=pgtbl_v2 needs"),
    Field("MsiCapMmioSup", 46, "the MSI capability can be reached through MMIO"),
    Field("PerfOptSup", 45, "performance optimization"),
    Field("BlkStopMrkSup", 44, "PRI stop markers can be blocked"),
    Field("MarcSup", 42, "address routing (MARC): aperture registers, as a code", 2),
    Field("PprAutoRspSup", 41, "page requests can be answered by hardware"),
    Field("PprOvrflwEarlySup", 40, "warns before the page-request log overflows"),
    Field("DevTblSegSup", 38, "segments of the device table, as a power of two", 2),
    Field("USSup", 37, "user and supervisor in guest page tables"),
    Field("PASmax", 32, "width of a PASID in bits, less one", 5),
    Field("DualEventLogSup", 28, "a second event log, as a code", 2),
    Field("DualPprLogSup", 24, "a second page-request log, as a code", 2),
    Field("GAMSup", 21, "guest virtual APIC modes, as a code", 3),
    Field("SmiFRC", 18, "registers of the SMI filter", 3),
    Field("SmiFSup", 16, "SMI filter, as a code", 2),
    Field("GLXSup", 14, "levels of the guest CR3 table, less one", 2),
    Field("GATS", 12, "levels of a guest page table (v2), less four", 2),
    Field("HATS", 10, "levels of a host page table (v1), less four", 2),
    Field("PCSup", 9, "performance counters"),
    Field("HESup", 8, "hardware error registers"),
    Field("GASup", 7, "guest virtual APIC: also the 128-bit interrupt table entry"),
    Field("IASup", 6, "INVALIDATE_IOMMU_ALL"),
    Field("GTSup", 4, "guest translation: page tables in the CPU's format (v2)"),
    Field("NXSup", 3, "no-execute bit"),
    Field("XTSup", 2, "x2APIC: 32-bit APIC ids"),
    Field("PPRSup", 1, "page requests (PPR)"),
    Field("PreFSup", 0, "prefetch"),
)
"""The fields of the Extended Feature Register, highest bit first."""

EFR2 = (
    Field("SnpPageMode0Sup", 13, "page mode 0 with secure nested paging"),
    Field("HtRangeIgnore", 11, "addresses of the HyperTransport range are translated"),
    Field("NumIntRemapSup", 8, "number of interrupts of a device, as a code: 1 means 2048", 2),
    Field("SnpAvicSup", 5, "guest virtual APIC with secure nested paging, as a code", 3),
    Field("GCR3TRPMode", 3, "the guest CR3 table has a system physical address"),
    Field("SevSnpIoSup", 1, "trusted I/O with secure nested paging"),
)
"""The fields of the Extended Feature 2 Register that Linux uses, highest bit first."""

# The number of walk levels for each code of HATS and GATS; code 3 is reserved.
_LEVELS = {0: 4, 1: 5, 2: 6}
_BY_NAME = {field.name: field for field in EFR}


@dataclass(frozen=True, slots=True)
class Features:
    """The Extended Feature Registers and the values that the fields of the first one encode.

    Attributes:
        efr: the Extended Feature Register.
        efr2: the Extended Feature 2 Register; 0 if unknown.
    """

    efr: int
    efr2: int = 0

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the registers from the sysfs attribute ``amd-iommu/features``; None for text in another form.

        The second register may be missing. Source: amd_iommu_show_features() in drivers/iommu/amd/init.c.
        """
        match = re.fullmatch(r"([0-9a-f]{1,16})(?::([0-9a-f]{1,16}))?", text.strip())
        return cls(int(match[1], 16), int(match[2] or "0", 16)) if match else None

    def __getitem__(self, name: str) -> int:
        """Return the field *name*. Raise KeyError if the register has no such field."""
        return _BY_NAME[name].of(self.efr)

    @property
    def host_levels(self) -> int | None:
        """Largest number of levels of a host page table (v1); None for a reserved code."""
        return _LEVELS.get(self["HATS"])

    @property
    def guest_levels(self) -> int | None:
        """Largest number of levels of a guest page table (v2); None without guest translation, or for a reserved
        code."""
        return _LEVELS.get(self["GATS"]) if self["GTSup"] else None

    @property
    def pasid_bits(self) -> int:
        """Width of a PASID in bits; 0 without guest translation, which PASIDs need."""
        return self["PASmax"] + 1 if self["GTSup"] else 0

    @property
    def dirty_tracking(self) -> bool:
        """Whether the IOMMU sets dirty bits in host page tables for pages that DMA writes to."""
        return bool(self["HASup"] and self["HDSup"])

    @property
    def v2_for_dma(self) -> bool:
        """Whether the kernel can use v2 page tables for all DMA (amd_iommu=pgtbl_v2)."""
        return bool(self["GTSup"] and self["GIoSup"])
