# SPDX-License-Identifier: MIT
"""Hardware page tables, and the evidence for whether one enforces cache coherency."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from iommufd_py.enums import HwptAllocFlags, HwptDataType, HwptInvalidateType, VtdInvalidateFlags, VtdStage1Flags
from iommufd_py.errors import CoherencyError
from iommufd_py.resource import IommufdObject
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import pack

if TYPE_CHECKING:
    from iommufd_py.context import Iommufd
    from iommufd_py.fault import FaultQueue
    from iommufd_py.ioas import Ioas
    from iommufd_py.viommu import VIommu

__all__ = [
    "Coherency",
    "CoherencyEvidence",
    "Hwpt",
    "HwptData",
    "NestedHwpt",
    "invalidate",
    "snoop_control",
    "vtd_stage1",
    "vtd_stage1_invalidation",
]

# VT-d specification 11.4.3, Extended Capability Register.
_ECAP_SC = 1 << 7


def snoop_control(ecap: int | None) -> bool | None:
    """Tell whether a VT-d unit can force snooping at all (ECAP.SC); None where there is no ECAP."""
    return None if ecap is None else bool(ecap & _ECAP_SC)


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
        return snoop_control(self.ecap)

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
            remedy = (
                "use a device behind a unit with ECAP.SC=1, or 'iommufd lab run --coherent'; a mock device can be "
                "coherent on a kernel with our flush series only"
            )
        raise CoherencyError(f"the HWPT for {device} is {self.coherency}, not {wanted}: {self}; {remedy}")


@dataclass(frozen=True, slots=True)
class HwptData:
    """What the IOMMU's driver is told about a HWPT beyond what all IOMMUs have in common.

    Attributes:
        type: which structure *content* is.
        content: that structure, raw.

    Source: enum iommu_hwpt_data_type in include/uapi/linux/iommufd.h.
    """

    type: HwptDataType | int
    content: bytes


def vtd_stage1(page_table: int, address_width: int, flags: VtdStage1Flags = VtdStage1Flags(0)) -> HwptData:
    """Describe a VT-d stage-1 page table, for a nested HWPT (struct iommu_hwpt_vtd_s1).

    Args:
        page_table: address of its root in the guest's physical memory, which is the parent HWPT's IOVA.
        address_width: bits that it translates, 48 or 57.
        flags: how the IOMMU is to walk it.
    """
    content = pack("iommu_hwpt_vtd_s1", pgtbl_addr=page_table, addr_width=address_width, flags=flags)
    return HwptData(HwptDataType.VTD_S1, content)


class Hwpt(IommufdObject):
    """A paging HWPT: one IOMMU domain filled with the mappings of its IOAS. Made by ``device.alloc_hwpt()``.

    Attributes:
        evidence: whether it enforces cache coherency, and how that is known.

    Source: IOMMU_HWPT_ALLOC in include/uapi/linux/iommufd.h.
    """

    def __init__(
        self,
        ioas: "Ioas",
        dev_id: int,
        flags: HwptAllocFlags,
        *,
        data: HwptData | None = None,
        fault_queue: "FaultQueue | None" = None,
    ) -> None:
        super().__init__(ioas.iommufd, *_stands_on(ioas, fault_queue))
        self.ioas = ioas
        self.flags = flags
        self.evidence: CoherencyEvidence | None = None
        with self._opening():
            self.id = _alloc(self.iommufd, dev_id, ioas.id, flags, data, fault_queue)

    def __repr__(self) -> str:
        return f"Hwpt(id={self.id}, ioas={self.ioas.id})"


class NestedHwpt(IommufdObject):
    """A HWPT whose page table is the guest's, translated again by its parent. Made by ``device.alloc_nested()``.

    Attributes:
        parent: a HWPT made with :attr:`HwptAllocFlags.NEST_PARENT`, or a vIOMMU over one.
    """

    def __init__(
        self,
        parent: "Hwpt | VIommu",
        dev_id: int,
        data: HwptData,
        flags: HwptAllocFlags,
        fault_queue: "FaultQueue | None" = None,
    ) -> None:
        super().__init__(parent.iommufd, *_stands_on(parent, fault_queue))
        self.parent = parent
        self.flags = flags
        with self._opening():
            self.id = _alloc(self.iommufd, dev_id, parent.id, flags, data, fault_queue)

    def __repr__(self) -> str:
        return f"NestedHwpt(id={self.id}, parent={self.parent.id})"

    def invalidate(self, data_type: HwptInvalidateType | int, *entries: bytes) -> int:
        """Drop what the IOMMU has cached of the guest's page table; returns how many *entries* were handled.

        Each entry is the structure of *data_type*, such as :func:`vtd_stage1_invalidation` makes.

        Raises:
            IommufdError: an entry is refused; its ``arguments["handled"]`` says how many before it were done.
        """
        return invalidate(self, data_type, entries)


def vtd_stage1_invalidation(iova: int, pages: int, *, leaf_only: bool = False) -> bytes:
    """Say which 4K pages of a VT-d stage-1 table changed (struct iommu_hwpt_vtd_s1_invalidate).

    0 and 2^64 - 1 pages are the whole table. *leaf_only*: no table above the leaves changed.
    """
    flags = VtdInvalidateFlags.LEAF if leaf_only else 0
    return pack("iommu_hwpt_vtd_s1_invalidate", addr=iova, npages=pages, flags=flags)


def invalidate(target: IommufdObject, data_type: int, entries: Sequence[bytes]) -> int:
    """Issue IOMMU_HWPT_INVALIDATE on a nested HWPT or a vIOMMU."""
    lengths = {len(entry) for entry in entries}
    if len(lengths) > 1:
        raise ValueError(f"the entries are of {len(lengths)} different sizes; one call takes entries of one kind")
    return uapi.hwpt_invalidate(target._fd(), target.id, data_type, b"".join(entries), lengths.pop() if lengths else 0)


def _stands_on(parent: IommufdObject, fault_queue: "FaultQueue | None") -> tuple[IommufdObject, ...]:
    return (parent,) if fault_queue is None else (parent, fault_queue)


def _alloc(
    iommufd: "Iommufd",
    dev_id: int,
    pt_id: int,
    flags: HwptAllocFlags,
    data: HwptData | None,
    fault_queue: "FaultQueue | None",
) -> int:
    return uapi.hwpt_alloc(
        iommufd.fileno(),
        dev_id,
        pt_id,
        flags | (HwptAllocFlags.FAULT_ID_VALID if fault_queue else 0),
        data.type if data else HwptDataType.NONE,
        data.content if data else b"",
        fault_queue.id if fault_queue else 0,
    )
