# SPDX-License-Identifier: MIT
"""Change points over time: how often one is found where there is none, and where there is one."""

import math
import random
from collections.abc import Sequence

import pytest
from scipy import stats

from iommufd_py.results.history import OperationHistory, _certainty, change_points
from tests.unit.results.bench_results import POINT

LINES, RESULTS, DIRECTORIES = 24, 12, 100
FLOOR_NS = 15


def line(ns: Sequence[float], operation: str = "map") -> OperationHistory:
    return OperationHistory(POINT, operation, tuple(range(len(ns))), tuple(ns), (FLOOR_NS,) * len(ns))


def drawn(source: random.Random, factors: Sequence[float], spread: float) -> OperationHistory:
    return line([1000 * factor * math.exp(source.gauss(0, spread)) for factor in factors])


def test_a_directory_without_a_change_hardly_ever_shows_one() -> None:
    """CI fails by a change, so the level holds for all operations together: at most 1 % of directories."""
    source = random.Random(3)
    wrong = sum(
        bool(change_points([drawn(source, [1.0] * RESULTS, 0.05) for _ in range(LINES)])) for _ in range(DIRECTORIES)
    )
    assert wrong <= DIRECTORIES * 0.03  # 3 of 100 have a probability of 8 % if 1 of 100 is right


def test_a_change_of_one_operation_is_found_where_it_is() -> None:
    source = random.Random(4)
    steps = [1.0] * 6 + [1.1] * 6
    lines = [drawn(source, [1.0] * RESULTS, 0.01) for _ in range(LINES - 1)] + [drawn(source, steps, 0.01)]
    (change,) = change_points(lines)
    assert change.at == 6
    assert change.ratio == pytest.approx(1.1, rel=0.02)


def test_two_changes_and_sides_without_spread() -> None:
    assert [(one.at, one.ratio) for one in change_points([line([100, 100, 110, 110])])] == [(2, pytest.approx(1.1))]
    # The ratio of a change is that to the part before it, not to all results before it.
    found = change_points([line([100] * 6 + [200] * 6 + [220] * 6)])
    assert [(one.at, one.ratio) for one in found] == [(6, pytest.approx(2.0)), (12, pytest.approx(1.1))]
    assert change_points([line([100, 101, 100])]) == change_points([line([100] * 9)]) == []


def test_the_test_is_that_of_student() -> None:
    before, after = [100, 103, 99, 101], [104, 108, 103]
    logs = [[math.log(one) for one in side] for side in (before, after)]
    assert _certainty(before, after) == pytest.approx(stats.ttest_ind(*logs).pvalue)


def test_a_change_on_the_floor_is_marked_and_given_without_it() -> None:
    for ns, on_floor, net in (
        ([140] * 4 + [280] * 4, True, (280 - FLOOR_NS) / (140 - FLOOR_NS)),
        ([1000] * 4 + [2000] * 4, False, (2000 - FLOOR_NS) / (1000 - FLOOR_NS)),
        ([FLOOR_NS] * 4 + [200] * 4, True, None),
    ):
        (change,) = change_points([line(ns)])
        assert change.on_floor == on_floor
        assert (change.net and change.net.value) == (net if net is None else pytest.approx(net))
