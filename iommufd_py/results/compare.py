# SPDX-License-Identifier: MIT
"""Compare two results row by row: ratio, interval, and one of three verdicts. Needs scipy (extra ``report``)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from iommufd_py.base.errors import ToolError
from iommufd_py.base.units import format_ns
from iommufd_py.results.cautions import cautions, obstacles
from iommufd_py.results.estimate import (
    CONFIDENCE,
    Estimate,
    Unit,
    difference,
    geometric_mean,
    holm,
    in_turns,
    ratio,
    units,
    widened,
)
from iommufd_py.results.model import BenchResult, Point, Row

FAMILY_LEVEL = 0.005
"""Probability that a table calls a row changed although no row changed."""

MARGIN = 0.02
"""Ratios whose whole interval lies within this distance of 1 are equivalent: the placement of code and data alone
changes times by as much."""

# The error of the sums of logarithms. A ratio of exactly 1.02 can be 1.0200000000000002.
_DUST = 1e-9

FLOOR_SHARE = 0.10
"""If the floor is a larger share of a time, the ratio is marked, and also given without the floor."""


class Verdict(StrEnum):
    """The conclusion that the samples of one row support."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW = "too few runs"
    TOO_SHORT = "too short to time"


@dataclass(frozen=True, slots=True)
class Change:
    """One operation of one row, before and after. Times are nanoseconds.

    Attributes:
        before_ns, after_ns: geometric means of the independent medians.
        before_min_ns, after_min_ns: shortest samples.
        before_mean_ns, after_mean_ns: geometric means of the independent means.
        ratio: after divided by before; None if a median is 0.
        low, high: ends of its interval.
        adjusted_p: p-value that holds for all rows of the table together.
        floor_ns: time of an operation with the same number of ioctls that do nothing.
        net: ratio without the floor; None if the operation is not longer than the floor.
        flushes: the difference as a multiple of the time of CLFLUSHOPT over the same buffer from user space; None if
            this time was not measured, or if a flush costs nothing.
        humps: for each side with boots (or processes) whose samples form two groups: their number, and the first.
        margin: margin of equivalence.
    """

    point: Point
    operation: str
    before_ns: float
    after_ns: float
    before_min_ns: int
    after_min_ns: int
    before_mean_ns: float
    after_mean_ns: float
    ratio: float | None
    low: float | None
    high: float | None
    adjusted_p: float | None
    floor_ns: float | None
    net: Estimate | None
    flushes: Estimate | None
    humps: tuple[str, ...] = ()
    margin: float = MARGIN

    @property
    def verdict(self) -> Verdict:
        """Equivalent if the whole interval lies within the margin, else changed if the whole table allows it."""
        if self.ratio is None:
            return Verdict.TOO_SHORT
        if self.low is None or self.high is None or self.adjusted_p is None:
            return Verdict.TOO_FEW
        if 1 - self.margin - _DUST <= self.low and self.high <= 1 + self.margin + _DUST:
            return Verdict.EQUIVALENT
        if self.differs:
            return Verdict.SLOWER if self.ratio > 1 else Verdict.FASTER
        return Verdict.INCONCLUSIVE

    @property
    def differs(self) -> bool:
        """Whether the whole table allows to call the times different, also within the margin of equivalence."""
        if self.low is None or self.high is None or self.adjusted_p is None:
            return False
        return self.adjusted_p < FAMILY_LEVEL and not self.low <= 1 <= self.high

    @property
    def changed(self) -> bool:
        """Whether the operation became slower or faster."""
        return self.verdict in (Verdict.SLOWER, Verdict.FASTER)

    @property
    def mean_ratio(self) -> float | None:
        """Ratio of the means; None if the mean before is 0."""
        return self.after_mean_ns / self.before_mean_ns if self.before_mean_ns else None

    @property
    def width(self) -> float | None:
        """Width of the interval as a fraction of its lower end; None without an interval."""
        return None if self.low is None or self.high is None else self.high / self.low - 1

    @property
    def on_floor(self) -> bool:
        """Whether the floor is more than a tenth of one of the two times."""
        return self.floor_ns is not None and self.floor_ns > FLOOR_SHARE * min(self.before_ns, self.after_ns)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One result against the baseline.

    Attributes:
        before, after: labels of the two results.
        changes: the changes of all common operations.
        cautions: other differences, and limits of the intervals.
    """

    before: str
    after: str
    changes: tuple[Change, ...]
    cautions: tuple[str, ...]

    @property
    def has_ratios(self) -> bool:
        """Whether an operation has a ratio. Without one, all are too short to time."""
        return any(one.ratio is not None for one in self.changes)

    def slower_than(self, threshold: float) -> list[Change]:
        """Return the rows that are slower by more than *threshold* in their whole interval; 0.05 is 5 %.

        A row within a wide margin of equivalence can be one of them.
        """
        return [one for one in self.changes if one.differs and one.low is not None and one.low > 1 + threshold + _DUST]

    def wider_than(self, precision: float) -> list[Change]:
        """Return the rows with no interval, or with one wider than *precision*; 0.05 is 5 %."""
        return [one for one in self.changes if one.width is None or one.width > precision]


def compare(before: BenchResult, after: BenchResult, *, force: bool = False, margin: float = MARGIN) -> Comparison:
    """Compare the rows that both results have.

    Args:
        force: compare although the machines differ; the difference is then a caution.
        margin: ratios whose interval lies within 1 +- *margin* are equivalent.

    Raises:
        ToolError: the machines differ and *force* is not given, or the results have no operation of a row in common.
    """
    different = obstacles(before, after)
    if different and not force:
        raise ToolError(
            f"the results cannot be compared, {_both(before, after)} differ in {' and '.join(different)}; measure both "
            "on one machine, or use --force"
        )
    pairs = [(row, other) for row in before.rows for other in after.rows if row.point == other.point]
    emulated = before.environment.emulated or after.environment.emulated
    changes = [
        _change(
            (row, other),
            operation,
            [units(one, operation, side.floor) for one, side in ((row, before), (other, after))],
        )
        for row, other in pairs
        for operation in row.operations
        if operation in other.operations
    ]
    if not changes:
        raise ToolError(
            f"the results cannot be compared, {_both(before, after)} have no row in common, or no operation of a "
            "common row: run the benchmark with the same options for both"
        )
    adjusted = holm([one.adjusted_p for one in changes])
    return Comparison(
        before.label,
        after.label,
        tuple(
            replace(change, adjusted_p=p, flushes=None if emulated else change.flushes, margin=margin)
            for change, p in zip(changes, adjusted, strict=True)
        ),
        (*(f"they differ in {one}" for one in different), *cautions(before, after, pairs)),
    )


def _both(before: BenchResult, after: BenchResult) -> str:
    """Name two results by their labels. Equal labels would say nothing."""
    return f"{before.label} and {after.label}" if before.label != after.label else "they"


def _change(rows: Sequence[Row], operation: str, sides: Sequence[Sequence[Unit]]) -> Change:
    """Return the change with the p-value of this row alone."""
    before, after = sides
    matched = in_turns(before, after)
    if matched is not None:
        after = matched
    paired = matched is not None
    found = _widened_ratio(before, after, paired=paired)
    minima = [min(min(samples.ns) for samples in row.samples(operation)) for row in rows]
    floors = [one.floor_ns for one in (*before, *after) if one.floor_ns is not None]
    return Change(
        point=rows[0].point,
        operation=operation,
        before_ns=geometric_mean([one.ns for one in before]),
        after_ns=geometric_mean([one.ns for one in after]),
        before_min_ns=minima[0],
        after_min_ns=minima[1],
        before_mean_ns=geometric_mean([one.mean_ns for one in before]),
        after_mean_ns=geometric_mean([one.mean_ns for one in after]),
        ratio=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        adjusted_p=found.p if found else None,
        floor_ns=geometric_mean(floors) if floors else None,
        net=_net(before, after, paired=paired),
        flushes=_flushes(before, after, found, paired=paired),
        humps=(*_groups("before", before), *_groups("after", after)),
    )


def _widened_ratio(before: Sequence[Unit], after: Sequence[Unit], *, paired: bool) -> Estimate | None:
    found = ratio([one.ns for one in before], [one.ns for one in after], paired=paired)
    return None if found is None else widened(found, before, after, paired=paired)


def _groups(name: str, side: Sequence[Unit]) -> list[str]:
    """Return a description of the units of one side whose samples form two groups; nothing without such units."""
    found = [one.humps for one in side if one.humps]
    if not found:
        return []
    first = found[0]
    return [
        f"{name}, {len(found)} of {len(side)}, for example {format_ns(first.low_ns)} and {format_ns(first.high_ns)} "
        f"with {first.upper:.0%} in the upper group"
    ]


def _net(before: Sequence[Unit], after: Sequence[Unit], *, paired: bool) -> Estimate | None:
    sides = [[net for one in side if (net := one.net) is not None] for side in (before, after)]
    if [len(side) for side in sides] != [len(before), len(after)]:
        return None
    return _widened_ratio(*sides, paired=paired)


def _flushes(before: Sequence[Unit], after: Sequence[Unit], found: Estimate | None, *, paired: bool) -> Estimate | None:
    """Return the difference in multiples of the user-space flush. Each time is paired with the flush of its own
    boot.

    Args:
        found: the ratio. If two humps or the steps of the clock widen its interval, they widen this one, too.
    """
    sides = [
        [one.ns / one.user_flush_ns for one in side if one.user_flush_ns and one.user_flush_ns > 0]
        for side in (before, after)
    ]
    if [len(side) for side in sides] == [len(before), len(after)]:
        multiple = difference(*sides, paired=paired)
        if found is None or not any(one.humps or one.blur_ns for one in (*before, *after)):
            return multiple
        return _reaching(multiple, found, geometric_mean(sides[0]))
    # Older versions measured the flush once, in the first process, so their results give no interval.
    known = [one.user_flush_ns for one in (*before, *after) if one.user_flush_ns and one.user_flush_ns > 0]
    if not known:
        return None
    times = [geometric_mean([one.ns for one in side]) for side in (before, after)]
    return Estimate((times[1] - times[0]) / geometric_mean(known))


def _reaching(multiple: Estimate, found: Estimate, before: float) -> Estimate:
    """Return *multiple* with an interval that reaches the ends of the ratio *found*; *before* is the time before."""
    if multiple.low is None or multiple.high is None or found.low is None or found.high is None:
        return multiple
    low, high = min(multiple.low, (found.low - 1) * before), max(multiple.high, (found.high - 1) * before)
    return replace(multiple, low=low, high=high)


def comparison_document(comparisons: Sequence[Comparison], limits: Sequence[str]) -> dict[str, Any]:
    """Return comparisons and the limits of their figures as one JSON document, iommufd-bench-compare/1."""
    return {
        "schema": "iommufd-bench-compare/1",
        "confidence": CONFIDENCE,
        "family_level": FAMILY_LEVEL,
        "limits": list(limits),
        "comparisons": [
            {
                "before": one.before,
                "after": one.after,
                "cautions": list(one.cautions),
                "changes": [
                    {
                        **asdict(change),
                        "humps": list(change.humps),
                        "verdict": str(change.verdict),
                        "on_floor": change.on_floor,
                    }
                    for change in one.changes
                ],
            }
            for one in comparisons
        ],
    }
