# SPDX-License-Identifier: MIT
"""Statistics of samples, without libraries that take seconds to import on an emulated CPU."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

# Tukey's outer fence.
_FAR_OUT = 3.0
# Two blocks of a warm-up agree if their medians differ by at most this fraction.
_SETTLED = 0.02
# A sample is the difference of two readings in whole nanoseconds. Equal times differ by up to this.
_ROUNDING_NS = 1
# The steps of the clock are seen if at least this number and this share of the samples equal the median.
_MIN_EQUAL, _EQUAL_SHARE = 3, 0.05


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the *q* quantile, 0 to 1, of samples in ascending order, interpolated linearly (Hyndman and Fan's type 7).

    Raises:
        ValueError: there are no samples.
    """
    if not ordered:
        raise ValueError("no samples")
    position = q * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(samples: Sequence[float]) -> float:
    """Return the median of samples in any order.

    Raises:
        ValueError: there are no samples.
    """
    return quantile(sorted(samples), 0.5)


def variance(samples: Sequence[float]) -> float:
    """Return the variance of at least two samples, with n - 1 in the denominator."""
    mean = fmean(samples)
    return sum((one - mean) ** 2 for one in samples) / (len(samples) - 1)


@dataclass(frozen=True, slots=True)
class Summary:
    """The samples of one operation, summarized; times in nanoseconds.

    Attributes:
        run_medians_ns: median of each process.
        outliers: number of samples above the third quartile by more than three interquartile ranges. They are included.
    """

    count: int
    min_ns: int
    median_ns: float
    p90_ns: float
    p99_ns: float
    p999_ns: float
    max_ns: int
    outliers: int
    run_medians_ns: tuple[float, ...]

    @property
    def low_ns(self) -> float:
        """The lowest median of a process.

        With R processes, the interval from this to :attr:`high_ns` contains the median over all possible processes with
        probability 1 - 2**(1 - R) for any distribution: 94 % with 5, 99.8 % with 10.
        """
        return min(self.run_medians_ns)

    @property
    def high_ns(self) -> float:
        """The highest median of a process."""
        return max(self.run_medians_ns)

    @property
    def spread(self) -> float:
        """Width of the interval, divided by the median."""
        return (self.high_ns - self.low_ns) / self.median_ns if self.median_ns else 0.0


def summarize(runs_ns: Sequence[Sequence[int]]) -> Summary:
    """Summarize samples of several processes. The quantiles are those of all samples together.

    Raises:
        ValueError: there are no samples.
    """
    ordered = sorted(sample for run in runs_ns for sample in run)
    q1, q3 = quantile(ordered, 0.25), quantile(ordered, 0.75)
    fence = q3 + _FAR_OUT * (q3 - q1)
    return Summary(
        count=len(ordered),
        min_ns=ordered[0],
        median_ns=quantile(ordered, 0.5),
        p90_ns=quantile(ordered, 0.9),
        p99_ns=quantile(ordered, 0.99),
        p999_ns=quantile(ordered, 0.999),
        max_ns=ordered[-1],
        outliers=sum(sample > fence for sample in ordered),
        run_medians_ns=tuple(median(run) for run in runs_ns if len(run)),
    )


def settled(before: Sequence[int], after: Sequence[int]) -> bool:
    """Return whether the medians of two successive blocks of samples differ by at most 2 %."""
    first, second = median(before), median(after)
    return abs(second - first) <= _SETTLED * first


def blur_ns(ordered: Sequence[int], middle: float) -> float:
    """Return half a step of the clock, from the samples next to the median; 0 if no steps are seen.

    A time between two steps is rounded to the nearer one. With a coarse clock all medians can be equal, and their
    scatter says nothing about this error. A single sample next to the median is no step, but an outlier.
    """
    first, end = bisect_left(ordered, middle - _ROUNDING_NS), bisect_right(ordered, middle + _ROUNDING_NS)
    if end - first < max(_MIN_EQUAL, _EQUAL_SHARE * len(ordered)):
        return 0.0
    steps = [
        abs(middle - next_to[0])
        for next_to in (ordered[first - 2 : first] if first >= 2 else [], ordered[end : end + 2])
        if len(next_to) == 2 and next_to[1] - next_to[0] <= _ROUNDING_NS
    ]
    step = min(steps, default=0)
    # On a clock of 1 ns, the next sample is 2 ns away from the median, too.
    return step / 2 + _ROUNDING_NS if step > 2 * _ROUNDING_NS else 0.0
