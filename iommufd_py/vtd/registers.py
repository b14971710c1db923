# SPDX-License-Identifier: MIT
"""The capability registers of a VT-d unit, bit by bit. Pure.

Names are those of revision 4 of the specification ("first stage", "second stage"); where Linux and older revisions
use another name ("first level"), the meaning gives that name too.

Source: Intel Virtualization Technology for Directed I/O, Architecture Specification, revision 4.1, 11.4.2 Capability
Register and 11.4.3 Extended Capability Register; cap_*() and ecap_*() in drivers/iommu/intel/iommu.h.
"""

from dataclasses import dataclass

from iommufd_py.base.register import Field

CAP = (
    Field("ESRTPS", 63, "setting the root table pointer invalidates the caches by itself"),
    Field("ESIRTPS", 62, "setting the interrupt table pointer invalidates the caches by itself"),
    Field("ECMDS", 61, "enhanced commands"),
    Field("FS5LP", 60, "5-level paging in the first stage (FL5LP)"),
    Field("PI", 59, "posted interrupts"),
    Field("FS1GP", 56, "1G pages in the first stage (FL1GP)"),
    Field("DRD", 55, "an IOTLB invalidation can drain reads"),
    Field("DWD", 54, "an IOTLB invalidation can drain writes"),
    Field("MAMV", 48, "largest address mask of a page-selective invalidation, as a power of two of pages", 6),
    Field("NFR", 40, "fault recording registers, less one", 8),
    Field("PSI", 39, "page-selective invalidation"),
    Field("SSLPS", 34, "large pages in the second stage: bit 0 2M, bit 1 1G (SLLPS)", 4),
    Field("FRO", 24, "offset of the fault recording registers, in 16 bytes", 10),
    Field("ISOCH", 23, "supports isochronous traffic; reserved since revision 1.3"),
    Field("ZLR", 22, "zero-length reads of write-only pages succeed"),
    Field("MGAW", 16, "width of a guest address in bits, less one", 6),
    Field("SAGAW", 8, "depths of second-stage page tables: bit 1 3 levels, bit 2 4 levels, bit 3 5 levels", 5),
    Field("CM", 7, "caching mode: entries that are not present are cached too, as under a hypervisor"),
    Field("PHMR", 6, "protected high memory region"),
    Field("PLMR", 5, "protected low memory region"),
    Field("RWBF", 4, "the write buffer must be flushed after a change"),
    Field("AFL", 3, "advanced fault log"),
    Field("ND", 0, "domain ids: 2 to the power of 4 + 2 * ND", 3),
)
"""The fields of the Capability Register, highest bit first."""

ECAP = (
    Field("RPRIVS", 53, "privileged requests without PASID"),
    Field("ADMS", 52, "abort-DMA mode: all DMA can be blocked before the tables are set up"),
    Field("PMS", 51, "performance monitoring"),
    Field("TDXIO", 50, "trusted I/O for TDX"),
    Field("RPS", 49, "a context entry can name the PASID of requests without one (RID_PASID)"),
    Field("SMPWCS", 48, "scalable mode: page walks snoop the CPU caches (SMPWC)"),
    Field("FSTS", 47, "scalable mode: first-stage translation (FLTS)"),
    Field("SSTS", 46, "scalable mode: second-stage translation (SLTS)"),
    Field("SSADS", 45, "accessed and dirty bits in the second stage, hence dirty tracking (SLADS)"),
    Field("VCS", 44, "virtual commands"),
    Field("SMTS", 43, "scalable mode"),
    Field("PDS", 42, "page-request drain"),
    Field("DIT", 41, "device-TLB invalidation can be throttled"),
    Field("PASID", 40, "PASIDs"),
    Field("PSS", 35, "width of a PASID in bits, less one", 5),
    Field("EAFS", 34, "extended accessed bit in the first stage"),
    Field("NWFS", 33, "requests can be marked no-write"),
    Field("SRS", 31, "requests for supervisor privilege"),
    Field("ERS", 30, "requests for execute permission"),
    Field("PRS", 29, "page requests"),
    Field("NEST", 26, "nested translation"),
    Field("MTS", 25, "memory types in the first stage"),
    Field("MHMV", 20, "largest handle mask of an interrupt invalidation, as a power of two", 4),
    Field("IRO", 8, "offset of the IOTLB registers, in 16 bytes", 10),
    Field("SC", 7, "snoop control: can force DMA to snoop the CPU caches"),
    Field("PT", 6, "pass-through"),
    Field("EIM", 4, "extended interrupt mode: 32-bit APIC ids"),
    Field("IR", 3, "interrupt remapping"),
    Field("DT", 2, "device TLBs (ATS)"),
    Field("QI", 1, "queued invalidation"),
    Field("C", 0, "legacy mode: page walks snoop the CPU caches"),
)
"""The fields of the Extended Capability Register, highest bit first."""

_LEVELS = {1: 3, 2: 4, 3: 5}
_BITS_PER_LEVEL, _PAGE_SHIFT = 9, 12


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Both registers of a unit, and the values that follow from their fields."""

    cap: int
    ecap: int

    def __getitem__(self, name: str) -> int:
        """Return the field *name* of the register that has it; KeyError if neither has it."""
        if name in _BY_NAME:
            return _BY_NAME[name].of(self.cap)
        return _EXTENDED_BY_NAME[name].of(self.ecap)

    @property
    def domain_ids(self) -> int:
        """Number of domain ids."""
        return 1 << 4 + 2 * self["ND"]

    @property
    def address_bits(self) -> int:
        """Width of an address that the second stage translates."""
        return self["MGAW"] + 1

    @property
    def walk_bits(self) -> tuple[int, ...]:
        """Supported address widths of second-stage page tables: 39 for 3 levels, 48 for 4, 57 for 5."""
        depths = [levels for bit, levels in _LEVELS.items() if self["SAGAW"] >> bit & 1]
        return tuple(_PAGE_SHIFT + _BITS_PER_LEVEL * levels for levels in depths)

    @property
    def second_stage_pages(self) -> tuple[int, ...]:
        """Supported leaf sizes of second-stage page tables, in bytes."""
        large = [size for bit, size in enumerate((2 << 20, 1 << 30)) if self["SSLPS"] >> bit & 1]
        return (4 << 10, *large)

    @property
    def first_stage_pages(self) -> tuple[int, ...]:
        """Supported leaf sizes of first-stage page tables, in bytes; empty without a first stage."""
        if not (self["SMTS"] and self["FSTS"]):
            return ()
        return (4 << 10, 2 << 20, 1 << 30) if self["FS1GP"] else (4 << 10, 2 << 20)

    @property
    def pasid_bits(self) -> int:
        """Width of a PASID, 0 without PASIDs."""
        return self["PSS"] + 1 if self["PASID"] else 0


_BY_NAME = {field.name: field for field in CAP}
_EXTENDED_BY_NAME = {field.name: field for field in ECAP}
