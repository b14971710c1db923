# SPDX-License-Identifier: MIT
"""Dirty tracking: find the pages that a device wrote."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from iommufd_py.base.arguments import check_fields, check_integer, checked
from iommufd_py.base.errors import ArgumentValueError, ToolError
from iommufd_py.base.iova import IovaRange
from iommufd_py.base.shown import shown_number
from iommufd_py.objects.object import IommufdObject
from iommufd_py.objects.resource import Resource
from iommufd_py.uapi import iommufd as uapi

# The kernel keeps the bitmap in 64-bit words.
_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class DirtyBitmap:
    """The dirty pages of an IOVA range.

    Attributes:
        iova: first IOVA.
        length: bytes.
        page_bytes: bytes that one bit stands for.
        bits: one bit a page, low bit of the first byte first.
    """

    iova: int
    length: int
    page_bytes: int
    bits: bytes

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("DirtyBitmap(): iova", self.iova)
        check_integer("DirtyBitmap(): length", self.length, 1)
        check_integer("DirtyBitmap(): page_bytes", self.page_bytes, 1)
        # The mock driver reads a bit for each page, also behind memory that is too short.
        pages = -(-self.length // self.page_bytes)
        if len(self.bits) < -(-pages // 8):
            raise ArgumentValueError(f"DirtyBitmap(): bits has {len(self.bits)} bytes, too few for {pages} pages")

    def __len__(self) -> int:
        """Number of dirty pages."""
        return int.from_bytes(self.bits, "little").bit_count()

    def __contains__(self, iova: int) -> bool:
        """Return whether the page at *iova* is dirty; an IOVA outside the range is not."""
        if not self.iova <= iova < self.iova + self.length:
            return False
        page = (iova - self.iova) // self.page_bytes
        return bool(self.bits[page // 8] >> page % 8 & 1)

    def ranges(self) -> Iterator[IovaRange]:
        """Yield the dirty IOVAs as ranges, neighbouring pages joined, in order."""
        pages = format(int.from_bytes(self.bits, "little"), "b")[::-1]
        for run in re.finditer("1+", pages):
            yield IovaRange(self.iova + run.start() * self.page_bytes, self.iova + run.end() * self.page_bytes - 1)


def zeroed_bits(place: str, length: int, page_bytes: int) -> bytearray:
    """Return memory for the dirty bits of *length* bytes, in whole words of the kernel. *place* is for messages.

    Raises:
        ArgumentValueError: a value is not positive, or *page_bytes* is no power of two, or there is no memory for the
            bits.
    """
    check_integer(f"{place}: length", length, 1)
    check_integer(f"{place}: page_bytes", page_bytes, 1)
    if page_bytes & (page_bytes - 1):
        # The kernel takes the lowest bit for the size. It would write bits of smaller pages, also behind this memory.
        raise ArgumentValueError(f"{place}: page_bytes must be a power of two, not {shown_number(page_bytes)}")
    pages = -(-length // page_bytes)
    try:
        return bytearray(-(-pages // (8 * _WORD_BYTES)) * _WORD_BYTES)
    except (MemoryError, OverflowError):
        raise ArgumentValueError(f"there is no memory for a bitmap of {pages} pages: read a shorter range") from None


def dirty_bitmap(iova: int, length: int, page_bytes: int, bits: bytearray) -> DirtyBitmap:
    """Return the pages of *bits* that belong to the range. The kernel may set bits behind it in the last word."""
    pages = -(-length // page_bytes)
    inside = int.from_bytes(bits, "little") & ((1 << pages) - 1)
    return DirtyBitmap(iova, length, page_bytes, inside.to_bytes(-(-pages // 8), "little"))


def check_not_tracking(target: Resource, kind: type[Resource]) -> None:
    """Check that no other object of *kind* tracks the dirty pages of *target*: its close() would end both.

    Raises:
        ToolError: another object does.
    """
    if any(isinstance(one, kind) for one in target._dependents):
        raise ToolError(
            f"{target!r} tracks its dirty pages already: use the present {kind.__name__}, or close it first"
        )


class DirtyTracking(Resource):
    """Dirty tracking of *hwpt*, switched on until closed. Made by ``hwpt.track_dirty()``.

    Raises:
        ToolError: dirty tracking is on already.
        NotSupportedError: the HWPT was not made with :attr:`HwptAllocFlags.DIRTY_TRACKING`.

    Source: IOMMU_HWPT_SET_DIRTY_TRACKING and IOMMU_HWPT_GET_DIRTY_BITMAP in include/uapi/linux/iommufd.h.
    """

    @checked
    def __init__(self, hwpt: IommufdObject) -> None:
        super().__init__(hwpt)
        check_not_tracking(hwpt, DirtyTracking)
        self.hwpt = hwpt
        with self._opening():
            uapi.hwpt_set_dirty_tracking(hwpt._fd(), hwpt.id, True)

    def __repr__(self) -> str:
        return f"DirtyTracking({self.hwpt!r})"

    @checked
    def read(self, iova: int, length: int, *, page_bytes: int = 4096, clear: bool = True) -> DirtyBitmap:
        """Read the dirty pages of an IOVA range, and mark them clean again unless *clear* is false.

        The IOMMU has one dirty bit for each of its leaves. After a write to a 2M leaf all pages of it are dirty.

        Raises:
            InvalidFieldError: the range or *page_bytes* is not a multiple of the IOMMU's smallest page.
        """
        self._check_open()
        bits = zeroed_bits("DirtyTracking.read()", length, page_bytes)
        flags = 0 if clear else uapi.DIRTY_BITMAP_NO_CLEAR
        uapi.hwpt_get_dirty_bitmap(self.hwpt._fd(), self.hwpt.id, iova, length, page_bytes, bits, flags)
        return dirty_bitmap(iova, length, page_bytes, bits)

    def _release(self) -> None:
        uapi.hwpt_set_dirty_tracking(self.hwpt._fd(), self.hwpt.id, False)
