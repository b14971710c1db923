# SPDX-License-Identifier: MIT
"""Find the points in a time series of results at which an operation became slower or faster. Needs scipy."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from iommufd_py.base.errors import ToolError
from iommufd_py.results.cautions import differences, obstacles
from iommufd_py.results.estimate import geometric_mean, units
from iommufd_py.results.model import BenchResult, Point
from iommufd_py.results.validity import findings

# Smallest number of results on each side of a change point.
_MIN_SIDE = 2
_LEVEL = 0.01
_NEGLIGIBLE = 0.02


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A change between two consecutive results.

    Attributes:
        at: position of the first result after the change.
        ratio: times after the change divided by times before it.
    """

    point: Point
    operation: str
    at: int
    ratio: float


@dataclass(frozen=True, slots=True)
class OperationHistory:
    """One operation of one row over time: positions of the results that have it, and its times in ns."""

    point: Point
    operation: str
    at: tuple[int, ...]
    ns: tuple[float, ...]


def over_time(results: Sequence[BenchResult]) -> list[OperationHistory]:
    """Return each operation of each row over *results*, which are in chronological order."""
    found: dict[tuple[Point, str], list[tuple[int, float]]] = {}
    for at, result in enumerate(results):
        for row in result.rows:
            for operation in row.operations:
                ns = geometric_mean([one.ns for one in units(row, operation, result.floor)])
                if ns > 0:
                    found.setdefault((row.point, operation), []).append((at, ns))
    return [
        OperationHistory(point, operation, tuple(at for at, _ in values), tuple(ns for _, ns in values))
        for (point, operation), values in found.items()
    ]


def check_comparable(names: Sequence[str], results: Sequence[BenchResult]) -> None:
    """Check that all results come from one machine; *names* are their files.

    Raises:
        ToolError: a result comes from another machine than the first.
    """
    for name, result in zip(names, results, strict=True):
        found = obstacles(results[0], result)
        if found:
            raise ToolError(
                f"{names[0]} and {name} cannot be compared, they differ in {' and '.join(found)}; keep the results of "
                "each machine in a directory of its own"
            )


def remarks(names: Sequence[str], results: Sequence[BenchResult]) -> list[str]:
    """Return the limits of the figures, and the differences between consecutive results, one sentence each."""
    texts: dict[str, str] = {}
    concerned: defaultdict[str, list[str]] = defaultdict(list)
    for name, result in zip(names, results, strict=True):
        for code, text in {one.code: one.text for one in findings(result)}.items():
            texts.setdefault(code, text)
            concerned[code].append(name)
    return [
        *(
            f"{code} ({len(found)} of {len(results)} results, the first is {found[0]}): {texts[code]}"
            for code, found in concerned.items()
        ),
        *(
            f"{name} and {other}: {one}"
            for (name, before), (other, after) in pairwise(zip(names, results, strict=True))
            for one in differences(before, after)
        ),
    ]


def change_points(line: OperationHistory) -> list[ChangePoint]:
    """Return the change points of a line, in chronological order.

    The line is divided at the place with the most significant difference of both sides (Student's t-test of the
    logarithms, with the p-value multiplied by the number of places). Each side is then divided in the same way (binary
    segmentation).
    """
    return [
        ChangePoint(line.point, line.operation, line.at[place], ratio)
        for place, ratio in sorted(_divide(line.ns, 0, len(line.ns)))
    ]


def _divide(ns: Sequence[float], start: int, end: int) -> list[tuple[int, float]]:
    from iommufd_py.results.estimate import ratio

    places = range(start + _MIN_SIDE, end - _MIN_SIDE + 1)
    best = None
    for place in places:
        sides = ns[start:place], ns[place:end]
        found = _certainty(*sides)
        if best is None or found < best[0]:
            estimate = ratio(*sides)
            best = found, place, estimate.value if estimate else 1.0
    if best is None or best[0] * len(places) > _LEVEL or abs(best[2] - 1) < _NEGLIGIBLE:
        return []
    _, place, factor = best
    return [*_divide(ns, start, place), (place, factor), *_divide(ns, place, end)]


def _certainty(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the p-value of Student's t-test of the logarithms; 0 for two constant sides that differ."""
    import math

    from scipy import stats

    logs = [[math.log(one) for one in side] for side in (before, after)]
    if len({*logs[0]}) == 1 == len({*logs[1]}):
        return 0.0 if logs[0][0] != logs[1][0] else 1.0
    return float(stats.ttest_ind(*logs).pvalue)
