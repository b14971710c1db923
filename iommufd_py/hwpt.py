# SPDX-License-Identifier: MIT
"""Hardware page tables, and the evidence for whether one enforces cache coherency."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from iommufd_py.enums import HwptAllocFlags
from iommufd_py.errors import CoherencyError
from iommufd_py.resource import Resource
from iommufd_py.uapi import iommufd as uapi

if TYPE_CHECKING:
    from iommufd_py.ioas import Ioas

__all__ = ["Coherency", "CoherencyEvidence", "Hwpt"]

# VT-d specification 11.4.3, Extended Capability Register.
_ECAP_SC = 1 << 7


class Coherency(StrEnum):
    """Whether a HWPT forces all DMA through it to snoop the CPU caches."""

    COHERENT = "coherent"
    NON_COHERENT = "non-coherent"
    ANY = "any"
    """As a wish: whatever the hardware gives. Never a finding."""


@dataclass(frozen=True, slots=True)
class CoherencyEvidence:
    """Why a HWPT is called coherent or non-coherent.

    Attributes:
        dma_cc: the kernel's own account: VFIO_DMA_CC_IOMMU of an IOAS on which this HWPT alone decides the answer.
        ecap: VT-d extended capability register from IOMMU_GET_HW_INFO, None for another IOMMU.
    """

    dma_cc: bool
    ecap: int | None

    @property
    def snoop_control(self) -> bool | None:
        """ECAP.SC: whether the IOMMU can force snooping at all; None where there is no ECAP."""
        return None if self.ecap is None else bool(self.ecap & _ECAP_SC)

    @property
    def coherency(self) -> Coherency:
        """The finding: what the kernel says of the domain, never deduced from ECAP alone."""
        return Coherency.COHERENT if self.dma_cc else Coherency.NON_COHERENT

    def __str__(self) -> str:
        answer = f"VFIO_DMA_CC_IOMMU={int(self.dma_cc)}"
        return answer if self.ecap is None else f"{answer}, ECAP={self.ecap:#x} (SC={int(bool(self.snoop_control))})"

    def require(self, wanted: Coherency, device: str) -> None:
        """Refuse a HWPT for *device* that is not as *wanted*, or whose evidence contradicts itself.

        Raises:
            CoherencyError: with the evidence that disagrees and what to do.
        """
        if self.dma_cc and self.snoop_control is False:
            raise CoherencyError(
                f"the evidence for {device} contradicts itself: {self}; the kernel claims to enforce what the IOMMU "
                "cannot do, report it as a kernel bug"
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
            remedy = "use a device behind another DMAR unit with ECAP.SC=1, or 'iommufd lab run --coherent'"
        raise CoherencyError(f"the HWPT for {device} is {self.coherency}, not {wanted}: {self}; {remedy}")


class Hwpt(Resource):
    """A paging HWPT: one IOMMU domain filled with the mappings of its IOAS. Made by ``device.alloc_hwpt()``.

    Attributes:
        evidence: whether it enforces cache coherency, and how that is known.

    Source: IOMMU_HWPT_ALLOC in include/uapi/linux/iommufd.h.
    """

    def __init__(self, ioas: "Ioas", dev_id: int, flags: HwptAllocFlags) -> None:
        super().__init__(ioas)
        self.ioas = ioas
        self.flags = flags
        self.evidence: CoherencyEvidence | None = None
        self.id = uapi.hwpt_alloc(ioas.iommufd.fileno(), dev_id, ioas.id, flags)
        self._opened()

    def __repr__(self) -> str:
        return f"Hwpt(id={self.id}, ioas={self.ioas.id})"

    def _release(self) -> None:
        uapi.destroy(self.ioas.iommufd.fileno(), self.id)
