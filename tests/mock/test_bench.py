# SPDX-License-Identifier: MIT
"""Every workload and axis of the benchmark on the kernel's mock driver."""

import mmap
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import jsonschema
import pytest

from iommufd_py import FlushCount, Iommufd, ToolError, flush_count
from iommufd_py.base.coherency import Coherency
from iommufd_py.base.pci_address import MOCK
from iommufd_py.bench import runner
from iommufd_py.bench.noise import NoiseMeter
from iommufd_py.bench.sampling import take
from iommufd_py.bench.workloads import set_up
from iommufd_py.host import pinned_bytes
from iommufd_py.results import document
from iommufd_py.results.model import Accounting, CacheState, IovaUse, Noise, Point, Row, Workload
from iommufd_py.results.schema import read_schema
from iommufd_py.uapi.bench import can_flush, clock, clock_ns, flush
from iommufd_py.uapi.call import address_of_buffer
from tests.conftest import need_ioctl, need_mock_driver
from tests.waiting import patience

SIZE = 1 << 20
PAGES = SIZE // 4096


@pytest.fixture
def measured(iommufd: Iommufd) -> Callable[[Point], Row]:
    """Measure one point, and check the resulting document against the schema."""
    need_mock_driver(iommufd)

    def measure(point: Point) -> Row:
        result = runner.measure(runner.Plan(MOCK, (point,), processes=1, values=10))
        jsonschema.Draft202012Validator(read_schema(document.SCHEMA)).validate(document.to_document(result))
        (row,) = result.rows
        return row

    return measure


@pytest.mark.parametrize(
    ("point", "operations", "pinned"),
    [
        (Point(Workload.MAP, SIZE), ("map", "unmap"), SIZE),
        (Point(Workload.MAP, SIZE, hwpts=0), ("map", "unmap"), 0),
        (Point(Workload.MAP, SIZE, hwpts=2), ("map", "unmap"), SIZE),
        (Point(Workload.ATTACH, SIZE), ("attach", "detach"), 0),
        (Point(Workload.TEARDOWN, SIZE), ("first-attach", "teardown"), SIZE),
        (Point(Workload.COPY, SIZE), ("copy", "unmap-copy"), 0),
    ],
)
def test_each_workload_does_its_operations(
    measured: Callable[[Point], Row], iommufd: Iommufd, point: Point, operations: tuple[str, ...], pinned: int
) -> None:
    """The pinned bytes, and the flushes of a patched kernel, show that the operation is right."""
    row = measured(point)
    assert row.operations == operations
    (run,) = row.runs
    assert run.pinned_bytes == pinned
    assert all(len(one.ns) == 10 for one in run.operations.values())
    flushed = [one.flush for one in run.operations.values()]
    if flush_count(iommufd) is None:
        assert flushed == [None, None]
        return
    # Before the map into each domain, and once before the unpin.
    entering = {"map": point.hwpts and 1, "attach": 1, "first-attach": 1, "copy": 1}[operations[0]]
    leaving = {"unmap": point.hwpts and 1, "detach": 0, "teardown": 1, "unmap-copy": 0}[operations[1]]
    assert [one.pages for one in flushed if one] == [entering * PAGES, leaving * PAGES]


def test_close_ends_a_populated_address_space(measured: Callable[[Point], Row], iommufd: Iommufd) -> None:
    row = measured(Point(Workload.CLOSE, SIZE, hwpts=2))
    assert row.operations == ("close",)
    (samples,) = row.samples("close")
    assert len(samples.ns) == 10
    if flush_count(iommufd) is not None:
        # before the map, and before the unpin
        assert samples.flush is not None
        assert samples.flush.pages == 2 * PAGES


def test_page_tables_hold_a_table_for_each_512_pages(measured: Callable[[Point], Row]) -> None:
    for hwpts in (0, 1, 2):
        (run,) = measured(Point(Workload.MAP, 4 << 20, hwpts=hwpts, huge_pages=False)).runs
        assert run.page_table_bytes is not None
        # Two tables of the lowest level; the mock driver keeps upper ones between maps, or makes up to four more.
        assert hwpts * 2 * 4096 <= run.page_table_bytes <= hwpts * 6 * 4096


def test_file_is_mapped_through_its_descriptor(measured: Callable[[Point], Row], iommufd: Iommufd) -> None:
    need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    row = measured(Point(Workload.MAP_FILE, SIZE, backing="memfd"))
    assert row.operations == ("map-file", "unmap-file")
    assert row.runs[0].pinned_bytes == SIZE


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk_bytes": 4096},
        {"chunk_bytes": 4096, "bulk_unmap": True},
        {"iova_use": IovaUse.FRESH},
        {"cache": CacheState.UNTOUCHED},
        {"alignment": 4096},
        {"huge_pages": False},
        {"accounting": Accounting.USER},
        {"accounting": Accounting.MM},
        {"threads": 2},
        {"threads": 2, "own_ioas": True},
        {"workload": Workload.COPY, "chunk_bytes": 65536, "threads": 2},
        {"cpu": 0},
    ],
)
def test_axis(measured: Callable[[Point], Row], changes: dict[str, object]) -> None:
    point = replace(Point(Workload.MAP, SIZE), **changes)
    row = measured(point)
    (run,) = row.runs
    assert run.pinned_bytes == (0 if point.workload is Workload.COPY else SIZE)
    assert all(len(one.ns) == 10 * point.threads for one in run.operations.values())


def test_each_process_measures_its_own_floors(iommufd: Iommufd) -> None:
    need_mock_driver(iommufd)
    plan = runner.Plan(MOCK, (Point(Workload.MAP, 4096),), processes=2, values=10, name="name")
    result = runner.measure(plan)
    assert result.label == "name"
    for run in result.rows[0].runs:
        assert run.clock_ns is not None
        assert run.ioctl_ns is not None
        assert 0 < run.clock_ns < run.ioctl_ns
        assert len(run.user_flush_ns) >= 5 or not can_flush()
        assert run.noise is not None
        assert run.noise.slowdown >= 1


def test_a_disturbed_row_is_measured_again_and_counted(iommufd: Iommufd, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are two more attempts. The quietest one is kept, here the second."""
    need_mock_driver(iommufd)
    point = Point(Workload.MAP, 4096)
    with set_up(point, MOCK, Coherency.ANY) as setup:
        noises = [Noise(steal, 0.0, 0.0, 0.0, 1.0) for steal in (0.3, 0.1, 0.2)]
        monkeypatch.setattr(NoiseMeter, "noise", lambda self: noises.pop(0))
        plan = runner.Plan(MOCK, (), values=5)
        attempt = take(setup, plan, point, lambda part: None)
        assert attempt.noise.steal == 0.1
        assert attempt.discarded == (
            "the hypervisor took 30% of the CPU time",
            "the hypervisor took 20% of the CPU time",
        )
        noises = [Noise(0.0, 0.0, 0.0, 0.0, 1.0)]
        assert take(setup, plan, point, lambda part: None).discarded == ()


@pytest.mark.parametrize(
    ("point", "replaced"),
    [
        (Point(Workload.MAP, SIZE), True),
        (Point(Workload.MAP, SIZE, backing="fragmented-4"), True),
        (Point(Workload.TEARDOWN, SIZE), True),
        (Point(Workload.CLOSE, SIZE), True),
        # The mapping that stays has the pages pinned, and is made again.
        (Point(Workload.ATTACH, SIZE), True),
        (Point(Workload.ATTACH, SIZE, chunk_bytes=4096), True),
        (Point(Workload.COPY, SIZE), True),
        (Point(Workload.MAP, SIZE, threads=2), False),
    ],
)
def test_a_row_is_not_the_time_of_one_set_of_pages(iommufd: Iommufd, point: Point, replaced: bool) -> None:
    """The places of the pages change the times. Pages that nothing pins are replaced before each block of samples."""
    need_mock_driver(iommufd)
    with set_up(point, MOCK, Coherency.ANY) as setup:
        buffer = setup.workers[0].buffer
        before, pinned = buffer.frames(), pinned_bytes()
        after = []
        for _ in range(3):
            take(setup, runner.Plan(MOCK, (), values=5), point, lambda part: None)
            after.append(buffer.frames())
        assert all(before)
        assert any(frames != before for frames in after) is replaced
        assert pinned_bytes() == pinned


def test_lines_of_a_close_are_dirty(iommufd: Iommufd) -> None:
    """Each round writes every cache line of the buffer after the map, which may have evicted them."""
    need_mock_driver(iommufd)
    with set_up(Point(Workload.CLOSE, 8192), MOCK, Coherency.ANY) as setup:
        (worker,) = setup.workers
        with worker.buffer.view as view:
            view[:] = b"\xff" * len(view)
        worker.loop.run(1)
        with worker.buffer.view as view:
            assert bytes(view[::64]) == bytes(len(view) // 64)
            assert view[1] == 0xFF


def test_place_that_is_not_there(measured: Callable[[Point], Row]) -> None:
    with pytest.raises(ToolError, match=r"nothing can run on CPU 4000: this process may use \[0"):
        measured(Point(Workload.MAP, SIZE, cpu=4000))
    with pytest.raises(ToolError, match="NUMA node 1000 has no memory for this process"):
        measured(Point(Workload.MAP, SIZE, node=1000))


@pytest.mark.parametrize("cache", [CacheState.CLEAN, CacheState.EVICTED])
def test_cache_state(measured: Callable[[Point], Row], cache: CacheState) -> None:
    point = Point(Workload.MAP, SIZE, cache=cache)
    if can_flush():
        assert len(measured(point).runs[0].operations["map"].ns) == 10
    else:
        with pytest.raises(ToolError, match="needs CLFLUSHOPT"):
            measured(point)


def test_many_ioctls_take_longer_than_one(measured: Callable[[Point], Row]) -> None:
    one, many = (measured(Point(Workload.MAP, SIZE, chunk_bytes=chunk)) for chunk in (0, 4096))
    assert min(many.runs[0].operations["map"].ns) > 2 * min(one.runs[0].operations["map"].ns)


def test_fresh_iovas_differ(iommufd: Iommufd) -> None:
    need_mock_driver(iommufd)
    with set_up(Point(Workload.MAP, SIZE, iova_use=IovaUse.FRESH), "mock", Coherency.ANY) as setup:
        (worker,) = setup.workers
        seen = []
        for _ in range(3):
            worker.loop.run_step(0)
            seen.append(worker.loop.issued(0)["iova"])
            worker.loop.run_step(1)
            worker.loop.run(1)
        assert len(set(seen)) == 3
        assert all(iova % (2 << 20) == 0 for iova in seen)


def test_failure_names_the_ioctl_and_its_arguments(iommufd: Iommufd) -> None:
    need_mock_driver(iommufd)
    with set_up(Point(Workload.MAP, SIZE), "mock", Coherency.ANY) as setup:
        (worker,) = setup.workers
        worker.loop.run_step(0)
        with pytest.raises(OSError, match=r"IOMMU_IOAS_MAP\(.*length=1048576.*EEXIST"):
            worker.loop.run(1)
        worker.loop.run_step(1)
        with pytest.raises(OSError, match=r"IOMMU_IOAS_UNMAP\(.*ENOENT"):
            worker.loop.run_step(1)


def test_a_process_that_fails_ends_the_run_with_its_reason(iommufd: Iommufd) -> None:
    need_mock_driver(iommufd)
    with pytest.raises(ToolError, match="1G huge pages"):
        runner.measure(runner.Plan(MOCK, (Point(Workload.MAP, 1 << 30, backing="hugetlb-1g", hwpts=0),), processes=1))


@pytest.mark.parametrize("threads", [0, 1])
def test_a_process_with_threads_is_not_forked(iommufd: Iommufd, threads: int) -> None:
    need_mock_driver(iommufd)
    script = f"""
import os, threading
from iommufd_py.bench import runner
from iommufd_py.bench.noise import NoiseMeter
from iommufd_py.results.model import Point, Workload

forks = 0
def count():
    global forks
    forks += 1

if __name__ == "__main__":
    os.register_at_fork(before=count)
    end = threading.Event()
    others = [threading.Thread(target=end.wait) for _ in range({threads})]
    for other in others:
        other.start()
    result = runner.measure(runner.Plan("mock", (Point(Workload.MAP, 4096),), processes=2, values=5))
    end.set()
    print(forks, [len(run.operations["map"].ns) for row in result.rows for run in row.runs])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=patience(60), check=False
    )
    assert (done.stdout, done.stderr) == (f"{0 if threads else 2} [5, 5]\n", "")


def test_floor_has_a_sample_for_each_round() -> None:
    """The test asserts no order among them: on a busy host two clock reads can take longer than a page's flush."""
    assert len(clock(100)) == 100
    if can_flush():
        memory = mmap.mmap(-1, SIZE)
        samples = flush(address_of_buffer(memory), SIZE, CacheState.CLEAN, 10)
        assert len(samples) == 10
        assert min(samples) > 0


def test_count_is_of_one_operation(iommufd: Iommufd, measured: Callable[[Point], Row]) -> None:
    before = flush_count(iommufd)
    if before is None:
        pytest.skip("needs a kernel with the flush series")
    row = measured(Point(Workload.MAP, 4096))
    assert [one.flush for one in row.runs[0].operations.values()] == [FlushCount(1, 1), FlushCount(1, 1)]


def test_figures_are_shown_although_they_cannot_be_saved(
    iommufd: Iommufd, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    need_mock_driver(iommufd)
    words = ("--operation", "map", "--size", "4K", "--processes", "1", "--seconds", "0.01", "--output", "/dev/full")
    done = cli("bench", "run", "--device", "mock", *words)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("iommufd: error: /dev/full cannot be written: No space left")
    assert "4K" in done.stdout
    assert "map" in done.stdout


def test_the_clock_of_the_samples_agrees_with_the_kernels() -> None:
    """Natively the clock is the CPU's counter. The extension has measured its rate by the kernel's clock."""

    def bounds() -> tuple[int, int, int]:
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        now = clock_ns()
        return before, now, time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)

    first = bounds()
    time.sleep(0.5)
    second = bounds()
    # The rate may be wrong by 0.1 %.
    assert 0.999 * (second[0] - first[2]) <= second[1] - first[1] <= 1.001 * (second[2] - first[0])
