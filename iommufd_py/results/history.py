# SPDX-License-Identifier: MIT
"""Find the points in a time series of results at which an operation became slower or faster. Needs scipy."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from iommufd_py.base.errors import ToolError
from iommufd_py.results.cautions import differences, measurements, obstacles
from iommufd_py.results.compare import FLOOR_SHARE
from iommufd_py.results.estimate import Estimate, geometric_mean, units
from iommufd_py.results.model import BenchResult, Point
from iommufd_py.results.report import row_name
from iommufd_py.results.stats import variance
from iommufd_py.results.validity import figure_limits

# Smallest number of results on each side of a change point.
_MIN_SIDE = 2
_LEVEL = 0.01
_NEGLIGIBLE = 0.02
_NO_ERROR = 1e-12


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """A change between two consecutive results.

    Attributes:
        at: position of the first result after the change.
        ratio: times after the change divided by times before it.
        on_floor: whether the floor is more than a tenth of the times before or after the change.
        net: ratio without the floor, without an interval; None if a time is not longer than the floor.
    """

    point: Point
    operation: str
    at: int
    ratio: float
    on_floor: bool
    net: Estimate | None


@dataclass(frozen=True, slots=True)
class OperationHistory:
    """One operation of one row over time: positions of the results that have it, and its times and floors in ns."""

    point: Point
    operation: str
    at: tuple[int, ...]
    ns: tuple[float, ...]
    floors_ns: tuple[float, ...]


def over_time(results: Sequence[BenchResult]) -> list[OperationHistory]:
    """Return each operation of each row over *results*, which are in chronological order.

    A time of 0 ns has no ratio to others, and is left out; :func:`remarks` says so.
    """
    found: dict[tuple[Point, str], list[tuple[int, float, float]]] = {}
    for at, result in enumerate(results):
        for point, operation, ns, floor_ns in _times(result):
            if ns > 0:
                found.setdefault((point, operation), []).append((at, ns, floor_ns))
    return [
        OperationHistory(
            point,
            operation,
            tuple(at for at, _, _ in values),
            tuple(ns for _, ns, _ in values),
            tuple(floor_ns for _, _, floor_ns in values),
        )
        for (point, operation), values in found.items()
    ]


def _times(result: BenchResult) -> Iterator[tuple[Point, str, float, float]]:
    for row in result.rows:
        for operation in row.operations:
            ns = geometric_mean([one.ns for one in units(row, operation, result.floor)])
            yield row.point, operation, ns, row.floor_ns(operation, result.floor)


def copies(results: Sequence[BenchResult]) -> dict[int, int]:
    """Return the position of each result whose measurements an earlier result has, with the position of the earlier.

    A measurement that counts twice looks more certain than it is.
    """
    held = [measurements(result) for result in results]
    found = {}
    for at, here in enumerate(held):
        first = next((earlier for earlier in range(at) if here and here <= held[earlier]), None)
        if first is not None:
            found[at] = first
    return found


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
    """Return one sentence each for the limits of the figures, the differences between consecutive results, and the
    times that are left out.
    """
    texts: dict[str, str] = {}
    concerned: defaultdict[str, list[str]] = defaultdict(list)
    for name, result in zip(names, results, strict=True):
        for code, text in {one.code: one.text for one in figure_limits(result)}.items():
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
        *(text for name, result in zip(names, results, strict=True) if (text := _too_short(name, result))),
    ]


def _too_short(name: str, result: BenchResult) -> str:
    found = [f"{operation} of {row_name(point)}" for point, operation, ns, _ in _times(result) if ns <= 0]
    if not found:
        return ""
    more = f" (and {len(found) - 1} more)" if found[1:] else ""
    return f"{name}: a time of 0 ns, less than one step of the clock, is left out: {found[0]}{more}"


def change_points(lines: Sequence[OperationHistory]) -> list[ChangePoint]:
    """Return the change points of all lines, line by line, in chronological order.

    A line is divided at the place with the most significant difference of both sides (Student's t-test of the
    logarithms). Each side is then divided in the same way (binary segmentation). The level of 1 % holds for all
    places of all lines together (Bonferroni): one directory in a hundred without a change shows one.
    """
    found = []
    for line in lines:
        places = sorted(_divide(line.ns, 0, len(line.ns), _LEVEL / len(lines)))
        parts = [slice(start, end) for start, end in pairwise((0, *places, len(line.ns)))]
        for place, (before, after) in zip(places, pairwise(parts), strict=True):
            found.append(_change_point(line, line.at[place], before, after))
    return found


def _change_point(line: OperationHistory, at: int, before: slice, after: slice) -> ChangePoint:
    sides = [list(zip(line.ns[part], line.floors_ns[part], strict=True)) for part in (before, after)]
    means = [geometric_mean([ns for ns, _ in side]) for side in sides]
    nets = [geometric_mean([ns - floor_ns for ns, floor_ns in side]) for side in sides]
    floor_ns = fmean(floor_ns for side in sides for _, floor_ns in side)
    return ChangePoint(
        line.point,
        line.operation,
        at,
        means[1] / means[0],
        floor_ns > FLOOR_SHARE * min(means),
        Estimate(nets[1] / nets[0]) if min(nets) > 0 else None,
    )


def _divide(ns: Sequence[float], start: int, end: int, level: float) -> list[int]:
    places = range(start + _MIN_SIDE, end - _MIN_SIDE + 1)
    if not places:
        return []
    found, place = min((_certainty(ns[start:place], ns[place:end]), place) for place in places)
    factor = geometric_mean(ns[place:end]) / geometric_mean(ns[start:place])
    if found * len(places) > level or abs(factor - 1) < _NEGLIGIBLE:
        return []
    return [*_divide(ns, start, place, level), place, *_divide(ns, place, end, level)]


def _certainty(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the p-value of Student's t-test of the logarithms; 0 for two constant sides that differ."""
    # The distribution function only: scipy.stats.ttest_ind takes a millisecond, and a history has thousands of tests.
    from iommufd_py.results.scientific import stdtr

    logs = [[math.log(one) for one in side] for side in (before, after)]
    distance = abs(fmean(logs[0]) - fmean(logs[1]))
    freedom = len(before) + len(after) - 2
    pooled = sum((len(side) - 1) * variance(side) for side in logs) / freedom
    error = math.sqrt(pooled * (1 / len(before) + 1 / len(after)))
    # The mean of equal logarithms can differ from them in the last digit.
    if error <= _NO_ERROR:
        return 0.0 if distance > _NO_ERROR else 1.0
    return 2 * float(stdtr(freedom, -distance / error))
