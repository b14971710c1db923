# SPDX-License-Identifier: MIT
"""The coherency of a domain, the evidence for it, the rules for flushes, and the count of the kernel's flushes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from iommufd_py.base.errors import CoherencyError

MAP_RULE, ATTACH_RULE, UNPIN_RULE = 1, 2, 3
FLUSH_RULES = {
    MAP_RULE: "a map flushes each page once, before it enters any domain",
    ATTACH_RULE: "an attach flushes all pages, before they enter the domain",
    UNPIN_RULE: "a page is flushed after its last unmap and before its unpin",
}
"""The rules for a kernel with non-coherent domains; docs/rules.md has the full text."""

# VT-d specification 11.4.3, Extended Capability Register.
_ECAP_SC = 1 << 7


def snoop_control(ecap: int | None) -> bool | None:
    """Return whether a VT-d unit can force snooping at all (ECAP.SC); None where there is no ECAP."""
    return None if ecap is None else bool(ecap & _ECAP_SC)


class Coherency(StrEnum):
    """Whether a HWPT forces all DMA through it to snoop the CPU caches."""

    COHERENT = "coherent"
    NON_COHERENT = "non-coherent"
    ANY = "any"
    """For requests only: any coherency is acceptable."""


@dataclass(frozen=True, slots=True)
class CoherencyEvidence:
    """The evidence that a HWPT is coherent or non-coherent.

    Attributes:
        dma_cc: the kernel's answer: VFIO_DMA_CC_IOMMU of an IOAS for which this HWPT alone decides it.
        ecap: VT-d extended capability register from IOMMU_GET_HW_INFO, None for another IOMMU.
    """

    dma_cc: bool
    ecap: int | None

    @property
    def snoop_control(self) -> bool | None:
        """ECAP.SC: whether the IOMMU can force snooping at all; None where there is no ECAP."""
        return snoop_control(self.ecap)

    @property
    def coherency(self) -> Coherency:
        """The coherency by the kernel's own answer. ECAP alone does not decide it."""
        return Coherency.COHERENT if self.dma_cc else Coherency.NON_COHERENT

    def __str__(self) -> str:
        answer = f"VFIO_DMA_CC_IOMMU={int(self.dma_cc)}"
        return answer if self.ecap is None else f"{answer}, ECAP={self.ecap:#x} (SC={int(bool(self.snoop_control))})"

    def require(self, wanted: Coherency, device: str) -> None:
        """Check that a HWPT for *device* has the *wanted* coherency, and that the evidence does not contradict itself.

        Raises:
            CoherencyError: the text names the evidence and the remedy.
        """
        if self.dma_cc and self.snoop_control is False:
            raise CoherencyError(
                f"the evidence for {device} contradicts itself: {self}; the kernel claims to enforce coherency, "
                "which this IOMMU cannot do; report it as a kernel bug"
            )
        if wanted in (Coherency.ANY, self.coherency):
            return
        if wanted is Coherency.NON_COHERENT:
            remedy = (
                "the kernel always enforces coherency where the IOMMU can: use a device behind a unit with ECAP.SC=0 "
                "(the DMAR unit of an integrated GPU, or 'iommufd lab run --non-coherent'), or a kernel with our flush "
                "series and its iommufd.test_noncoherent_hwpt=1"
            )
        else:
            remedy = (
                "use a device behind a unit with ECAP.SC=1, or 'iommufd lab run --coherent'; a mock device can be "
                "coherent on a kernel with our flush series only"
            )
        raise CoherencyError(f"the HWPT for {device} is {self.coherency}, not {wanted}: {self}; {remedy}")


@dataclass(frozen=True, slots=True)
class FlushCount:
    """The number of flush calls of iommufd for DMA pages, and the number of flushed pages.

    One call flushes contiguous pages.
    """

    calls: int
    pages: int

    def __sub__(self, earlier: Self) -> "FlushCount":
        return FlushCount(self.calls - earlier.calls, self.pages - earlier.pages)
