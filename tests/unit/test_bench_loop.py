# SPDX-License-Identifier: MIT
"""What of the timed loop needs no iommufd: the floors, and how it stops."""

import os
from array import array
from collections.abc import Iterator

import pytest

from iommufd_py import DmaBuffer, UnsupportedIoctlError
from iommufd_py.bench.runner import SampleStore
from iommufd_py.uapi.bench import FAULTED, SWITCHED, Batch, Gate, Loop, Step, can_flush, clock, empty_ioctl, flush


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def test_the_clock_goes_forward_and_costs_little() -> None:
    samples = clock(1000)
    assert len(samples) == 1000
    assert sorted(samples)[500] < 100_000


def test_flushing_more_takes_longer() -> None:
    if not can_flush():
        pytest.skip("this CPU has no CLFLUSHOPT")
    with DmaBuffer(4 << 20) as buffer:
        page, whole = (min(flush(buffer.user_va, length, 20)) for length in (4096, buffer.length))
    assert whole > 50 * page > 0


def test_first_failure_ends_the_loop_and_is_named(null: int) -> None:
    steps = [empty_ioctl(null), Step("second", null, "IOMMU_DESTROY", "iommu_destroy", {"id": 7})]
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
