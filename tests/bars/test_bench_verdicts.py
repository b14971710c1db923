# SPDX-License-Identifier: MIT
"""Required verdicts with real times of this kernel: equal operations are equal, and 5 % are found."""

import math
import os
import random
import signal
from array import array
from collections.abc import Sequence
from dataclasses import replace
from statistics import median, stdev

import pytest

from iommufd_py import Iommufd
from iommufd_py.base.pci_address import MOCK
from iommufd_py.bench import runner
from iommufd_py.results.compare import Verdict, compare
from iommufd_py.results.model import BenchResult, Point, Run, Workload
from iommufd_py.results.validity import figure_limits
from tests.conftest import need_mock_driver

REPEATS, AT_LEAST = 20, 19
PROCESSES = 40
# With a larger scatter of the medians, two groups of 20 cannot reliably show 5 % with a 99 % interval.
FINDABLE = 0.03


@pytest.fixture(scope="module")
def measured() -> BenchResult:
    with Iommufd() as iommufd:
        need_mock_driver(iommufd)
    # One page is always one physical run, so the processes differ by chance only.
    plan = runner.Plan(MOCK, (Point(Workload.MAP, 4096),), processes=PROCESSES, values=200)
    return runner.measure(plan)


def of(result: BenchResult, runs: Sequence[Run]) -> BenchResult:
    return replace(result, rows=(replace(result.rows[0], runs=tuple(runs)),))


def slowed(run: Run, factor: float) -> Run:
    operations = {
        name: replace(one, ns=array("Q", [round(ns * factor) for ns in one.ns])) for name, one in run.operations.items()
    }
    return replace(run, operations=operations)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, None), (1.05, Verdict.SLOWER)])
def test_verdict_is_right_in_nineteen_of_twenty(measured: BenchResult, factor: float, expected: Verdict | None) -> None:
    """The required verdict; None: not changed. Each repeat compares two other halves of the processes."""
    source, runs = random.Random(1), list(measured.rows[0].runs)
    scatter = max(
        stdev(math.log(median(run.operations[operation].ns)) for run in runs)
        for operation in measured.rows[0].operations
    )
    if expected is Verdict.SLOWER and scatter > FINDABLE:
        pytest.skip(
            f"the machine is too busy: the processes' medians scatter by {scatter:.1%}, more than {FINDABLE:.0%}"
        )
    right = 0
    for _ in range(REPEATS):
        source.shuffle(runs)
        half = len(runs) // 2
        changed = of(measured, [slowed(run, factor) for run in runs[half:]])
        changes = compare(of(measured, runs[:half]), changed).changes
        right += all((one.verdict if one.changed else None) is expected for one in changes)
    assert right >= AT_LEAST


def test_a_load_beside_is_named_and_changes_no_verdict() -> None:
    """Required: with another busy process on the CPU, no operation is called changed, and the limits name the load."""
    with Iommufd() as iommufd:
        need_mock_driver(iommufd)
    plan = runner.Plan(MOCK, (Point(Workload.MAP, 4096), Point(Workload.MAP, 256 << 10)), processes=5, values=100)
    quiet = runner.measure(plan)
    load = os.fork()
    if load == 0:
        while True:
            pass
    try:
        loaded = runner.measure(plan)
    finally:
        os.kill(load, signal.SIGKILL)
        os.waitpid(load, 0)
    assert all(run.discarded for row in loaded.rows for run in row.runs)
    assert "NOISE" in {one.code for one in figure_limits(loaded)}
    assert [one for one in compare(quiet, loaded).changes if one.changed] == []
