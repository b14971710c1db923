# SPDX-License-Identifier: MIT
"""Hardware page tables, and the evidence for their coherency."""

from collections.abc import Sequence
from dataclasses import dataclass

from iommufd_py.base.arguments import check_fields, check_integer, checked
from iommufd_py.base.coherency import CoherencyEvidence
from iommufd_py.base.errors import ArgumentValueError
from iommufd_py.objects.dirty import DirtyTracking
from iommufd_py.objects.fault import FaultQueue
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.object import IommufdFile, IommufdObject
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import pack
from iommufd_py.uapi.enums import HwptAllocFlags, HwptDataType, HwptInvalidateType, VtdInvalidateFlags, VtdStage1Flags


@dataclass(frozen=True, slots=True)
class HwptData:
    """The part of a HWPT's description that depends on the kind of IOMMU.

    Attributes:
        type: the kind of structure in *content*.
        content: the structure, as bytes.

    Source: enum iommu_hwpt_data_type in include/uapi/linux/iommufd.h.
    """

    type: HwptDataType | int
    content: bytes

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("HwptData(): type", self.type, highest=(1 << 32) - 1)


@checked
def vtd_stage1(page_table: int, address_width: int, flags: VtdStage1Flags = VtdStage1Flags(0)) -> HwptData:
    """Describe a VT-d stage-1 page table, for a nested HWPT (struct iommu_hwpt_vtd_s1).

    Args:
        page_table: address of its root in the guest's physical memory, which is the parent HWPT's IOVA.
        address_width: bits that it translates, 48 or 57.
        flags: options of the walk.
    """
    content = pack("iommu_hwpt_vtd_s1", pgtbl_addr=page_table, addr_width=address_width, flags=flags)
    return HwptData(HwptDataType.VTD_S1, content)


class Hwpt(IommufdObject):
    """A paging HWPT: one IOMMU domain filled with the mappings of its IOAS. Made by ``device.alloc_hwpt()``.

    Attributes:
        evidence: the evidence for its coherency. ``device.alloc_hwpt()`` sets it.

    Source: IOMMU_HWPT_ALLOC in include/uapi/linux/iommufd.h.
    """

    evidence: CoherencyEvidence

    @checked
    def __init__(
        self,
        ioas: Ioas,
        dev_id: int,
        flags: HwptAllocFlags,
        *,
        data: HwptData | None = None,
        fault_queue: FaultQueue | None = None,
    ) -> None:
        super().__init__(ioas.iommufd, *_stands_on(ioas, fault_queue))
        self.ioas = ioas
        self.flags = flags
        with self._opening():
            self.id = _alloc(self.iommufd, dev_id, ioas.id, flags, data, fault_queue)

    def track_dirty(self) -> DirtyTracking:
        """Switch dirty tracking on; closing the result switches it off.

        Raises:
            ToolError: dirty tracking is on already.
            NotSupportedError: the HWPT was not made with :attr:`HwptAllocFlags.DIRTY_TRACKING`.
        """
        self._check_open()
        return DirtyTracking(self)

    def __repr__(self) -> str:
        return f"Hwpt(id={self.id}, ioas={self.ioas.id})"


class NestedHwpt(IommufdObject):
    """A HWPT with the page table of a guest; the parent translates its output again. Made by ``device.alloc_nested()``.

    Attributes:
        parent: a HWPT made with :attr:`HwptAllocFlags.NEST_PARENT`, or a vIOMMU over one.
    """

    @checked
    def __init__(
        self,
        parent: IommufdObject,
        dev_id: int,
        data: HwptData,
        flags: HwptAllocFlags,
        fault_queue: FaultQueue | None = None,
    ) -> None:
        super().__init__(parent.iommufd, *_stands_on(parent, fault_queue))
        self.parent = parent
        self.flags = flags
        with self._opening():
            self.id = _alloc(self.iommufd, dev_id, parent.id, flags, data, fault_queue)

    def __repr__(self) -> str:
        return f"NestedHwpt(id={self.id}, parent={self.parent.id})"

    @checked
    def invalidate(self, data_type: HwptInvalidateType | int, *entries: bytes) -> int:
        """Drop the IOMMU's cached entries of the guest's page table. Return the number of handled *entries*.

        Each entry is the structure of *data_type*, such as :func:`vtd_stage1_invalidation` makes.

        Raises:
            IommufdError: an entry is refused; its ``arguments["handled"]`` is the number of entries that were handled
                before.
        """
        return invalidate(self, data_type, entries)


@checked
def vtd_stage1_invalidation(iova: int, pages: int, *, leaf_only: bool = False) -> bytes:
    """Return the entry that names the changed 4K pages of a VT-d stage-1 table (struct iommu_hwpt_vtd_s1_invalidate).

    IOVA 0 with 2^64 - 1 pages means the whole table. *leaf_only* means that only leaves changed.
    """
    flags = VtdInvalidateFlags.LEAF if leaf_only else 0
    return pack("iommu_hwpt_vtd_s1_invalidate", addr=iova, npages=pages, flags=flags)


@checked
def invalidate(target: IommufdObject, data_type: int, entries: Sequence[bytes]) -> int:
    """Issue IOMMU_HWPT_INVALIDATE on a nested HWPT or a vIOMMU, and return the number of handled entries.

    Raises:
        ArgumentValueError: the entries have different sizes.
        InvalidFieldError: the IOMMU does not know an entry.
    """
    lengths = {len(entry) for entry in entries}
    if len(lengths) > 1:
        raise ArgumentValueError(
            f"the entries have {len(lengths)} different sizes; one call takes entries of one kind, which have one size"
        )
    return uapi.hwpt_invalidate(target._fd(), target.id, data_type, b"".join(entries), lengths.pop() if lengths else 0)


def _stands_on(parent: IommufdObject, fault_queue: FaultQueue | None) -> tuple[IommufdObject, ...]:
    return (parent,) if fault_queue is None else (parent, fault_queue)


def _alloc(
    iommufd: IommufdFile,
    dev_id: int,
    pt_id: int,
    flags: HwptAllocFlags,
    data: HwptData | None,
    fault_queue: FaultQueue | None,
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
