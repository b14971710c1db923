# SPDX-License-Identifier: MIT
"""The speed of the benchmark's loop and of the objects, each compared with a required speed.

The plain C is loaded into this process. A separate process would have a bias: on an emulated CPU the addresses of its
pages change its times by some percent.
"""

import ctypes
import subprocess
import time
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import trim_mean

from iommufd_py import DmaBuffer, Iommufd, MockDevice
from iommufd_py.base.coherency import Coherency
from iommufd_py.bench.sampling import SampleStore
from iommufd_py.bench.workloads import Worker, set_up
from iommufd_py.results import document, report
from iommufd_py.results.model import CacheState, Point, Workload
from iommufd_py.uapi.bench import Loop, can_flush, clock_ns, empty_ioctl, flush
from iommufd_py.uapi.ffi import ffi, lib
from tests.bars.ratio import must_lie_between
from tests.conftest import need, need_mock_driver
from tests.unit.results.bench_results import POINT, process_run, result

HERE = Path(__file__).parent


def middle(samples: Sequence[int]) -> float:
    """Return the mean without a tenth at either end. Outliers do not move it, and it is finer than the clock: a tick of
    256 ns under User-Mode Linux is 2 % of the median of a small map.
    """
    return float(trim_mean(samples, 0.1))


def sample(worker: Worker, rounds: int) -> list[float]:
    return [middle(batch.ns) for batch in worker.loop.run(rounds)]


@pytest.mark.parametrize(
    ("size", "rounds"), [(4 << 10, 100), (64 << 10, 50), (2 << 20, 20), (64 << 20, 2), (256 << 20, 1)]
)
def test_loop_is_as_fast_as_plain_c(iommufd: Iommufd, tmp_path: Path, size: int, rounds: int) -> None:
    """Required: medians within 1 % of the same loop in plain C, on one kernel and one buffer, by one clock."""
    need_mock_driver(iommufd)
    library, abi = tmp_path / "loop.so", HERE.parents[1] / "cffi_build" / "abi"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "loop.c", "-I", abi], check=True)
    loop = ctypes.CDLL(str(library)).loop
    loop.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t]
    loop.argtypes += [ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p]
    clock = int(ffi.cast("uintptr_t", ffi.addressof(lib, "iommufd_clock_ns")))
    with set_up(Point(Workload.MAP, size), "mock", Coherency.ANY) as setup:
        (worker,) = setup.workers
        fields = worker.loop.steps[0].fields
        samples = [(ctypes.c_uint64 * rounds)() for _ in range(2)]

        def plain_c() -> list[float]:
            where = fields["ioas_id"], fields["user_va"], size, fields["iova"]
            assert loop(clock, setup.iommufd.fileno(), *where, rounds, *samples) == 0
            return [middle(one) for one in samples]

        must_lie_between(0.99, 1.01, lambda: sample(worker, rounds), plain_c)


def test_a_sample_costs_no_more_time_the_more_there_are(iommufd: Iommufd) -> None:
    loop, many = Loop([empty_ioctl(iommufd.fileno())]), SampleStore()
    for _ in range(1000):
        many.add(loop.run(1000)[0])

    def seconds(store: SampleStore) -> list[float]:
        start = time.perf_counter()
        store.add(loop.run(1000)[0])
        return [time.perf_counter() - start]

    must_lie_between(0, 1.1, lambda: seconds(many), lambda: seconds(SampleStore()))


def test_flushing_more_takes_longer() -> None:
    need(can_flush(), "needs a CPU with CLFLUSHOPT")
    with DmaBuffer(16 << 20) as buffer:
        part, whole = (min(flush(buffer.user_va, length, "dirty", 20)) for length in (1 << 20, buffer.length))
    # The factor is below 16, because both times contain two clock reads, and some lines of the larger buffer have
    # already left the caches.
    assert whole > 4 * part > 0


def test_a_hundred_rows_are_reported_in_five_seconds(tmp_path: Path) -> None:
    """Required for a report: 100 rows of 5 processes with 2000 samples, from the file to the table."""
    samples = array("Q", range(1000, 3000))
    many = result(*[process_run(samples, samples, pinned=1 << 20)] * 5)
    rows = [replace(many.rows[0], point=replace(POINT, size_bytes=4096 * number)) for number in range(1, 51)]
    file = tmp_path / "run.json"
    document.save(replace(many, rows=tuple(rows)), file)
    start = time.process_time()
    loaded = document.load_result(file)
    assert len(report.times_table(loaded).rows) == 100
    assert report.notes(loaded) == []
    assert time.process_time() - start < 5


@pytest.mark.parametrize(("size", "rounds", "bar"), [(4 << 10, 100, 1.25), (64 << 20, 2, 1.02), (256 << 20, 1, 1.02)])
def test_objects_are_nearly_as_fast_as_c(iommufd: Iommufd, size: int, rounds: int, bar: float) -> None:
    """Required: Ioas.map and Ioas.unmap in a Python loop, one domain, compared with the loop in C."""
    need_mock_driver(iommufd)
    with (
        set_up(Point(Workload.MAP, size, cache=CacheState.UNTOUCHED), "mock", Coherency.ANY) as setup,
        MockDevice(iommufd) as device,
        iommufd.alloc_ioas() as ioas,
    ):
        device.attach(device.alloc_hwpt(ioas))
        (worker,) = setup.workers

        def objects() -> list[float]:
            map_ns, unmap_ns = [], []
            for _ in range(rounds):
                start = clock_ns()
                # Both use the same memory, because its physical runs affect the time.
                ioas.map(worker.buffer, worker.iova)
                mapped = clock_ns()
                ioas.unmap(worker.iova, size)
                map_ns.append(mapped - start)
                unmap_ns.append(clock_ns() - mapped)
            return [middle(map_ns) + middle(unmap_ns)]

        must_lie_between(0, bar, objects, lambda: [sum(sample(worker, rounds))])
