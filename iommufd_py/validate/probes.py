# SPDX-License-Identifier: MIT
"""Where the kernel is probed to see pages come and go."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from iommufd_py.base.errors import SkipError
from iommufd_py.host.tracefs import NoSymbolError, Trace

FLUSH_SYMBOLS = ("arch_flush_cache_phys", "arch_clean_nonsnoop_dma")
"""Functions that flush the CPU caches for (phys, length): ours, and that of the proposal of May 2024."""


@dataclass(frozen=True, slots=True)
class _Point:
    """A function to probe; the event is named after the kind, see events.parse_events()."""

    kind: str
    symbol: str
    fields: dict[str, str]
    at_return: bool = False


_RANGE = {"domain": "$arg1:x64", "iova": "$arg2:x64"}

# All that iommufd and type1 map and unmap through. Every function is called from another file, so none is inlined.
_MAPPING = (
    _Point("map", "iommu_map", {**_RANGE, "phys": "$arg3:x64", "length": "$arg4:u64"}),
    _Point("mapped", "iommu_map", {"result": "$retval:s32"}, at_return=True),
    _Point("unmap", "iommu_unmap", {**_RANGE, "length": "$arg3:u64"}),
    _Point("unmap", "iommu_unmap_fast", {**_RANGE, "length": "$arg3:u64"}),
)

# What makes domains: the core's function and the drivers' own, under their names of 6.12 and of 7.2 on.
_DOMAINS = tuple(
    _Point("domain", symbol, {"domain": "$retval:x64"}, at_return=True)
    for symbol in (
        "iommu_paging_domain_alloc",
        "iommu_paging_domain_alloc_flags",
        "mock_domain_alloc_user",
        "mock_domain_alloc_paging_flags",
        "intel_iommu_domain_alloc_user",
        "intel_iommu_domain_alloc_paging_flags",
        "amd_iommu_domain_alloc_user",
        "amd_iommu_domain_alloc_paging_flags",
    )
)

# How pages that were in a domain may be given back: by the first struct page, or by the first of an array of them.
_UNPINS = (
    _Point("unpin", "unpin_user_page_range_dirty_lock", {"page": "$arg1:x64", "count": "$arg2:u64"}),
    _Point("unpin", "unpin_user_page", {"page": "$arg1:x64"}),
    _Point("unpin", "unpin_folio", {"page": "$arg1:x64"}),
    _Point("unpin", "unpin_user_folio", {"page": "$arg1:x64", "count": "$arg2:u64"}),
    _Point("unpin", "unpin_user_pages_dirty_lock", {"page": "+0($arg1):x64"}),
)


class Probes:
    """The probes in a trace of their own.

    Args:
        flush_symbols: functions that flush (phys, length).

    Attributes:
        flush_symbols: those of them that this kernel has.

    Raises:
        SkipError: this kernel cannot be observed.
    """

    def __init__(self, flush_symbols: Sequence[str]) -> None:
        self.trace = Trace()
        try:
            self.flush_symbols = tuple(
                symbol
                for symbol in flush_symbols
                if self._put(_Point("flush", symbol, {"phys": "$arg1:x64", "length": "$arg2:u64"}))
            )
            for kind, points in (("mapping", _MAPPING), ("unpin", _UNPINS), ("allocation", _DOMAINS)):
                # All of them, not only up to the first that is there.
                if not sum(self._put(point) for point in points):
                    raise SkipError(f"the {kind} of pages and domains cannot be probed on this kernel")
        except BaseException:
            self.trace.close()
            raise

    def _put(self, point: _Point) -> bool:
        with suppress(NoSymbolError):
            name = f"{point.kind}__{point.symbol}"
            self.trace.probe(point.symbol, point.fields, name=name, at_return=point.at_return)
            return True
        return False
