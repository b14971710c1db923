# SPDX-License-Identifier: MIT
"""Parts of the timed loop that need no iommufd: the floors, and the end after a failure."""

import functools
import mmap
import os
import termios
import time
import tracemalloc
from array import array
from collections.abc import Iterator

import pytest

from iommufd_py import ToolError, UnsupportedIoctlError
from iommufd_py.bench import sampling
from iommufd_py.bench.python_rounds import PythonRounds, Sample
from iommufd_py.bench.sampling import SampleStore
from iommufd_py.bench.workloads import Worker
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.uapi import bench
from iommufd_py.uapi.bench import FAULTED, SWITCHED, Batch, Gate, Loop, TimedStep, clock, empty_ioctl
from iommufd_py.uapi.call import address_of_buffer


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def test_the_clock_goes_forward() -> None:
    samples = clock(1000)
    assert len(samples) == 1000
    assert max(samples) < 1 << 63  # No difference is negative.


def test_first_failure_ends_the_loop_and_is_named(null: int) -> None:
    steps = [empty_ioctl(null), TimedStep("second", null, "IOMMU_DESTROY", "iommu_destroy", {"id": 7})]
    with pytest.raises(UnsupportedIoctlError, match=r"IOMMU_OPTION\(.*round=0\): ENOTTY"):
        Loop(steps).run(3)
    with pytest.raises(UnsupportedIoctlError, match=r"IOMMU_DESTROY\(id=7, round=0\): ENOTTY"):
        Loop(steps).run_step(1)


def test_gate_lets_one_thread_through(null: int) -> None:
    with pytest.raises(UnsupportedIoctlError):
        Loop([empty_ioctl(null)]).run(1, Gate(1))


def test_gate_does_not_wait_for_ever_for_a_thread_that_died(loop: Loop) -> None:
    start = time.monotonic()
    with pytest.raises(ToolError, match="another thread of the measurement died"):
        loop.run(1, Gate(2, patience=0.2))
    assert 0.2 <= time.monotonic() - start < 30
    assert len(loop.run(3)[0].ns) == 3


@pytest.mark.parametrize("dies", [0, 1])
def test_the_error_of_the_thread_that_died_is_raised(loop: Loop, dies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others only know that a thread did not arrive. Rounds in Python refuse the gate before they arrive there."""
    monkeypatch.setattr(sampling, "Gate", functools.partial(Gate, patience=0.2))
    with DmaBuffer(4096) as buffer:
        workers = [Worker(loop, buffer, 0, None), Worker(loop, buffer, 0, None)]
        workers[dies] = Worker(PythonRounds("never", lambda: Sample(0, 0)), buffer, 0, None)
        with pytest.raises(AssertionError, match="threads take turns"):
            sampling._together(workers, 1)


def test_store_notes_where_a_sample_was_disturbed() -> None:
    store = SampleStore()
    store.add(Batch(array("Q", [1, 2, 3]), bytes([0, SWITCHED, 0])))
    store.add(Batch(array("Q", [4, 5]), bytes([SWITCHED | FAULTED, 0])))
    assert list(store.ns) == [1, 2, 3, 4, 5]
    assert (store.switched, store.faulted) == ([1, 3], [3])
    slot = [
        [Batch(array("Q", [1, 2, 3]), bytes([0, SWITCHED, 0]))],
        [Batch(array("Q", [4, 5]), bytes([SWITCHED | FAULTED, 0]))],
    ]
    joined = SampleStore()
    sampling._store(slot + slot, [joined])
    assert list(joined.ns) == [1, 2, 3, 4, 5] * 2
    assert (joined.switched, joined.faulted) == ([1, 3, 6, 8], [3, 8])


@pytest.mark.parametrize(
    ("count", "parts", "shares"), [(7, 3, [2, 2, 3]), (6, 3, [2, 2, 2]), (2, 5, [1, 1]), (9, 1, [9])]
)
def test_rounds_of_a_slot_are_divided_among_sets_of_pages(count: int, parts: int, shares: list[int]) -> None:
    assert sampling._shares(count, parts) == shares


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A loop of FIONREAD on a pipe, an ioctl that every kernel has."""
    monkeypatch.setattr(bench, "request", lambda name: termios.FIONREAD)
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    yield Loop(
        [
            TimedStep("first", reader, "FIONREAD", "int", {"n": 0}),
            TimedStep("second", reader, "FIONREAD", "int", {"n": 0}),
        ]
    )
    os.close(reader)
    os.close(writer)


def test_each_step_of_each_round_is_timed(loop: Loop) -> None:
    batches = loop.run(1000)
    assert [len(batch.ns) for batch in batches] == [1000, 1000]
    assert min(min(batch.ns) for batch in batches) > 0
    loop.run_step(1)
    assert [len(batch.ns) for batch in loop.run(3)] == [3, 3]


def test_only_slow_samples_were_disturbed(loop: Loop) -> None:
    """A context switch takes at least a microsecond, so the loop looks for one only in slow samples."""
    for batch in loop.run(100_000):
        flagged = [ns for ns, flags in zip(batch.ns, batch.disturbances, strict=True) if flags]
        assert all(ns >= min(batch.ns) + 1000 for ns in flagged)
        assert len(flagged) < 10_000


def test_the_preparation_of_the_lines_disturbs_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the preparation touches the pages of the lines, and takes a page fault for each page the first time."""
    monkeypatch.setattr(bench, "request", lambda name: termios.FIONREAD)
    length = 64 << 20
    reader, writer = os.pipe()
    # FIONREAD takes a microsecond. 1000 of them are slow enough that the loop always looks for disturbances.
    step = TimedStep("step", reader, "FIONREAD", "int", {"n": 0}, calls=1000)
    with mmap.mmap(-1, length) as memory:
        for count in (1, 20):
            memory.madvise(mmap.MADV_DONTNEED)
            loop = Loop([step], user_va=address_of_buffer(memory), length=length, cache="dirty")
            (batch,) = loop.run(count)
            assert not any(flags & FAULTED for flags in batch.disturbances)
    os.close(reader)
    os.close(writer)


def test_the_first_sample_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ioctl of the first sample writes to a page that is not present."""
    monkeypatch.setattr(bench, "request", lambda name: termios.FIONREAD)
    reader, writer = os.pipe()
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        step = TimedStep("step", reader, "FIONREAD", "value", {"address": address_of_buffer(memory)})
        (batch,) = Loop([step]).run(2)
    assert [flags & FAULTED for flags in batch.disturbances] == [FAULTED, 0]
    os.close(reader)
    os.close(writer)


@pytest.mark.slow
def test_a_sample_costs_eight_bytes(loop: Loop) -> None:
    """Required: ten million samples take 80 MB. tests/bars checks that they take no more time either."""
    batches, count = 100, 10_000
    stores = [SampleStore(), SampleStore()]
    tracemalloc.start()
    for _ in range(batches):
        for store, batch in zip(stores, loop.run(count), strict=True):
            store.add(batch)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert [len(store.ns) for store in stores] == [batches * count] * 2
    # An array takes a sixteenth more than it needs.
    assert held < 2 * batches * count * 8 * 1.1
