# SPDX-License-Identifier: MIT
"""What of the timed loop needs no iommufd: the floors, and how it stops."""

import os
import termios
import tracemalloc
from array import array
from collections.abc import Iterator

import pytest

from iommufd_py import UnsupportedIoctlError
from iommufd_py.bench.runner import SampleStore
from iommufd_py.uapi import bench
from iommufd_py.uapi.bench import FAULTED, SWITCHED, Batch, Gate, Loop, TimedStep, clock, empty_ioctl


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def test_the_clock_goes_forward() -> None:
    samples = clock(1000)
    assert len(samples) == 1000
    assert max(samples) < 1 << 63  # no difference below zero


def test_first_failure_ends_the_loop_and_is_named(null: int) -> None:
    steps = [empty_ioctl(null), TimedStep("second", null, "IOMMU_DESTROY", "iommu_destroy", {"id": 7})]
    with pytest.raises(UnsupportedIoctlError, match=r"IOMMU_OPTION\(.*round=0\): ENOTTY"):
        Loop(steps).run(3)
    with pytest.raises(UnsupportedIoctlError, match=r"IOMMU_DESTROY\(id=7, round=0\): ENOTTY"):
        Loop(steps).run_step(1)


def test_gate_lets_one_thread_through(null: int) -> None:
    with pytest.raises(UnsupportedIoctlError):
        Loop([empty_ioctl(null)]).run(1, Gate(1))


def test_store_notes_where_a_sample_was_disturbed() -> None:
    store = SampleStore()
    store.add(Batch(array("Q", [1, 2, 3]), bytes([0, SWITCHED, 0])))
    store.add(Batch(array("Q", [4, 5]), bytes([SWITCHED | FAULTED, 0])))
    assert list(store.ns) == [1, 2, 3, 4, 5]
    assert (store.switched, store.faulted) == ([1, 3], [3])


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A loop of an ioctl that every kernel has: how much is in a pipe."""
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
    """A switch takes a microsecond at least, and that is where the loop looks for one."""
    for batch in loop.run(100_000):
        flagged = [ns for ns, flags in zip(batch.ns, batch.disturbances, strict=True) if flags]
        assert all(ns >= min(batch.ns) + 1000 for ns in flagged)
        assert len(flagged) < 10_000


@pytest.mark.slow
def test_a_sample_costs_eight_bytes(loop: Loop) -> None:
    """The bar: ten million samples cost 80 MB; tests/bars has that they cost no more time either."""
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
