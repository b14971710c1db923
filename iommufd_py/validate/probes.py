# SPDX-License-Identifier: MIT
"""Probes on the kernel functions that map, flush, unmap and unpin pages."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.errors import SkipError
from iommufd_py.base.sysfs import entries, process_fields
from iommufd_py.host.tracefs import NoSymbolError, Trace, require_host_pids

FLUSH_SYMBOLS = ("arch_flush_cache_phys", "arch_clean_nonsnoop_dma")
"""Functions that flush the CPU caches for (phys, length): ours, and the one that was proposed in May 2024."""


@dataclass(frozen=True, slots=True)
class _Probe:
    """A function to probe. The event's name is ``kind__symbol``; :mod:`~iommufd_py.validate.records` reads it."""

    kind: str
    symbol: str
    fields: dict[str, str]
    at_return: bool = False


_DOMAIN = {"domain": "$arg1:x64"}
_RANGE = {**_DOMAIN, "iova": "$arg2:x64"}

# The functions by which iommufd and type1 map and unmap. Each is called from another file, so none is inlined.
_MAPPING = (
    _Probe("map", "iommu_map", {**_RANGE, "phys": "$arg3:x64", "length": "$arg4:u64"}),
    _Probe("mapped", "iommu_map", {"result": "$retval:s32"}, at_return=True),
    _Probe("unmap", "iommu_unmap", {**_RANGE, "length": "$arg3:u64"}),
    _Probe("unmapped", "iommu_unmap", {"result": "$retval:u64"}, at_return=True),
    _Probe("unmap", "iommu_unmap_fast", {**_RANGE, "length": "$arg3:u64"}),
)

# The drivers' iotlb_sync and flush_iotlb_all. The core calls them through a pointer, so none is inlined.
_SYNCS = tuple(
    _Probe(kind, symbol, fields, at_return)
    for symbol in (
        "intel_iommu_tlb_sync",
        "intel_flush_iotlb_all",
        "amd_iommu_iotlb_sync",
        "amd_iommu_flush_iotlb_all",
        "viommu_iotlb_sync",
        "viommu_flush_iotlb_all",
        "mock_iotlb_sync",
    )
    for kind, fields, at_return in (("sync", _DOMAIN, False), ("synced", {"result": "$retval:s32"}, True))
)

# The functions that make domains, of the core and of the drivers, under their names in 6.12 and since 7.2.
_DOMAINS = tuple(
    _Probe("domain", symbol, {"domain": "$retval:x64"}, at_return=True)
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

# Every exported function that ends a pin (mm/gup.c): by the first struct page or folio, or by an array of them. A probe
# records at most 64 elements of an array.
_ONE = {"page": "$arg1:x64"}
_COUNTED = {"page": "$arg1:x64", "count": "$arg2:u64"}
_ARRAY = {"pages": "+0($arg1):x64[64]", "count": "$arg2:u64"}
_UNPINS = tuple(
    _Probe("unpin", symbol, fields)
    for symbol, fields in (
        ("unpin_user_page_range_dirty_lock", _COUNTED),
        ("unpin_user_folio", _COUNTED),
        ("unpin_user_page", _ONE),
        ("unpin_folio", _ONE),
        ("unpin_user_pages_dirty_lock", _ARRAY),
        ("unpin_user_pages", _ARRAY),
        ("unpin_folios", _ARRAY),
    )
)

# The functions that issue the flush instructions for a range of virtual addresses, and those that flush everything.
_LOOPS = tuple(
    _Probe("lines", symbol, {"virt": "$arg1:x64", "length": "$arg2:u32"})
    for symbol in ("clflush_cache_range", "clflush_cache_range_opt", "drm_clflush_virt_range")
) + tuple(_Probe("everything", symbol, {}) for symbol in ("wbinvd_on_all_cpus", "wbnoinvd_on_all_cpus"))

_KTHREADD = 2


class Probes:
    """The probes, in a separate trace instance.

    Args:
        flush_symbols: functions that flush (phys, length).

    Attributes:
        flush_symbols: those of the given functions that this kernel has.

    Raises:
        SkipError: this kernel cannot be observed.
    """

    def __init__(self, flush_symbols: Sequence[str]) -> None:
        require_host_pids()
        self.trace = Trace()
        try:
            self.flush_symbols = tuple(
                symbol
                for symbol in flush_symbols
                if self._put(_Probe("flush", symbol, {"phys": "$arg1:x64", "length": "$arg2:u64"}))
            )
            for kind, points in (("mapping", _MAPPING), ("unpin", _UNPINS), ("allocation", _DOMAINS)):
                # Probe all functions of a kind, not only the first that this kernel has.
                if not sum([self._put(probe) for probe in points]):
                    raise SkipError(f"the {kind} of pages and domains cannot be probed on this kernel")
            for probe in _SYNCS:
                self._put(probe)
            self._loops = [_name(probe) for probe in _LOOPS if self._put(probe)]
        except BaseException:
            self.trace.close()
            raise

    def follow(self, threads: Collection[int]) -> None:
        """Record only events of *threads*, of their new threads, and of kernel threads, which may work for them.

        A busy host then neither fills the buffer nor disturbs the calibration.
        """
        self.trace.follow({*threads, *_kernel_threads()})

    def drop_loops(self) -> None:
        """Stop recording the flush loops. If they never flush our pages, IOMMU drivers only fill the buffer."""
        for name in self._loops:
            self.trace.mute(name)
        self._loops = []

    def _put(self, probe: _Probe) -> bool:
        with suppress(NoSymbolError):
            self.trace.probe(probe.symbol, probe.fields, name=_name(probe), at_return=probe.at_return)
            return True
        return False


def _name(probe: _Probe) -> str:
    return f"{probe.kind}__{probe.symbol}"


def _kernel_threads() -> set[int]:
    """Return the kernel threads; kthreadd is among them, and makes the new ones."""
    found = {_KTHREADD}
    for process in entries(Path("/proc"), "[0-9]*"):
        fields = process_fields(int(process.name))  # It has none if it has ended.
        if fields and int(fields[1]) == _KTHREADD:
            found.add(int(process.name))
    return found
