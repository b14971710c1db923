# SPDX-License-Identifier: MIT
"""Decide whether a ratio of two times meets its bar.

Blocks of both run in turn, in the order ABBA. A block is compared with its neighbours only, so neither a busy host nor
a slow drift favours one side. The measurement ends when the interval of the ratio lies on one side of the bar. Without
such an end there is no verdict.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from scipy.stats import quantile_test

Block = Callable[[], list[float]]

_CONFIDENCE = 0.99
_FIRST_PAIRS = 20
_LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Interval:
    """A ratio with its interval of 99 %: order statistics of the ratios of neighbours, without a model of the noise."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"x{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def interval(logs: list[float]) -> Interval:
    """Return the interval of the median of ratios from their logarithms."""
    found = quantile_test(logs, p=0.5).confidence_interval(_CONFIDENCE)
    return Interval(*(math.exp(one) for one in (found.low, sorted(logs)[len(logs) // 2], found.high)))


def must_lie_between(low: float, high: float, ours: Block, theirs: Block) -> None:
    """Fail if a median ratio, ours divided by theirs, lies outside of *low* to *high*; skip if it cannot be decided."""
    ours(), theirs()  # The first maps build the page tables.
    logs: list[list[float]] = []
    deadline = time.monotonic() + _LIMIT_SECONDS
    while True:
        for _ in range(_FIRST_PAIRS):
            a, b, c, d = ours(), theirs(), theirs(), ours()
            logs.append([math.log(x * w / (y * z)) / 2 for x, y, z, w in zip(a, b, c, d, strict=True)])
        found = [interval(list(column)) for column in zip(*logs, strict=True)]
        wrong = [one for one in found if one.low > high or one.high < low]
        assert not wrong, f"{wrong[0]} lies outside of {low} to {high}"
        if all(low <= one.low and one.high <= high for one in found):
            return
        if time.monotonic() > deadline:
            ratios = ", ".join(map(str, found))
            pytest.skip(f"the machine is too busy to decide in {_LIMIT_SECONDS} s: {ratios}; bar {low} to {high}")
