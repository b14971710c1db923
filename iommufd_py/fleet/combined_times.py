# SPDX-License-Identifier: MIT
"""Combine the ratios of many machines. The times of two machines are never compared.

Each machine gives one ratio with its interval: the time on a kernel divided by the time on the baseline. This module
computes two figures. The random-effects mean of the ratios (Paule and Mandel 1982) allows each machine a true ratio of
its own. I2 (Higgins and Thompson 2002) is the share of the spread that noise does not explain. The interval of the mean
is the wider of two: the interval of Hartung and Knapp (2001) with Student's t, and the normal interval, which is too
narrow for a few machines. The module needs statsmodels (extra ``fleet``).
"""

import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iommufd_py.base.errors import ToolError
from iommufd_py.fleet.checks import Check, Outcome
from iommufd_py.fleet.record import RunnerRecord, RunnerState, StepState, no_pipe
from iommufd_py.results import document
from iommufd_py.results.compare import compare
from iommufd_py.results.estimate import CONFIDENCE
from iommufd_py.results.model import BenchResult, merge
from iommufd_py.results.report import row_name
from iommufd_py.results.validity import figure_limits

_CLOCK_S = 1e-9
# exp() of more is no number. Two machines whose ratios differ widely have such an interval.
_LARGEST_LOG = math.log(sys.float_info.max)
# A picture with more machines would be too tall to read.
_MOST_NAMES = 60
_TITLE_CHARACTERS = 60
# A picture shows intervals up to this factor beyond the ratios.
_DRAWN_FACTOR = 10


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of one operation on one machine.

    Attributes:
        runner: the machine.
        value: time on the kernel divided by time on the baseline.
        low, high: ends of its interval; None for too few runs.
        before_s, after_s: the two times in seconds.
    """

    runner: str
    value: float
    low: float | None
    high: float | None
    before_s: float
    after_s: float


@dataclass(frozen=True, slots=True)
class Mean:
    """The random-effects mean of ratios.

    Attributes:
        value: the mean.
        low, high: ends of its interval.
        i2: share of the spread that noise does not explain, 0 to 1.
        machines: number of ratios in the mean.
    """

    value: float
    low: float
    high: float
    i2: float
    machines: int


@dataclass(frozen=True, slots=True)
class CombinedTimes:
    """One operation of one benchmark on one kernel, on all machines.

    Attributes:
        kernel: the kernel that is compared with the baseline.
        step: name of the step in the plan.
        operation: the timed operation with its conditions.
        ratios: the ratios of the machines.
    """

    kernel: str
    step: str
    operation: str
    ratios: tuple[Ratio, ...]

    @property
    def mean(self) -> Mean | None:
        """The mean of the ratios that have an interval; None for fewer than two."""
        return mean(self.ratios)


@dataclass(slots=True)
class Figures:
    """Collects the ratios of the machines. It does not keep the rest of their results, to save memory.

    Attributes:
        cautions: warnings about the figures, each with the names of its machines.
    """

    cautions: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _found: dict[tuple[str, str, str], list[Ratio]] = field(default_factory=lambda: defaultdict(list))
    _limits: dict[str, str] = field(default_factory=dict)

    def add(self, record: RunnerRecord, folder: Path) -> list[Check]:
        """Add the benchmarks of a machine, and return a check for each comparison with the baseline."""
        if record.baseline is None:
            return []
        steps = dict.fromkeys(one.name for one in record.steps if one.kind == "bench")
        kernels = dict.fromkeys(one.kernel for one in record.steps if one.kernel != record.baseline)
        found = (self._compared(record, folder, step, record.baseline, kernel) for step in steps for kernel in kernels)
        return [check for check in found if check is not None]

    def _compared(self, record: RunnerRecord, folder: Path, step: str, baseline: str, kernel: str) -> Check | None:
        name = f"{step} compared"
        try:
            before, after = (_result(record, folder, step, one) for one in (baseline, kernel))
            if before is None or after is None:
                # The check of the machine gives the reason why it did not finish.
                detail = f"the benchmark did not succeed on {baseline if before is None else kernel}"
                done = record.state is RunnerState.DONE
                return Check(kernel, name, Outcome.NOT_OBSERVED, detail) if done else None
            self._compare(record, step, kernel, before, after)
        except ToolError as failure:
            return Check(kernel, name, Outcome.ERROR, str(failure))
        return Check(kernel, name, Outcome.PASSED)

    def _compare(self, record: RunnerRecord, step: str, kernel: str, before: BenchResult, after: BenchResult) -> None:
        comparison = compare(before, after)
        for caution in comparison.cautions:
            self._warn(caution, record)
        if after.environment.emulated:
            self._warn("measured on an emulated CPU: the ratio says nothing about hardware", record)
        for limit in (one for side in (before, after) for one in figure_limits(side) if one.code != "TCG"):
            # Most texts have figures of one machine. The text of the first stands for all.
            self._warn(self._limits.setdefault(limit.code, f"{limit.code}: {limit.text}"), record)
        for change in comparison.changes:
            operation = f"{change.operation} {row_name(change.point)}"
            if change.ratio is None:
                self._warn(f"{operation} is too short to time, and has no ratio", record)
            else:
                ratio = Ratio(
                    record.name, change.ratio, change.low, change.high, change.before_ns / 1e9, change.after_ns / 1e9
                )
                self._found[kernel, step, operation].append(ratio)

    def _warn(self, text: str, record: RunnerRecord) -> None:
        names = self.cautions[text]
        if record.name not in names[-1:]:
            names.append(record.name)

    def rows(self) -> tuple[CombinedTimes, ...]:
        """Return the collected ratios."""
        return tuple(CombinedTimes(*key, tuple(ratios)) for key, ratios in self._found.items())


def _result(record: RunnerRecord, folder: Path, step: str, kernel: str) -> BenchResult | None:
    """Return the benchmark of a machine on one kernel with all repetitions merged; None if a repetition failed."""
    steps = [one for one in record.steps if (one.name, one.kernel) == (step, kernel)]
    if not steps or any(one.state is not StepState.ENDED or one.exit_status for one in steps):
        return None
    return merge(document.load_result(no_pipe(folder / one.folder / "result.json")) for one in steps)


def mean(ratios: Iterable[Ratio]) -> Mean | None:
    """Return the random-effects mean of the ratios that have an interval; None for fewer than two."""
    known = [(math.log(one.value), _variance(one, one.low, one.high)) for one in ratios if one.low and one.high]
    if len(known) < 2:
        return None
    from statsmodels.stats.meta_analysis import combine_effects

    from iommufd_py.results.scientific import np, stdtrit

    effects, variances = (np.array(side) for side in zip(*known, strict=True))
    # If all ratios are equal, statsmodels divides by their spread of 0 for I2. If the machines agree well, its method
    # "dl" takes the square root of a negative number; "pm" does not.
    with np.errstate(divide="ignore"):
        found = combine_effects(effects, variances, method_re="pm")
    error = max(float(found.sd_eff_w_re), float(found.sd_eff_w_re_hksj))
    reach = float(stdtrit(len(known) - 1, (1 + CONFIDENCE) / 2)) * error
    middle = float(found.mean_effect_re)
    return Mean(
        math.exp(middle),
        math.exp(middle - reach),
        math.exp(min(middle + reach, _LARGEST_LOG)),
        max(float(found.i2), 0.0),
        len(known),
    )


def _variance(ratio: Ratio, low: float, high: float) -> float:
    """Return the variance of a ratio's logarithm.

    The interval is Student's. Reading it as a normal one makes the variance larger, never smaller. If all times are
    equal, the resolution of the clock, 1 ns, bounds the variance from below.
    """
    from iommufd_py.results.scientific import ndtri

    of_interval = float(((math.log(high) - math.log(low)) / (2 * ndtri((1 + CONFIDENCE) / 2))) ** 2)
    of_clock = sum((_CLOCK_S / seconds) ** 2 / 12 for seconds in (ratio.before_s, ratio.after_s))
    return of_interval + of_clock


def forest(row: CombinedTimes) -> bytes:
    """Return the forest plot of a row as SVG: the ratio of each machine with its interval, and the mean below."""
    from iommufd_py.results.drawing import Figure
    from iommufd_py.results.plot import name_lines, render
    from iommufd_py.results.scientific import np

    drawn = [one for one in row.ratios if one.low is not None and one.high is not None]
    together = row.mean
    lines: Sequence[tuple[str, float, float, float]] = [
        *((one.runner, one.value, one.low or one.value, one.high or one.value) for one in drawn),
        *([("all machines", together.value, together.low, together.high)] if together else []),
    ]
    named = len(lines) <= _MOST_NAMES
    figure = Figure(figsize=(7, 1.4 + (0.26 * len(lines) if named else 10)), layout="constrained")
    axes = figure.add_subplot()
    values, lows, highs = (np.array([line[at] for line in lines]) for at in (1, 2, 3))
    # An interval much wider than the ratios is cut off.
    lows = np.maximum(lows, values.min() / _DRAWN_FACTOR)
    highs = np.minimum(highs, values.max() * _DRAWN_FACTOR)
    places = np.arange(len(lines))[::-1]
    axes.errorbar(
        values, places, xerr=(values - lows, highs - values), fmt="s", markersize=4, linewidth=1, color="#0072B2"
    )
    if together:
        axes.errorbar(
            values[-1:], places[-1:], xerr=(values[-1:] - lows[-1:], highs[-1:] - values[-1:]), fmt="D", color="#D55E00"
        )
        title = f"{row.operation}, {row.kernel}: I\u00b2 {together.i2:.0%}"
        axes.set_title(name_lines(title, _TITLE_CHARACTERS), fontsize=10)
    axes.axvline(1, color="#777777", linewidth=0.8, linestyle="--")
    names = [name_lines(line[0]) for line in (lines if named else lines[-1:])]
    axes.set_yticks(places if named else places[-1:], names)
    axes.set_xlabel(f"time divided by time on the baseline, with {CONFIDENCE:.0%} interval")
    return render(figure, "svg")
