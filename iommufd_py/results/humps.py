# SPDX-License-Identifier: MIT
"""Find samples that form two groups with a gap between them. A median then jumps between the groups."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iommufd_py.results.stats import quantile

# Fewer samples have gaps by chance.
_MIN_SAMPLES = 50
# More order statistics than these do not change the answer.
_MAX_SAMPLES = 1000
# Each group has at least this share of the samples. The upper group lies at least by this factor above the lower one.
_MIN_SHARE = 0.1
_MIN_DISTANCE = math.log(1.10)
# The middle third between the groups holds at most this fraction of the samples of the smaller group.
_VALLEY = 0.25


@dataclass(frozen=True, slots=True)
class Humps:
    """Two groups of samples.

    Attributes:
        low_ns, high_ns: medians of the lower and the upper group.
        upper: share of the samples in the upper group, 0 to 1.
    """

    low_ns: float
    high_ns: float
    upper: float


def two_humps(samples_ns: Sequence[int]) -> Humps | None:
    """Return the two groups of *samples_ns*, or None if there is one group.

    The samples are split where the variance between the two parts is largest (Otsu 1979, "A threshold selection method
    from gray-level histograms"), on a logarithmic scale. The parts are groups if few samples lie between their medians.
    """
    if len(samples_ns) < _MIN_SAMPLES:
        return None
    ordered = sorted(samples_ns)
    if len(ordered) > _MAX_SAMPLES:
        ordered = [round(quantile(ordered, at / (_MAX_SAMPLES - 1))) for at in range(_MAX_SAMPLES)]
    logs = [math.log(max(ns, 1)) for ns in ordered]
    split = _split(logs)
    below, above = quantile(logs[:split], 0.5), quantile(logs[split:], 0.5)
    third = (above - below) / 3
    if above - below < _MIN_DISTANCE:
        return None

    def around(centre: float) -> int:
        return sum(abs(log - centre) <= third / 2 for log in logs)

    if around((below + above) / 2) > _VALLEY * min(around(below), around(above)):
        return None
    # The split can lie inside a group. The gap decides the division.
    upper = sum(log > (below + above) / 2 for log in logs) / len(logs)
    return Humps(math.exp(below), math.exp(above), upper) if _MIN_SHARE <= upper <= 1 - _MIN_SHARE else None


def humps_of_runs(runs_ns: Sequence[Sequence[int]]) -> list[Humps | None]:
    """Return the two groups of the samples of each process, or None for one group.

    The samples of a large mapping are few in each process. Such processes get the groups of all samples together, if
    at least half of the processes have samples in both groups. Otherwise only the processes differ.
    """
    own = [two_humps(samples) for samples in runs_ns]
    if all(len(samples) >= _MIN_SAMPLES for samples in runs_ns):
        return own
    together = two_humps([ns for samples in runs_ns for ns in samples])
    if together is None:
        return own
    gap = math.sqrt(together.low_ns * together.high_ns)
    mixed = sum(min(samples) < gap < max(samples) for samples in runs_ns)
    if 2 * mixed < len(runs_ns):
        return own
    return [together if len(samples) < _MIN_SAMPLES else one for samples, one in zip(runs_ns, own, strict=True)]


def _split(logs: Sequence[float]) -> int:
    total, count = sum(logs), len(logs)
    left, best, split = 0.0, -1.0, count // 2
    first = max(int(count * _MIN_SHARE), 1)
    for at, log in enumerate(logs[: count - first], 1):
        left += log
        if at < first:
            continue
        distance = left / at - (total - left) / (count - at)
        between = at * (count - at) * distance * distance
        if between > best:
            best, split = between, at
    return split
