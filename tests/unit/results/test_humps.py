# SPDX-License-Identifier: MIT
"""Two groups of samples are found, and one group of any usual shape is not divided."""

import random

import pytest

from iommufd_py.results.compare import compare
from iommufd_py.results.humps import humps_of_runs, two_humps
from iommufd_py.results.validity import figure_limits
from tests.unit.results.bench_results import process_run, result

SHAPES = {
    "normal": lambda source: source.gauss(1000, 30),
    "wide": lambda source: source.lognormvariate(7, 0.5),
    "uniform": lambda source: source.uniform(1000, 2000),
    "tail": lambda source: 1000 + source.expovariate(0.01),
    "steps of a clock": lambda source: 13312 + 256 * source.choice((0, 0, 1, 1, 2)),
    "outliers": lambda source: 1000 if source.random() < 0.98 else 5000,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [50, 100, 1000])
def test_one_group_is_one(shape: str, count: int) -> None:
    source = random.Random(count)
    wrong = sum(two_humps([round(SHAPES[shape](source)) for _ in range(count)]) is not None for _ in range(30))
    assert wrong <= 2


@pytest.mark.parametrize("upper", [0.2, 0.45, 0.8])
def test_two_groups_are_two(upper: float) -> None:
    source = random.Random(1)
    samples = [round((40000 if source.random() < upper else 20000) * (1 + source.gauss(0, 0.01))) for _ in range(500)]
    found = two_humps(samples)
    assert found is not None
    assert found.low_ns == pytest.approx(20000, rel=0.01)
    assert found.high_ns == pytest.approx(40000, rel=0.01)
    assert found.upper == pytest.approx(upper, abs=0.06)


def test_few_samples_are_one_group() -> None:
    assert two_humps([1, 1, 1, 100, 100, 100]) is None


def humped(source: random.Random, upper: float, count: int) -> list[int]:
    return [round((40000 if source.random() < upper else 20000) * (1 + source.gauss(0, 0.01))) for _ in range(count)]


def test_processes_with_few_samples_are_judged_together() -> None:
    source = random.Random(1)
    for found in humps_of_runs([humped(source, 0.45, 20) for _ in range(3)]):
        assert found is not None
        assert (found.low_ns, found.high_ns) == (pytest.approx(20000, rel=0.01), pytest.approx(40000, rel=0.01))
    # A process with many samples is judged alone.
    _, few, many = humps_of_runs([humped(source, 0.45, 30), humped(source, 0.45, 30), humped(source, 0, 60)])
    assert (few is None, many) == (False, None)


def test_processes_that_differ_have_no_groups() -> None:
    source = random.Random(1)
    runs = [humped(source, upper, 30) for upper in (0, 1, 0, 1)]
    assert humps_of_runs(runs) == [None] * 4
    assert humps_of_runs([]) == []


@pytest.mark.parametrize("count", [20, 49])
def test_two_groups_of_few_samples_are_no_change(count: int) -> None:
    """The median of a process is in one group or the other. By chance, a table called one of six rows slower."""
    source = random.Random(1)
    changed = 0
    for _ in range(40):
        sides = [
            result(*(process_run(humped(source, upper, count), [500] * count) for _ in range(3)))
            for upper in (0.45, 0.55)
        ]
        change = compare(*sides).changes[0]
        changed += change.changed
        assert change.humps
    assert changed == 0
    assert "TWO_HUMPS" in {one.code for one in figure_limits(sides[0])}
