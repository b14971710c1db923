# SPDX-License-Identifier: MIT
"""The memory of all IOMMU page tables of this machine. The kernel has no count for a process or a device."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.sysfs import kernel_text

# Each CPU keeps up to 125 pages of a count separately. Reading this file as root adds them to the total.
_REFRESH = Path("/proc/sys/vm/stat_refresh")


@dataclass(frozen=True, slots=True)
class PageTables:
    """Page-table memory of the whole system, of all users.

    Attributes:
        secondary_bytes: SecPageTables of /proc/meminfo: of IOMMUs and of KVM; None if the kernel does not count it.
        iommu_bytes: nr_iommu_pages of /proc/vmstat: all that IOMMU drivers allocate; None if the kernel does not
            count it.
    """

    secondary_bytes: int | None
    iommu_bytes: int | None


def page_tables() -> PageTables:
    """Return the page-table memory of the system now. Without root, up to 500 KiB for each CPU are not counted yet."""
    with contextlib.suppress(OSError):
        _REFRESH.read_bytes()
    meminfo, vmstat = (kernel_text(Path("/proc", name)) for name in ("meminfo", "vmstat"))
    return parse_page_tables(meminfo, vmstat, os.sysconf("SC_PAGE_SIZE"))


def parse_page_tables(meminfo: str, vmstat: str, page_bytes: int) -> PageTables:
    """Read the counts from /proc/meminfo and /proc/vmstat."""
    secondary = re.search(r"^SecPageTables: +([0-9]{1,20}) kB$", meminfo, re.MULTILINE)
    iommu = re.search(r"^nr_iommu_pages ([0-9]{1,20})$", vmstat, re.MULTILINE)
    return PageTables(int(secondary[1]) << 10 if secondary else None, int(iommu[1]) * page_bytes if iommu else None)
