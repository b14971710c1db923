# SPDX-License-Identifier: MIT
"""Divide the time of a map or unmap among the kernel's functions. Pure.

The source of the times is a probe at the entry and one at the return of each function.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from iommufd_py.base.errors import ToolError
from iommufd_py.host.trace_records import TraceRecord
from iommufd_py.results.breakdown import REST

DATA_FLUSH = "data-page flush"

# A kernel may lack some of them.
PARTS: Mapping[str, tuple[str, ...]] = {
    "pinning": ("pin_user_pages_fast", "pin_user_pages_remote", "memfd_pin_folios"),
    "unpinning": (
        "unpin_user_pages",
        "unpin_user_page_range_dirty_lock",
        "unpin_user_pages_dirty_lock",
        "unpin_folios",
    ),
    "page tables": ("iommu_map", "iommu_map_nosync", "iommu_unmap", "iommu_unmap_fast", "iommu_put_pages_list"),
    "page-table flush": ("clflush_cache_range",),
    DATA_FLUSH: ("arch_flush_cache_phys", "arch_flush_cache_phys_fence"),
    "IOTLB invalidation": (
        "cache_tag_flush_range",
        "cache_tag_flush_range_np",
        "cache_tag_flush_all",
        "amd_iommu_domain_flush_pages",
        "viommu_iotlb_sync",
        "viommu_iotlb_sync_map",
        "viommu_flush_iotlb_all",
        "mock_iotlb_sync",
    ),
}
"""Functions by part. Time in a function that another one calls counts for the inner one."""

# The flush of data pages includes everything that it calls, because it can use the same functions as the flush of page
# tables.
_UNDIVIDED = DATA_FLUSH
RETURN = "_returned"
"""The event at the return of a function has the name of the function with this suffix."""


@dataclass(frozen=True, slots=True)
class PartTime:
    """The time in one part, in seconds, and the number of calls from outside of the part."""

    seconds: float = 0.0
    calls: int = 0

    def __add__(self, other: "PartTime") -> "PartTime":
        return PartTime(self.seconds + other.seconds, self.calls + other.calls)


def add_parts(divided: Iterable[Mapping[str, PartTime]]) -> dict[str, PartTime]:
    """Return the sum of each part of several divided times."""
    total: dict[str, PartTime] = {}
    for parts in divided:
        for name, part in parts.items():
            total[name] = total.get(name, PartTime()) + part
    return total


def divide(
    records: Iterable[TraceRecord],
    start: float,
    end: float,
    part_of: Mapping[str, str],
    *,
    begun: tuple[str, ...] = (),
    rest: str = REST,
) -> dict[str, PartTime]:
    """Divide a time of one thread among the parts. The parts add up to the whole.

    Args:
        records: events of the thread between *start* and *end*, in order.
        start: start in seconds of the trace's clock.
        end: end in seconds of the trace's clock.
        part_of: the part of each function.
        begun: functions that already run at *start*, the outermost first.
        rest: name of the part outside of all functions.

    Raises:
        ToolError: a return does not belong to the call before it.
    """
    times: dict[str, PartTime] = {}
    stack = [(rest, rest)]  # function, part

    def add(seconds: float, calls: int) -> None:
        part = stack[-1][1]
        times[part] = times.get(part, PartTime()) + PartTime(seconds, calls)

    def enter(function: str, calls: int) -> None:
        outer = stack[-1][1]
        part = outer if outer == _UNDIVIDED else part_of.get(function, rest)
        stack.append((function, part))
        if part != outer:
            add(0.0, calls)

    add(0.0, 1)
    # The calls of these functions were counted before.
    for function in begun:
        enter(function, 0)
    since = start
    for record in records:
        add(record.time - since, 0)
        since = record.time
        if not record.name.endswith(RETURN):
            enter(record.name, 1)
        elif len(stack) > 1 and stack[-1][0] + RETURN == record.name:
            stack.pop()
        else:
            raise ToolError(f"the trace is out of order: {record.name} in {stack[-1][0]}; trace again")
    add(end - since, 0)
    return times


def functions_at_start(records: Iterable[TraceRecord]) -> tuple[str, ...]:
    """Return the functions that ran before the first event of a thread, because only their return was recorded.

    The outermost comes first. A function that neither begins nor returns in *records* is unknown.
    """
    open_calls = 0
    found: list[str] = []
    for record in records:
        if not record.name.endswith(RETURN):
            open_calls += 1
        elif open_calls:
            open_calls -= 1
        else:
            found.append(record.name.removesuffix(RETURN))
    return tuple(reversed(found))
