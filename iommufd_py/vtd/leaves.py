# SPDX-License-Identifier: MIT
"""Read the leaf sizes of a mapping in the IOMMU's page table, from debugfs."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from iommufd_py.base.sysfs import limit_named

_DEBUGFS = Path("/sys/kernel/debug/iommu/intel")
_PFN_SHIFT = 12
MAX_BYTES = 64 << 20
"""The longest range to read: 16,384 leaves of 4K."""

# domain_translation_struct shows PML5E, PML4E and PDPE, and shows PDE and PTE only if the walk reaches them. So the
# number of columns after the IOVA gives the level of the leaf (drivers/iommu/intel/debugfs.c, dump_page_info()).
_BYTES_BY_COLUMNS = {3: 1 << 30, 4: 2 << 20, 5: 4 << 10}
_LEAF = re.compile(r"0x([0-9a-f]{1,16}) *\|((?:\s+0x[0-9a-f]+){3,5})\s*")


def parse_leaf_sizes(lines: Iterable[str], iova: int, length: int) -> dict[int, int] | None:
    """Count the leaves of a dumped page table by their size in bytes, within an IOVA range.

    The count is None if a line has an unknown form: a count without that leaf would be wrong.

    Args:
        lines: lines of a device's ``domain_translation_struct``.
        iova: first IOVA of the range.
        length: bytes.
    """
    sizes: Counter[int] = Counter()
    for line in lines:
        if not line.startswith("0x"):
            continue
        leaf = _LEAF.fullmatch(line)
        if leaf is None:
            return None
        if iova <= int(leaf[1], 16) << _PFN_SHIFT < iova + length:
            sizes[_BYTES_BY_COLUMNS[len(leaf[2].split())]] += 1
    return dict(sorted(sizes.items()))


def leaf_sizes(bdf: str, iova: int, length: int) -> dict[int, int] | None:
    """Return the number of leaves of each size that map a range for a device; None if the kernel does not show it.

    This needs CONFIG_INTEL_IOMMU_DEBUGFS, a mounted debugfs and root. A longer range than :data:`MAX_BYTES` gives None:
    the kernel prints all leaves of the device under the IOMMU's lock, and again for each doubling of its buffer.
    """
    return _leaf_sizes(bdf, iova, length) if length <= MAX_BYTES else None


def all_leaf_sizes(bdf: str) -> dict[int, int] | None:
    """Return the number of leaves of each size in the page table of a device; None if the kernel does not show it.

    The caller knows that the device maps no more than :data:`MAX_BYTES`.
    """
    return _leaf_sizes(bdf, 0, 1 << 64)


def _leaf_sizes(bdf: str, iova: int, length: int) -> dict[int, int] | None:
    dump = _DEBUGFS / bdf / "domain_translation_struct"
    try:
        with limit_named(dump), dump.open() as lines:
            return parse_leaf_sizes(lines, iova, length)
    except (FileNotFoundError, PermissionError):
        return None
