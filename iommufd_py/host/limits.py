# SPDX-License-Identifier: MIT
"""Limits of DMA mappings on this machine."""

import resource
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, chosen_word, entries, kernel_text
from iommufd_py.uapi.syscalls import pages_are_charged

_POOLS = Path("/sys/kernel/mm/hugepages")
_THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_DMA_ENTRY_LIMIT = Path("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit")


@dataclass(frozen=True, slots=True)
class HugePagePool:
    """The huge pages of one size: bytes of a page, number of pages, number of free pages."""

    page_bytes: int
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a mapping.

    Attributes:
        memlock_bytes: RLIMIT_MEMLOCK of this process; None for no limit.
        memlock_ignored: whether CAP_IPC_LOCK lifts it, which it does in the initial user namespace only.
        huge_pages: pools by page size.
        thp: setting of transparent huge pages: ``always``, ``madvise``, ``never``, empty on a kernel without them.
        dma_entry_limit: maximum number of mappings in a type1 container; None if type1 is not loaded.
    """

    memlock_bytes: int | None
    memlock_ignored: bool
    huge_pages: tuple[HugePagePool, ...]
    thp: str
    dma_entry_limit: int | None


def limits() -> Limits:
    """Return the limits of this process and machine."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return Limits(
        memlock_bytes=None if soft == resource.RLIM_INFINITY else soft,
        memlock_ignored=not pages_are_charged(),
        huge_pages=tuple(sorted(map(_pool, entries(_POOLS, "hugepages-*kB")), key=lambda pool: pool.page_bytes)),
        thp=chosen_word(attribute_text(_THP)),
        dma_entry_limit=int(text) if (text := attribute_text(_DMA_ENTRY_LIMIT)) else None,
    )


def lift_memlock() -> bool:
    """Remove RLIMIT_MEMLOCK of this process. Return whether the kernel permits that (CAP_SYS_RESOURCE)."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError:  # Python's error for EPERM.
        return False
    return True


def _pool(directory: Path) -> HugePagePool:
    kilobytes = int(directory.name.removeprefix("hugepages-").removesuffix("kB"))
    total, free = (int(kernel_text(directory / name)) for name in ("nr_hugepages", "free_hugepages"))
    return HugePagePool(kilobytes << 10, total, free)
