# SPDX-License-Identifier: MIT
"""The estimators of a comparison: independent figures of a row, ratios with intervals, one level for a whole table.

There is one estimator for an operation: the geometric mean of the independent medians. The ratio is the quotient of
two such means, so a reader can compute it from the two figures shown. Needs scipy (extra ``report``).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from iommufd_py.results.humps import Humps, humps_of_runs
from iommufd_py.results.model import Floor, Row, Run, floor_of
from iommufd_py.results.stats import blur_ns, median, quantile, variance

CONFIDENCE = 0.99
"""Confidence of each interval."""

MIN_UNITS = 3
"""Number of independent figures on each side that an interval needs."""

# A sample of 0 ns took less time than one step of the clock. A ratio needs a time above zero.
_CLOCK_NS = 1.0
# At most this share of a time: with the whole time, the interval would have no upper end.
_MOST_BLUR = 0.5
# With two humps, the interval includes the medians after this share of the samples has moved across the gap.
_MOVED = 0.15


@dataclass(frozen=True, slots=True)
class Unit:
    """One independent figure of an operation: the median of one process, or of all processes of one boot.

    Attributes:
        ns: median of the samples.
        low_ns, high_ns: the same median; with two humps, the medians after 15 % of the samples moved across the gap.
        blur_ns: largest distance of the median from the true one, if the clock has steps; 0 if no steps are seen.
        mean_ns: mean of the samples.
        floor_ns: time of the same number of ioctls that do nothing, measured in the same process; None if not
            measured.
        user_flush_ns: time of CLFLUSHOPT over the same buffer from user space, without the clock reads, measured in the
            same process; None if this measurement is impossible.
        humps: the two groups of the samples; None for a single group.
        round_id: the round of boots; figures of other kernels with the same one were measured in turns with this one.
            Empty for a figure without turns.
    """

    ns: float
    low_ns: float
    high_ns: float
    blur_ns: float
    mean_ns: float
    floor_ns: float | None
    user_flush_ns: float | None
    humps: Humps | None
    round_id: str

    @property
    def net(self) -> "Unit | None":
        """The figure without the floor; None if it is not longer than the floor."""
        floor_ns = self.floor_ns
        if floor_ns is None or self.ns <= floor_ns:
            return None
        least = min(self.ns - floor_ns, _CLOCK_NS)

        def rest(ns: float) -> float:
            return max(ns - floor_ns, least)

        groups = self.humps and replace(self.humps, low_ns=rest(self.humps.low_ns), high_ns=rest(self.humps.high_ns))
        return replace(
            self,
            ns=rest(self.ns),
            low_ns=rest(self.low_ns),
            high_ns=rest(self.high_ns),
            mean_ns=rest(self.mean_ns),
            floor_ns=0.0,
            humps=groups,
        )


def units(row: Row, operation: str, floor: Floor) -> list[Unit]:
    """Return the independent figures of a row: one for each boot if there are enough boots, else one for each process.

    Samples of one process are correlated, and so are processes of one boot. They do not count as independent.
    """
    boots: dict[str, list[Unit]] = defaultdict(list)
    humps = humps_of_runs([samples.ns for samples in row.samples(operation)])
    for run, groups in zip(row.runs, humps, strict=True):
        boots[run.boot_id].append(_unit(row, run, operation, floor, groups))
    if len(boots) >= MIN_UNITS:
        return [_middle(found) for found in boots.values()]
    return [one for found in boots.values() for one in found]


def _unit(row: Row, run: Run, operation: str, floor: Floor, humps: Humps | None) -> Unit:
    samples = run.operations[operation].ns
    ordered = sorted(samples)
    ns = quantile(ordered, 0.5)
    clock_ns, ioctl_ns = run.floors(floor)
    return Unit(
        ns=ns,
        low_ns=max(quantile(ordered, 0.5 - _MOVED), min(ns, _CLOCK_NS)) if humps else ns,
        high_ns=quantile(ordered, 0.5 + _MOVED) if humps else ns,
        blur_ns=blur_ns(ordered, ns),
        mean_ns=fmean(samples),
        floor_ns=floor_of(row.point.calls(operation), clock_ns, ioctl_ns),
        user_flush_ns=median(run.user_flush_ns) - clock_ns if run.user_flush_ns else None,
        humps=humps,
        round_id=run.round_id,
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
        blur_ns=certain(lambda one: one.blur_ns),
        mean_ns=certain(lambda one: one.mean_ns),
        floor_ns=middle(lambda one: one.floor_ns),
        user_flush_ns=middle(lambda one: one.user_flush_ns),
        humps=next((one.humps for one in found if one.humps), None),
        round_id=found[0].round_id,
    )


def in_turns(before: Sequence[Unit], after: Sequence[Unit]) -> list[Unit] | None:
    """Return *after* in the order of the rounds of *before*; None if not all figures were measured in common rounds."""
    rounds = {one.round_id: one for one in after}
    if "" in rounds or len(rounds) < len(after) or sorted(rounds) != sorted(one.round_id for one in before):
        return None
    return [rounds[one.round_id] for one in before]


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values; 0 if one of them is not positive."""
    return math.exp(fmean(map(math.log, values))) if min(values) > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its confidence interval.

    Attributes:
        low, high: ends of the interval; None with fewer than three independent figures on a side.
        p: probability of figures at least as far apart without a change; None with too few figures.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def ratio(before: Sequence[float], after: Sequence[float], *, paired: bool = False) -> Estimate | None:
    """Return the ratio of the geometric means, after divided by before; None if a figure is not positive.

    The logarithms are compared as by :func:`difference`.
    """
    if min(*before, *after) <= 0:
        return None
    logs = [[math.log(one) for one in side] for side in (before, after)]
    found = difference(*logs, paired=paired)
    ends = [None if end is None else math.exp(end) for end in (found.low, found.high)]
    return Estimate(math.exp(found.value), ends[0], ends[1], found.p)


def difference(before: Sequence[float], after: Sequence[float], *, paired: bool = False) -> Estimate:
    """Return the difference of the means, after minus before, by a t-test.

    Args:
        paired: figures at the same place were measured in turns, so they contain the same noise. The t-test is then the
            paired one; else it is Welch's, which does not need equal variances.
    """
    value = fmean(after) - fmean(before)
    if min(len(before), len(after)) < MIN_UNITS:
        return Estimate(value)
    samples = [[b - a for a, b in zip(before, after, strict=True)]] if paired else [before, after]
    errors = [variance(one) / len(one) for one in samples]
    error = sum(errors)
    if error == 0:
        # The t-test would divide by it.
        return Estimate(value, value, value, 1.0 if value == 0 else 0.0)
    # This uses the distribution function only: scipy.stats.ttest_ind takes a millisecond, and a table has hundreds of
    # tests.
    from iommufd_py.results.scientific import stdtr, stdtrit

    freedom = error**2 / sum(one**2 / (len(side) - 1) for one, side in zip(errors, samples, strict=True))
    reach = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(error)
    p = 2 * float(stdtr(freedom, -abs(value) / math.sqrt(error)))
    return Estimate(value, value - reach, value + reach, p)


def widened(found: Estimate, before: Sequence[Unit], after: Sequence[Unit], *, paired: bool) -> Estimate:
    """Return the estimate with an interval that also covers two humps and the steps of the clock, if there are any.

    Args:
        paired: both sides were measured in turns, so both met the fast and the slow times of the machine. The interval
            then covers the ratio of the fast groups and that of the slow groups. Otherwise it covers a fast group
            against a slow one.
    """
    if found.low is None or found.high is None:
        return found
    ends = _hump_ratios(before, after, paired=paired) if any(one.humps for one in (*before, *after)) else []
    # All were timed by the same clock, but some of them show no step.
    blur_ns = max(one.blur_ns for one in (*before, *after))
    blur, other_blur = (min(blur_ns / min(one.ns for one in side), _MOST_BLUR) for side in (before, after))
    low = min([*ends, found.low]) * (1 - other_blur) / (1 + blur)
    high = max([*ends, found.high]) * (1 + other_blur) / (1 - blur)
    if (low, high) == (found.low, found.high):
        return found
    return Estimate(found.value, low, high, 1.0 if low <= 1 <= high else found.p)


def _hump_ratios(before: Sequence[Unit], after: Sequence[Unit], *, paired: bool) -> list[float]:
    """Return the ratios of the groups and that of the means.

    A kernel can take a slow path that the other kernel does not take, or takes less often. Then the medians can be
    equal, and so can the fast groups and the slow groups, but the means differ.
    """
    means = [geometric_mean([one.mean_ns for one in side]) for side in (before, after)]
    if paired:
        groups = [end for slow in (False, True) for end in _group_ratio(before, after, slow=slow)]
    else:
        groups = [
            geometric_mean([one.low_ns for one in after]) / geometric_mean([one.high_ns for one in before]),
            geometric_mean([one.high_ns for one in after]) / geometric_mean([one.low_ns for one in before]),
        ]
    return [*groups, means[1] / means[0]]


def _group_ratio(before: Sequence[Unit], after: Sequence[Unit], *, slow: bool) -> list[float]:
    """Return the ends of the interval of the ratio between the fast or the slow groups of both sides."""
    pairs = list(zip(before, after, strict=True))
    first = [_of_group(one, other, slow=slow) for one, other in pairs]
    second = [_of_group(other, one, slow=slow) for one, other in pairs]
    found = ratio(first, second, paired=True)
    return [] if found is None or found.low is None or found.high is None else [found.low, found.high]


def _of_group(one: Unit, partner: Unit, *, slow: bool) -> float:
    """Return the fast or the slow time of *one*, to compare it with the same time of *partner*.

    If the partner has one group, its median is that of one speed of the machine. The slow group against it would
    compare two speeds. So *one* keeps its median, after some samples moved across the gap.
    """
    if one.humps is None:
        return one.ns
    if partner.humps is None:
        return one.high_ns if slow else one.low_ns
    return one.humps.high_ns if slow else one.humps.low_ns


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values that hold for all rows of a table together (Holm 1979, a sequentially rejective procedure).

    A table without any change then shows a change no more often than a single test does.
    """
    known = sorted((p, number) for number, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, number) in enumerate(known):
        highest = max(highest, min(p * (len(known) - rank), 1.0))
        adjusted[number] = highest
    return adjusted
