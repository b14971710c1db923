# SPDX-License-Identifier: MIT
"""Advice for the user of a VMM, from the figures of its maps. Pure.

Each function gives a sentence with the figures behind it, or nothing if the figures do not support the advice. A share
must be large even if all the time of the probes is deducted from it.
"""

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from iommufd_py.base.units import PAGE_BYTES, counted, format_bytes, format_size
from iommufd_py.explain.memory import MemoryArea, MemoryKind
from iommufd_py.explain.pieces import FAULT_IN, ZEROING
from iommufd_py.explain.process import Device
from iommufd_py.explain.summary import IoctlSummary
from iommufd_py.host.map_parts import DATA_FLUSH

_LARGE = 0.25
_NOTABLE = 0.15
_SHORT_RUN = 64 << 10
_HUGE = 2 << 20
_MANY = 64
_PAGE_TABLE_FLUSH, _INVALIDATION = "page-table flush", "IOTLB invalidation"
# The parts whose time shrinks with the number of runs.
_BY_RUN = ("pinning", "page tables", _PAGE_TABLE_FLUSH, _INVALIDATION)
_WORK_OF_A_FAULT = {
    frozenset({MemoryKind.ANONYMOUS}): "allocated and zeroed",
    frozenset({MemoryKind.HUGETLB}): "zeroed",
    frozenset({MemoryKind.FILE}): "read or allocated",
}
# A shorter total time of all maps is no reason for advice.
_LEAST_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts from which advice follows.

    Attributes:
        maps: all maps as one.
        unmaps: all unmaps as one.
        mapped: areas of memory by the bytes of them that were mapped.
        devices: the devices of the process.
        memlock_bytes: RLIMIT_MEMLOCK of the process, None for no limit.
    """

    maps: IoctlSummary
    unmaps: IoctlSummary
    mapped: Mapping[MemoryArea, int]
    devices: Sequence[Device]
    memlock_bytes: int | None


def advice(facts: Facts) -> tuple[str, ...]:
    """Return the advice that the facts support, the most useful first."""
    rules: tuple[Callable[[Facts], Iterator[str]], ...] = (
        _failures,
        _faults,
        _short_runs,
        _small_leaves,
        _data_flush,
        _page_table_flush,
        _invalidations,
        _pieces,
        _repeats,
    )
    return tuple(text for rule in rules for text in rule(facts))


def _failures(facts: Facts) -> Iterator[str]:
    refused = facts.maps.failed.get(errno.ENOMEM, 0)
    if refused and facts.memlock_bytes is not None:
        yield (
            f"{counted(refused, 'map')} failed with ENOMEM, and RLIMIT_MEMLOCK of the process is "
            f"{format_size(facts.memlock_bytes)}: raise it (ulimit -l, LimitMEMLOCK= of systemd) above the memory that "
            "is mapped"
        )


def _faults(facts: Facts) -> Iterator[str]:
    maps = facts.maps
    if not _costs(maps, _LARGE, FAULT_IN, ZEROING):
        return
    kinds = frozenset(area.kind for area in facts.mapped)
    work = _WORK_OF_A_FAULT.get(kinds, "allocated and filled")
    remedy = "touch the memory before the map, in several threads (MAP_POPULATE; QEMU: prealloc=on,prealloc-threads=N)"
    if MemoryKind.HUGETLB not in kinds:
        remedy += (
            ", use hugetlb pages, which need one fault for 2M or 1G, or keep the memory in a memfd that outlives the "
            "process, and map that with IOMMU_IOAS_MAP_FILE"
        )
    faults = maps.calls_of(FAULT_IN)
    yield (
        f"{maps.share(FAULT_IN, ZEROING):.0%} of the time of the maps is fault-in: in {counted(faults, 'page fault')} "
        f"the kernel {work} memory inside the ioctl, because it was not present: {remedy}"
    )


def _short_runs(facts: Facts) -> Iterator[str]:
    maps = facts.maps
    total = sum(length * count for length, count in maps.runs.items())
    short = {length: count for length, count in maps.runs.items() if length <= _SHORT_RUN}
    in_short = sum(length * count for length, count in short.items())
    # A short map can have no long run, so it does not count.
    if maps.length <= _SHORT_RUN * len(maps.calls) or 2 * in_short <= total or not _costs(maps, _LARGE, *_BY_RUN):
        return
    yield (
        f"{format_bytes(in_short)} reached the page table in {sum(short.values())} physically contiguous runs of at "
        f"most {format_size(max(short))}, each with its own leaves: back the memory with huge pages, of hugetlb (QEMU: "
        "memory-backend-memfd,hugetlb=on) or transparent ones (madvise(MADV_HUGEPAGE) before the first touch)"
    )


def _small_leaves(facts: Facts) -> Iterator[str]:
    for device in facts.devices:
        leaves = device.leaves or {}
        small = leaves.get(PAGE_BYTES, 0) * PAGE_BYTES
        # There is enough memory for two huge pages, and it is most of the memory that the device reaches.
        if small >= 2 * _HUGE and 2 * small > sum(size * count for size, count in leaves.items()):
            yield (
                f"the page table of {device.bdf} maps {format_bytes(small)} by {small // PAGE_BYTES} leaves of 4K: "
                f"with 2M pages at aligned IOVAs it needs {small // _HUGE}, so a map or unmap changes fewer entries"
            )


def _data_flush(facts: Facts) -> Iterator[str]:
    return _flush(
        facts,
        DATA_FLUSH,
        "the mapped memory from the CPU caches, because the domain cannot force DMA to snoop; the cost grows with the "
        "bytes, not with the number of pages: keep mappings instead of making them again",
    )


def _page_table_flush(facts: Facts) -> Iterator[str]:
    return _flush(
        facts,
        _PAGE_TABLE_FLUSH,
        "page-table entries from the CPU caches, because the IOMMU does not snoop when it reads them; the cost grows "
        "with the number of leaves: use huge pages at aligned IOVAs",
    )


def _flush(facts: Facts, part: str, text: str) -> Iterator[str]:
    for one in (facts.maps, facts.unmaps):
        if _costs(one, _NOTABLE, part):
            yield f"{one.share(part):.0%} of the time of the {one.name}s flushes {text}"


def _invalidations(facts: Facts) -> Iterator[str]:
    maps, unmaps = facts.maps, facts.unmaps
    if _costs(maps, _LARGE, _INVALIDATION):
        yield (
            f"{maps.share(_INVALIDATION):.0%} of the time of the maps invalidates the IOTLB, in "
            f"{counted(maps.calls_of(_INVALIDATION), 'call')}: a map needs invalidation only if a hypervisor emulates "
            "the IOMMU (caching mode): map fewer and larger ranges"
        )
    if _costs(unmaps, _LARGE, _INVALIDATION) and len(unmaps.calls) >= _MANY:
        yield (
            f"{unmaps.share(_INVALIDATION):.0%} of the time of the {len(unmaps.calls)} unmaps invalidates the IOTLB, "
            f"in {counted(unmaps.calls_of(_INVALIDATION), 'call')}: unmap neighbours in one ioctl"
        )


def _pieces(facts: Facts) -> Iterator[str]:
    """Advise to join maps that are contiguous in IOVA and in memory."""
    requests = [one.call.request for one in facts.maps.calls if not one.call.error]
    joined = sum(
        first.iova is not None
        and first.user_va is not None
        and first.length is not None
        and (second.iova, second.user_va) == (first.iova + first.length, first.user_va + first.length)
        for first, second in pairwise(requests)
    )
    if joined >= _MANY and 2 * joined > len(requests) and facts.maps.seconds >= _LEAST_SECONDS:
        yield (
            f"{joined} of {len(requests)} maps continue the previous map, in IOVA and in memory: one ioctl can map "
            "such a range"
        )


def _repeats(facts: Facts) -> Iterator[str]:
    requests = [one.call.request for one in facts.maps.calls if not one.call.error]
    counts = Counter((one.user_va, one.length) for one in requests if one.user_va is not None)
    again = sum(counts.values()) - len(counts)
    if again >= 2 and 2 * again >= len(requests) and facts.maps.seconds >= _LEAST_SECONDS:
        yield (
            f"{again} of {len(requests)} maps are of memory that was mapped before in this time: keep the mapping; "
            "for another IOAS, IOMMU_IOAS_COPY uses the pages of the first one without a new pin"
        )


def _costs(one: IoctlSummary, least: float, *parts: str) -> bool:
    return one.seconds >= _LEAST_SECONDS and one.least_share(*parts) >= least
