# SPDX-License-Identifier: MIT
"""Is one kernel slower than another: ratios with confidence intervals. Pure; needs scipy (extra ``report``)."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from iommufd_py.base.errors import ToolError
from iommufd_py.results.model import BenchResult, Point, Row
from iommufd_py.results.stats import median

CONFIDENCE = 0.99
"""Of the interval of a ratio: one row in a hundred that did not change is called changed."""

# Below this no difference means anything, however sure it is: where code and data happen to lie makes as much.
_NEGLIGIBLE = 0.01
_MIN_UNITS = 3
# What two buffers' numbers of physical runs may differ by and still be the same work.
_UNEQUAL_RUNS = 1.5


class Verdict(StrEnum):
    """What may be said of one row."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no significant change"
    UNKNOWN = "too few runs"


@dataclass(frozen=True, slots=True)
class Change:
    """One operation of one row, before and after; medians in nanoseconds.

    Attributes:
        ratio: after by before, the geometric mean over runs.
        low, high: its confidence interval, None with fewer than three runs on either side.
        user_flush_ns: median time of CLFLUSHOPT over the same buffer in the same cache state from user space, without
            the clock reads, which a difference has not either; None where that is impossible.
    """

    point: Point
    operation: str
    before_ns: float
    after_ns: float
    ratio: float
    low: float | None
    high: float | None
    user_flush_ns: float | None

    @property
    def verdict(self) -> Verdict:
        """What the interval allows to say; less than 1 % is no change."""
        if self.low is None or self.high is None:
            return Verdict.UNKNOWN
        if self.low > 1 and self.ratio > 1 + _NEGLIGIBLE:
            return Verdict.SLOWER
        if self.high < 1 and self.ratio < 1 - _NEGLIGIBLE:
            return Verdict.FASTER
        return Verdict.SAME

    @property
    def floors(self) -> float | None:
        """The difference as a multiple of the same buffer's flush from user space."""
        return (self.after_ns - self.before_ns) / self.user_flush_ns if self.user_flush_ns else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One result against the baseline.

    Attributes:
        before, after: their labels.
        changes: of every operation that both have.
        cautions: what else is different, or keeps the intervals from holding.
    """

    before: str
    after: str
    changes: tuple[Change, ...]
    cautions: tuple[str, ...]

    def slower_than(self, threshold: float) -> list[Change]:
        """Return what became slower by more than *threshold*, 0.05 for 5 %."""
        return [one for one in self.changes if one.verdict is Verdict.SLOWER and one.ratio > 1 + threshold]


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of two sets of medians, after by before, and its confidence interval.

    Each median is one run's, so that samples of one run, which resemble one another, do not count as independent. Their
    logarithms are compared by Welch's t-test (scipy.stats.ttest_ind), which needs no equal variances; the interval is
    that of the difference of the means, turned back into a ratio.

    Raises:
        ValueError: there are fewer than two medians on a side.
    """
    if min(len(before), len(after)) < 2:
        raise ValueError("an interval needs two medians on either side")
    logs_before, logs_after = ([math.log(one) for one in side] for side in (before, after))
    ratio = math.exp(sum(logs_after) / len(logs_after) - sum(logs_before) / len(logs_before))
    if len({*logs_before}) == 1 == len({*logs_after}):
        return ratio, ratio, ratio  # no variance at all: the t-test has nothing to divide by
    from scipy import stats

    test = stats.ttest_ind(logs_after, logs_before, equal_var=False)
    interval = test.confidence_interval(confidence_level=CONFIDENCE)
    return ratio, math.exp(float(interval.low)), math.exp(float(interval.high))


def compare(before: BenchResult, after: BenchResult, *, force: bool = False) -> Comparison:
    """Compare what both results have.

    Args:
        force: compare although the environments differ in what matters; that is then a caution.

    Raises:
        ToolError: they do and it is not forced, or they have no row in common.
    """
    obstacles = _obstacles(before, after)
    if obstacles and not force:
        raise ToolError(
            f"the results cannot be compared, they differ in {' and '.join(obstacles)}; measure both in one place, or "
            "--force"
        )
    rows = [(row, other) for row in before.rows for other in after.rows if row.point == other.point]
    if not rows:
        raise ToolError("the results have no row in common: run the benchmark with the same options for both")
    clock_ns = median([*before.floor.clock_ns, *after.floor.clock_ns])
    changes = [_change(row, other, operation, clock_ns) for row, other in rows for operation in row.operations]
    return Comparison(
        before.label,
        after.label,
        tuple(changes),
        (*(f"they differ in {one}" for one in obstacles), *_cautions(before, after, rows)),
    )


def _change(before: Row, after: Row, operation: str, clock_ns: float) -> Change:
    sides = [_units(before, operation), _units(after, operation)]
    low = high = None
    if min(map(len, sides)) >= _MIN_UNITS:
        ratio, low, high = ratio_interval(*sides)
    else:
        ratio = median(sides[1]) / median(sides[0])
    floor = [*before.user_flush_ns, *after.user_flush_ns]
    return Change(
        point=before.point,
        operation=operation,
        before_ns=median(sides[0]),
        after_ns=median(sides[1]),
        ratio=ratio,
        low=low,
        high=high,
        user_flush_ns=median(floor) - clock_ns if floor else None,
    )


def _units(row: Row, operation: str) -> list[float]:
    """Return the independent medians of a row: one a boot where there are enough boots, else one a process."""
    boots: dict[str, list[float]] = defaultdict(list)
    for run in row.runs:
        boots[run.boot_id].append(median(run.operations[operation].ns))
    if len(boots) >= _MIN_UNITS:
        return [median(medians) for medians in boots.values()]
    return [one for medians in boots.values() for one in medians]


def _obstacles(before: BenchResult, after: BenchResult) -> list[str]:
    facts = {
        "platform": [one.environment.platform for one in (before, after)],
        "CPU": [one.environment.cpu for one in (before, after)],
        "IOMMU": [one.target.iommu for one in (before, after)],
    }
    return [f"{name} ({a} and {b})" for name, (a, b) in facts.items() if a != b]


def _cautions(before: BenchResult, after: BenchResult, rows: Sequence[tuple[Row, Row]]) -> list[str]:
    found = []
    a, b = before.environment, after.environment
    for name in ("cpus", "microcode", "thp", "governor", "turbo", "numa_nodes"):
        if getattr(a, name) != getattr(b, name):
            found.append(f"they differ in {name.replace('_', ' ')}: {getattr(a, name)} and {getattr(b, name)}")
    if bool(a.noncoherent_knob) != bool(b.noncoherent_knob):
        found.append("they differ in iommufd.test_noncoherent_hwpt")
    words = sorted(_words(a.command_line) ^ _words(b.command_line))
    if words:
        found.append(f"they differ in the kernel's command line: {' '.join(words)}")
    options = sorted((a.config or {}).items() ^ (b.config or {}).items())
    if options:
        found.append("they differ in " + ", ".join(dict.fromkeys(f"CONFIG_{name}" for name, _ in options)))
    if before.tool_version != after.tool_version:
        found.append(f"they come from versions {before.tool_version} and {after.tool_version} of this tool")
    boots = [{run.boot_id for row in side.rows for run in row.runs} for side in (before, after)]
    if boots[0] != boots[1] and min(map(len, boots)) < _MIN_UNITS:
        found.append(
            "each kernel was booted fewer than three times: what differs between boots is not in the intervals; "
            "'iommufd bench patch' alternates boots"
        )
    unequal = [one for one, other in rows if _unequal(one, other)]
    if unequal:
        sizes = ", ".join(dict.fromkeys(str(row.point.size_bytes) for row in unequal))
        found.append(f"the buffers of {sizes} bytes lay in unequal numbers of physical runs: unequal work")
    return found


def _words(command_line: str) -> set[str]:
    """Return the words of a kernel's command line that can matter, not those that find a root and a program."""
    return {word for word in command_line.split() if not word.startswith(("init=", "root", "virtme"))}


def _unequal(before: Row, after: Row) -> bool:
    sides = [[run.physical_runs for run in row.runs if run.physical_runs] for row in (before, after)]
    if not all(sides):
        return False
    medians = [median(side) for side in sides]
    return max(medians) > _UNEQUAL_RUNS * min(medians)


def comparison_document(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return comparisons as one JSON document."""
    return {
        "schema": "iommufd-bench-compare/1",
        "confidence": CONFIDENCE,
        "comparisons": [
            {
                "before": one.before,
                "after": one.after,
                "cautions": list(one.cautions),
                "changes": [
                    {**asdict(change), "verdict": str(change.verdict), "floors": change.floors}
                    for change in one.changes
                ],
            }
            for one in comparisons
        ],
    }
