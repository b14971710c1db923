# SPDX-License-Identifier: MIT
"""Decide whether a kernel is slower than another one, from the times of boots of both."""

from collections.abc import Sequence

from iommufd_py.base.units import counted
from iommufd_py.lab.bisect.trial import CommitVerdict
from iommufd_py.results.estimate import CONFIDENCE, MIN_UNITS, ratio

MOST_BOOTS = 30
"""Number of boots of each kernel after which a commit counts as undecided."""


def decide(
    reference: Sequence[float], candidate: Sequence[float], threshold: float
) -> tuple[CommitVerdict | None, str]:
    """Decide from times whether *candidate* is slower. Return the verdict and the evidence.

    Times at the same place come from boots that measured in turns.

    The dividing line is half the threshold above the reference. Thus a kernel as fast as the reference and a kernel
    slower by the threshold are equally far from the line. The verdict is None while the interval of the ratio contains
    the line.
    """
    found = ratio(reference, candidate, paired=True) if min(len(reference), len(candidate)) >= MIN_UNITS else None
    if found is None or found.low is None or found.high is None:
        return None, counted(len(candidate), "boot")
    line = 1 + threshold / 2
    evidence = (
        f"ratio {found.value:.3f}, {CONFIDENCE:.0%} interval {found.low:.3f} to {found.high:.3f}, of "
        f"{len(candidate)} boots each; the line is {line:.3f}"
    )
    if found.low > line:
        return CommitVerdict.BAD, evidence
    if found.high < line:
        return CommitVerdict.GOOD, evidence
    return None, evidence
