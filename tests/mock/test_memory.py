# SPDX-License-Identifier: MIT
"""Buffers of every backing."""

import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from iommufd_py import Backing, BackingError, DmaBuffer
from tests.conftest import FREE_2M, IN_LAB, free_huge_pages, need_huge_pages

MIB = 1 << 20


def page_frames(buffer: DmaBuffer) -> list[int]:
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(buffer.user_va // 4096 * 8)
        raw = pagemap.read(buffer.length // 4096 * 8)
    return [int.from_bytes(raw[i : i + 8], "little") & ((1 << 55) - 1) for i in range(0, len(raw), 8)]


@pytest.mark.parametrize("backing", sorted({*Backing} - {Backing.HUGETLB_1G}))
def test_backing_is_what_was_asked_for(backing: Backing) -> None:
    if backing.page_bytes > 4096:
        need_huge_pages()
    free = free_huge_pages()
    with DmaBuffer(4 * MIB, backing) as buffer:
        assert buffer.user_va % backing.page_bytes == 0
        assert buffer.huge_bytes() == (4 * MIB if backing is Backing.THP else 0)
        assert free - free_huge_pages() == (2 if "hugetlb" in backing else 0)
        assert (buffer.fd is not None) == ("memfd" in backing)
        frames = page_frames(buffer)
        assert all(frames), "a page is not present"
        runs = buffer.physical_runs()
        assert runs is not None
        assert runs.total() == 1 + sum(b != a + 1 for a, b in pairwise(frames))
        assert sum(length * count for length, count in runs.items()) == len(frames)
        if backing.page_bytes > 4096:
            for start in range(0, len(frames), 512):
                assert frames[start : start + 512] == list(range(frames[start], frames[start] + 512))
        with buffer.view as view:
            view[0], view[-1] = 1, 2
            assert len(view) == 4 * MIB
    assert free_huge_pages() == free


def small_free_pages() -> int:
    """Return the number of free pages in physically contiguous runs of less than 16 pages."""
    zones = [line.split()[4:] for line in Path("/proc/buddyinfo").read_text().splitlines()]
    return sum(int(count) << order for zone in zones for order, count in enumerate(zone[:4]))


@pytest.fixture
def long_free_runs() -> Iterator[None]:
    """Leave only long free runs: earlier tests leave many short ones, and the kernel hands these out first."""
    vm = Path("/proc/sys/vm")
    most_per_cpu = vm / "percpu_pagelist_high_fraction"
    before = most_per_cpu.read_text()
    # A CPU keeps the pages that were freed last and hands them out in the reverse order. Let it keep few.
    most_per_cpu.write_text("1000000")
    try:
        (vm / "drop_caches").write_text("3")
        (vm / "compact_memory").write_text("1")
        with DmaBuffer((small_free_pages() + 4096) * 4096):
            yield
    finally:
        most_per_cpu.write_text(before)


@pytest.mark.usefixtures("long_free_runs")
@pytest.mark.parametrize("pages", [8, 12, 64, 1024])
@pytest.mark.parametrize("backing", [one for one in Backing if one.run_pages])
def test_fragmented_memory_has_short_runs(backing: Backing, pages: int) -> None:
    assert backing.run_pages is not None
    with DmaBuffer(pages * 4096, backing) as buffer:
        runs = buffer.physical_runs()
    assert runs is not None
    assert sum(length * count for length, count in runs.items() if length > backing.run_pages) <= pages * 0.05
    # Runs are shorter than requested where the free memory of the kernel is in smaller pieces.
    assert pages < 1024 or runs.total() <= 3 * pages / backing.run_pages


@pytest.mark.usefixtures("long_free_runs")
def test_memory_that_does_not_come_fragmented_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DmaBuffer, "_touches", lambda buffer, _: [(0, buffer.length)])
    with pytest.raises(BackingError, match="of 1024 pages came in physically contiguous runs of more than 1 pages"):
        DmaBuffer(4 * MIB, Backing.FRAGMENTED_1)


@pytest.mark.parametrize("backing", [Backing.ANON_4K, Backing.MEMFD])
def test_memory_of_a_node(backing: Backing) -> None:
    if not Path("/sys/devices/system/node/node0").exists():
        pytest.skip("this kernel knows no NUMA nodes (CONFIG_NUMA)")
    with DmaBuffer(MIB, backing, node=0) as buffer:
        (mine,) = (
            line
            for line in Path("/proc/self/numa_maps").read_text().splitlines()
            if line.startswith(f"{buffer.user_va:x} ")
        )
        assert " bind:0 " in mine
        assert f" N0={MIB // 4096} " in mine
    with pytest.raises(BackingError, match="NUMA node 1000 has no memory for this process"):
        DmaBuffer(MIB, backing, node=1000)


def test_too_many_huge_pages_says_how_to_get_them() -> None:
    need_huge_pages()
    with pytest.raises(BackingError, match=r"32768 free 2M huge pages are needed for 64G, and \d+ are free: echo \d+ "):
        DmaBuffer(64 << 30, Backing.HUGETLB_2M)


def test_command_that_enlarges_a_pool_in_use_is_right() -> None:
    """Another user holds most of the pool. The remedy takes no free page away, and afterwards the same buffer is
    possible."""
    need_huge_pages()
    pool = FREE_2M.with_name("nr_hugepages")
    before, free = int(pool.read_text()), free_huge_pages()
    with DmaBuffer((free - 2) * 2 * MIB, Backing.HUGETLB_2M):
        with pytest.raises(BackingError, match="4 free 2M huge pages are needed for 8M, and 2 are free") as refused:
            DmaBuffer(8 * MIB, Backing.HUGETLB_2M)
        command = re.search(r"(echo \d+ > \S+),", str(refused.value))
        assert command is not None
        try:
            subprocess.run(command[1], shell=True, check=True)
            with DmaBuffer(8 * MIB, Backing.HUGETLB_2M):
                assert int(pool.read_text()) == before + 2
        finally:
            pool.write_text(str(before))


def test_huge_pages_the_kernel_does_not_have() -> None:
    if Path("/sys/kernel/mm/hugepages/hugepages-1048576kB").exists():
        pytest.skip("this CPU has 1G pages")
    with pytest.raises(BackingError, match="no 1G huge pages; choose another backing"):
        DmaBuffer(1 << 30, Backing.HUGETLB_1G)


def test_thp_switched_off_says_how_to_switch_it_on() -> None:
    need_huge_pages()
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    before = re.search(r"\[(\w+)\]", switch.read_text())
    assert before
    switch.write_text("never")
    try:
        with pytest.raises(BackingError, match=f"echo madvise > {switch}") as refused:
            DmaBuffer(2 * MIB, Backing.THP)
        # The remedy is right: the same buffer is made then.
        subprocess.run(str(refused.value).rpartition(": ")[2], shell=True, check=True)
        DmaBuffer(2 * MIB, Backing.THP).close()
    finally:
        switch.write_text(before[1])


@pytest.mark.skipif(not IN_LAB, reason="takes most of the memory; run it in the lab")
def test_command_that_compacts_memory_is_right() -> None:
    """Half of nearly all memory is free, in pieces of 128K, and the kernel may not compact it on its own."""
    need_huge_pages()
    defragment = Path("/sys/kernel/mm/transparent_hugepage/defrag")
    before = re.search(r"\[(\S+)\]", defragment.read_text())
    assert before
    free = re.search(r"^MemFree: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert free
    piece, wanted = 128 << 10, 256 * MIB
    defragment.write_text("never")
    try:
        with DmaBuffer((int(free[1]) << 10) // (2 * piece) * 2 * piece - 128 * MIB) as pieces:
            for offset in range(0, pieces.length, 2 * piece):
                pieces.give_back(offset, piece)
            remedy = r"because memory is fragmented: (echo 1 > \S+), or use hugetlb-2m$"
            with pytest.raises(BackingError, match=remedy) as refused:
                DmaBuffer(wanted, Backing.THP)
            command = re.search(remedy, str(refused.value))
            assert command
            subprocess.run(command[1], shell=True, check=True)
            DmaBuffer(wanted, Backing.THP).close()
    finally:
        defragment.write_text(before[1])


@pytest.mark.parametrize(("length", "backing"), [(0, Backing.ANON_4K), (4097, Backing.ANON_4K), (3 * MIB, Backing.THP)])
def test_impossible_lengths(length: int, backing: Backing) -> None:
    with pytest.raises(BackingError, match="must be a positive multiple of"):
        DmaBuffer(length, backing)


def test_more_than_there_is() -> None:
    with pytest.raises(BackingError, match=r"no 4k memory of 128T|cannot supply 128T"):
        DmaBuffer(128 << 40)


def test_without_prefault_no_page_is_present() -> None:
    with DmaBuffer(4 * MIB, prefault=False) as buffer:
        assert not any(page_frames(buffer))
        assert buffer.physical_runs() is None


def test_a_view_holds_the_buffer() -> None:
    buffer = DmaBuffer(4096)
    view = buffer.view
    with pytest.raises(BackingError, match="release the view first"):
        buffer.close()
    assert not buffer.closed
    view.release()
    buffer.close()
