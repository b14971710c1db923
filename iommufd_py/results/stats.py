# SPDX-License-Identifier: MIT
"""Statistics of samples, without libraries that take seconds to import on an emulated CPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

# Tukey's outer fence.
_FAR_OUT = 3.0
# Two blocks of a warm-up agree if their medians differ by at most this fraction.
_SETTLED = 0.02


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
