# SPDX-License-Identifier: MIT
"""Converting trace text to events: their threads, the real flushes, and the end of an unmap."""

import pytest

from iommufd_py.host.trace_records import parse_trace
from iommufd_py.validate.addresses import PageStructs
from iommufd_py.validate.events import (
    Event,
    Flush,
    Map,
    MapFailed,
    NewDomain,
    StepBegin,
    StepEnd,
    Synced,
    Unmap,
    Unpin,
    begin_mark,
    end_mark,
)
from iommufd_py.validate.records import Layout, Observed, read_records

STRUCTS = PageStructs(base=0xFFD4000000000000, size=64)
DIRECT = 0xFF11000000000000
LAYOUT = Layout(STRUCTS, DIRECT)

DOMAIN = 0xFF11000002628540

# From a patched 7.3 in the lab, without the places of calls, and with events of another process.
TRACE = f"""\
  python-81  [001] .....  10: tracing_mark_write: {begin_mark(3)}
  python-81  [001] .....  11: domain__mock_domain_alloc_paging_flags: (f+0x0) domain={DOMAIN:#x}
  python-81  [001] .....  12: flush__arch_flush_cache_phys: (f+0x0) phys=0x1d888000 length=4096
  python-81  [001] .....  13: map__iommu_map: (f+0x0) domain={DOMAIN:#x} iova=0x1000000 phys=0x1d888000 length=4096
  qemu-99    [000] .....  14: mapped__iommu_map: (f+0x186/0x260 <- iommu_map) result=-12
  python-81  [001] .....  15: mapped__iommu_map: (f+0x186/0x260 <- iommu_map) result=-12
  python-81  [001] .....  16: unmap__iommu_unmap: (f+0x0) domain={DOMAIN:#x} iova=0x1000000 length=16384
  qemu-99    [000] .....  17: flush__arch_flush_cache_phys: (f+0x0) phys=0x1000 length=4096
  python-81  [001] .....  18: unpin__unpin_user_page_range_dirty_lock: (f+0x0) page=0xffd4000000762200 count=2
  python-81  [001] .....  19: tracing_mark_write: {end_mark(3)}
"""


def test_parse() -> None:
    assert read_records(parse_trace(TRACE.splitlines()), LAYOUT, {81}).events == [
        StepBegin(3),
        NewDomain(DOMAIN),
        Flush(0x1D888000, 4096),
        Map(DOMAIN, 0x1000000, 0x1D888000, 4096),
        MapFailed(DOMAIN, 0x1000000, 4096),
        Unmap(DOMAIN, 0x1000000, 16384, pending=True),
        Unpin(0x1D888, 2),
        StepEnd(3),
    ]


def read(*lines: str, layout: Layout = LAYOUT, frames: frozenset[int] = frozenset({1, 2, 3})) -> Observed:
    """Observe records of the form ``TID NAME FIELDS``."""
    text = []
    for number, line in enumerate(lines):
        tid, name, fields = line.split(" ", 2)
        text.append(f"  task-{tid}  [000] .....  {number}: {name}: (f+0x0) {fields}")
    return read_records(parse_trace(text), layout, {81}, frames)


def events(*lines: str, layout: Layout = LAYOUT) -> list[Event]:
    return read(*lines, layout=layout).events


def test_a_kernel_thread_that_works_for_us_and_for_others() -> None:
    found = events(
        "7 flush__arch_flush_cache_phys phys=0x1000 length=4096",
        "7 flush__arch_flush_cache_phys phys=0x90000 length=4096",
        "7 unpin__unpin_user_page page=0xffd4000000000040",
    )
    assert found == [Flush(0x1000, 4096, own=False), Unpin(1, 1)]


@pytest.mark.parametrize("symbol", ["unpin_user_pages", "unpin_user_pages_dirty_lock", "unpin_folios"])
def test_an_unpin_of_an_array(symbol: str) -> None:
    pages = "{0xffd4000000000040,0xffd40000000000c0,0xffd4000000000080,0x0}"
    assert events(f"81 unpin__{symbol} pages={pages} count=3") == [Unpin(1, 1), Unpin(3, 1), Unpin(2, 1)]
    torn = "{0xffd4000000000040,(fault)}"
    assert events(f"81 unpin__{symbol} pages={torn} count=2") == [Unpin(1, 1)]


def test_a_function_that_passes_its_arguments_on_is_one_unpin() -> None:
    array = "pages={0xffd4000000000040,0x0} count=1"
    both = [f"81 unpin__unpin_user_pages_dirty_lock {array}", f"81 unpin__unpin_user_pages {array}"]
    assert events(*both) == [Unpin(1, 1)]
    again = [both[1], both[1]]
    assert events(*again) == [Unpin(1, 1), Unpin(1, 1)]


class TestSync:
    FAST = f"81 unmap__iommu_unmap_fast domain={DOMAIN:#x} iova=0x1000 length=4096"
    SLOW = f"81 unmap__iommu_unmap domain={DOMAIN:#x} iova=0x1000 length=4096"

    def test_unmap_fast_is_complete_after_the_driver_s_sync(self) -> None:
        found = events(
            self.FAST, f"81 sync__intel_iommu_tlb_sync domain={DOMAIN:#x}", "81 synced__intel_iommu_tlb_sync result=0"
        )
        assert found == [Unmap(DOMAIN, 0x1000, 4096, pending=True), Synced(DOMAIN)]

    def test_iommu_unmap_is_complete_when_it_returns(self) -> None:
        for layout in (LAYOUT, Layout(STRUCTS, DIRECT, sees_sync=False)):
            found = events(self.SLOW, "81 unmapped__iommu_unmap result=4096", layout=layout)
            assert found == [Unmap(DOMAIN, 0x1000, 4096, pending=True), Synced(DOMAIN)]

    def test_where_the_sync_cannot_be_seen_unmap_fast_counts_as_complete(self) -> None:
        assert events(self.FAST, layout=Layout(STRUCTS, DIRECT, sees_sync=False)) == [Unmap(DOMAIN, 0x1000, 4096)]


def claim(phys: int, length: int) -> str:
    return f"81 flush__arch_flush_cache_phys phys={phys:#x} length={length}"


def loop(phys: int, length: int, tid: int = 81, symbol: str = "clflush_cache_range") -> str:
    return f"{tid} lines__{symbol} virt={DIRECT + phys:#x} length={length}"


class TestFlushFunction:
    """If the loop inside was recorded, it decides which lines were flushed. Each line counts once for a call."""

    def test_a_function_whose_inside_is_not_seen_is_believed(self) -> None:
        found = read(claim(0x1000, 8192))
        assert (found.events, found.inside_seen) == ([Flush(0x1000, 8192)], False)

    @pytest.mark.parametrize(
        ("lines", "done"),
        [
            ([loop(0x1000, 4096), loop(0x2000, 4096)], [(0x1000, 4096), (0x2000, 4096)]),
            ([loop(0x1000, 4096)], [(0x1000, 4096)]),  # a page is skipped
            ([loop(0x1000, 64)], [(0x1000, 64)]),  # the length is cut
            ([loop(0x0, 0x8000)], [(0x1000, 8192)]),  # The range is rounded up.
            ([loop(0x1000, 4096), loop(0x1000, 8192)], [(0x1000, 4096), (0x2000, 4096)]),  # a page twice
            ([loop(0x1000, 8192), loop(0x1000, 8192, symbol="clflush_cache_range_opt")], [(0x1000, 8192)]),
            ([loop(0x1000, 8192, tid=7)], [(0x1000, 8192)]),  # by a kernel thread
            ([loop(0x1000, 4096), "81 everything__wbinvd_on_all_cpus x=0"], [(0x1000, 4096), (0x2000, 4096)]),
        ],
    )
    def test_the_loop_decides(self, lines: list[str], done: list[tuple[int, int]]) -> None:
        found = read(claim(0x1000, 8192), *lines)
        assert [(one.phys, one.length) for one in found.events if isinstance(one, Flush)] == done
        assert found.inside_seen
        assert found.calls == [Flush(0x1000, 8192)]

    def test_a_call_that_returns_at_once_among_others(self) -> None:
        found = events(
            claim(0x1000, 4096), loop(0x1000, 4096), "81 unpin__unpin_user_page page=0x0", claim(0x2000, 4096)
        )
        assert [one for one in found if isinstance(one, Flush)] == [Flush(0x1000, 4096)]

    def test_lines_after_the_call_do_not_count(self) -> None:
        unpin = "81 unpin__unpin_user_page page=0xffd4000000000040"
        found = events(claim(0x1000, 8192), loop(0x1000, 4096), unpin, loop(0x2000, 4096))
        assert [one for one in found if isinstance(one, Flush)] == [Flush(0x1000, 4096)]

    def test_an_iommu_driver_flushes_its_tables_by_the_same_loop(self) -> None:
        found = read(
            claim(0x1000, 4096), "81 map__iommu_map domain=1 iova=0 phys=0x1000 length=4096", loop(0x70000, 64)
        )
        assert (found.inside_seen, found.events[0]) == (False, Flush(0x1000, 4096))


class TestUnknownWay:
    def test_a_loop_without_a_known_function(self) -> None:
        found = read(loop(0x1000, 4096), loop(0x90000, 4096))
        assert (found.unnamed, found.events) == ({"clflush_cache_range"}, [Flush(0x1000, 4096)])

    def test_all_caches_at_once(self) -> None:
        assert read("81 everything__wbinvd_on_all_cpus x=0").unnamed == {"wbinvd_on_all_cpus"}
        assert read("7 everything__wbinvd_on_all_cpus x=0").unnamed == set()

    def test_tables_of_a_stock_kernel_s_driver_are_none(self) -> None:
        assert read(loop(0x90000, 4096)).unnamed == set()
