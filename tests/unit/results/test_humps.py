# SPDX-License-Identifier: MIT
"""Two groups of samples are found, and one group of any usual shape is not divided."""

import random

import pytest

from iommufd_py.results.humps import two_humps

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
