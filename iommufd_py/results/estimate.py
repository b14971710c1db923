# SPDX-License-Identifier: MIT
"""The estimators of a comparison: independent figures of a row, ratios with intervals, one level for a whole table.

One estimator serves for all that is shown of an operation: the geometric mean of the independent medians. The ratio is
the quotient of two such means, so the figures beside it always give it. Needs scipy (extra ``report``).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from iommufd_py.results.humps import Humps, two_humps
from iommufd_py.results.model import Floor, Row, Run
from iommufd_py.results.stats import median, quantile, variance

CONFIDENCE = 0.99
"""Of each interval."""

MIN_UNITS = 3
"""Fewer independent figures on a side give no interval."""

# With two humps, moving this share of the samples across the gap must not leave the interval.
_MOVED = 0.15


@dataclass(frozen=True, slots=True)
class Unit:
    """One independent figure of an operation: the median of one process, or of all processes of one boot.

    Attributes:
        ns: median of the samples.
        low_ns, high_ns: the same, but for two humps the median after 15 % of the samples moved across the gap.
        mean_ns: mean of the samples.
        floor_ns: the same number of ioctls that do nothing, measured in the same process; None where nothing of the
            kind was measured.
        user_flush_ns: CLFLUSHOPT over the same buffer from user space, without the clock reads, measured in the same
            process; None where that is impossible.
        humps: of the samples, None for one group.
    """

    ns: float
    low_ns: float
    high_ns: float
    mean_ns: float
    floor_ns: float | None
    user_flush_ns: float | None
    humps: Humps | None

    @property
    def net_ns(self) -> float | None:
        """The median without the floor."""
        return None if self.floor_ns is None else self.ns - self.floor_ns


def units(row: Row, operation: str, floor: Floor) -> list[Unit]:
    """Return the independent figures of a row: one for each boot where there are enough boots, else for each process.

    Samples of one process resemble one another, and so do processes of one boot; they do not count as independent.
    """
    boots: dict[str, list[Unit]] = defaultdict(list)
    for run in row.runs:
        boots[run.boot_id].append(_unit(row, run, operation, floor))
    if len(boots) >= MIN_UNITS:
        return [_middle(found) for found in boots.values()]
    return [one for found in boots.values() for one in found]


def _unit(row: Row, run: Run, operation: str, floor: Floor) -> Unit:
    samples = run.operations[operation].ns
    ordered = sorted(samples)
    humps = two_humps(samples)
    clock_ns = median(floor.clock_ns) if run.clock_ns is None else run.clock_ns
    ioctl_ns = median(floor.ioctl_ns) if run.ioctl_ns is None else run.ioctl_ns
    return Unit(
        ns=quantile(ordered, 0.5),
        low_ns=quantile(ordered, 0.5 - _MOVED if humps else 0.5),
        high_ns=quantile(ordered, 0.5 + _MOVED if humps else 0.5),
        mean_ns=fmean(samples),
        floor_ns=clock_ns + row.point.calls(operation) * max(ioctl_ns - clock_ns, 0.0),
        user_flush_ns=median(run.user_flush_ns) - clock_ns if run.user_flush_ns else None,
        humps=humps,
    )


def _middle(found: Sequence[Unit]) -> Unit:
    def middle(attribute: Callable[[Unit], float | None]) -> float | None:
        values = [value for one in found if (value := attribute(one)) is not None]
        return median(values) if values else None

    def certain(attribute: Callable[[Unit], float]) -> float:
        return median([attribute(one) for one in found])

    return Unit(
        ns=certain(lambda one: one.ns),
        low_ns=certain(lambda one: one.low_ns),
        high_ns=certain(lambda one: one.high_ns),
        mean_ns=certain(lambda one: one.mean_ns),
        floor_ns=middle(lambda one: one.floor_ns),
        user_flush_ns=middle(lambda one: one.user_flush_ns),
        humps=next((one.humps for one in found if one.humps), None),
    )


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values; 0 if one of them is not positive."""
    return math.exp(fmean(map(math.log, values))) if min(values) > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval.

    Attributes:
        low, high: ends of the interval; None with fewer than three independent figures on a side.
        p: probability of figures so far apart or farther if nothing had changed; None likewise.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def ratio(before: Sequence[float], after: Sequence[float]) -> Estimate | None:
    """Return the ratio of the geometric means, after by before; None if a figure is not positive.

    The logarithms are compared by Welch's t-test, which needs no equal variances.
    """
    if min(*before, *after) <= 0:
        return None
    logs = [[math.log(one) for one in side] for side in (before, after)]
    found = _difference(*logs)
    ends = [None if end is None else math.exp(end) for end in (found.low, found.high)]
    return Estimate(math.exp(found.value), ends[0], ends[1], found.p)


def difference(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """Return the difference of the means, after less before, by Welch's t-test."""
    return _difference(before, after)


def _difference(before: Sequence[float], after: Sequence[float]) -> Estimate:
    value = fmean(after) - fmean(before)
    if min(len(before), len(after)) < MIN_UNITS:
        return Estimate(value)
    if len({*before}) == 1 == len({*after}):
        # No variance: the t-test has nothing to divide by.
        return Estimate(value, value, value, 1.0 if value == 0 else 0.0)
    # The distribution function alone: scipy.stats.ttest_ind takes a millisecond, and a table has hundreds of tests.
    from scipy.special import stdtr, stdtrit

    errors = [variance(side) / len(side) for side in (before, after)]
    error = sum(errors)
    freedom = error**2 / sum(one**2 / (len(side) - 1) for one, side in zip(errors, (before, after), strict=True))
    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(error)
    p = 2 * float(stdtr(freedom, -abs(value) / math.sqrt(error)))
    return Estimate(value, value - reach, value + reach, p)


def widened(found: Estimate, before: Sequence[Unit], after: Sequence[Unit]) -> Estimate:
    """Return the estimate with an interval that holds what two humps leave open; the same for one group of samples."""
    if found.low is None or found.high is None or not any(one.humps for one in (*before, *after)):
        return found
    low = geometric_mean([one.low_ns for one in after]) / geometric_mean([one.high_ns for one in before])
    high = geometric_mean([one.high_ns for one in after]) / geometric_mean([one.low_ns for one in before])
    low, high = min(low, found.low), max(high, found.high)
    return Estimate(found.value, low, high, 1.0 if low <= 1 <= high else found.p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values that hold for all rows of a table together (Holm 1979, a sequentially rejective procedure).

    A table of rows that did not change then calls one of them changed no more often than a single test would.
    """
    known = sorted((p, number) for number, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, number) in enumerate(known):
        highest = max(highest, min(p * (len(known) - rank), 1.0))
        adjusted[number] = highest
    return adjusted
