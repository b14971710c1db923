# SPDX-License-Identifier: MIT
"""Order statistics of samples. Pure, and light enough for an emulated CPU."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Summary", "quantile", "summarize"]


def quantile(ordered: Sequence[int], q: float) -> float:
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


@dataclass(frozen=True, slots=True)
class Summary:
    """What is shown of one operation's samples; times in nanoseconds."""

    count: int
    min_ns: int
    median_ns: float
    p99_ns: float


def summarize(samples_ns: Sequence[int]) -> Summary:
    """Summarize samples in any order.

    Raises:
        ValueError: there are none.
    """
    ordered = sorted(samples_ns)
    return Summary(len(ordered), ordered[0], quantile(ordered, 0.5), quantile(ordered, 0.99))
