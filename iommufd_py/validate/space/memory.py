# SPDX-License-Identifier: MIT
"""Dimensions of the memory that a combination maps, and the buffer for their values."""

from iommufd_py.base.units import PAGE_BYTES, round_up
from iommufd_py.objects.buffer import Backing
from iommufd_py.uapi.enums import MapFlags
from iommufd_py.validate.context import HUGE_PAGES

MEMORY = {
    "4k": Backing.ANON_4K,
    "scattered": Backing.ANON_4K,
    "thp": Backing.THP,
    "memfd": Backing.MEMFD,
    "file": Backing.MEMFD,
    "hugetlb": Backing.HUGETLB_2M,
    "huge-file": Backing.MEMFD_HUGETLB_2M,
}
"""Kinds of memory. No two pages of ``scattered`` memory are contiguous."""

FILES = frozenset({"file", "huge-file"})
"""The kinds that are mapped by their descriptor. The others are mapped by their address."""

LENGTHS = {"short": 6, "over-2m": HUGE_PAGES + 6}
"""Number of mapped pages: a few, or a run across 1M and 2M boundaries."""

ACCESS = {"rw": MapFlags.READ_WRITE, "ro": MapFlags.READABLE, "wo": MapFlags.WRITEABLE}
"""Access of the device to the mapping."""


def whole_pages(count: int, backing: Backing) -> int:
    """Round *count* pages of 4 KiB up to whole pages of the backing."""
    return round_up(count, backing.page_bytes // PAGE_BYTES)
