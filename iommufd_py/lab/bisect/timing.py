# SPDX-License-Identifier: MIT
"""Is a kernel slower than another one? Boots of both in turn, until the interval of the ratio decides. Pure."""

from collections.abc import Sequence

from iommufd_py.lab.bisect.trial import Verdict
from iommufd_py.results.estimate import CONFIDENCE, MIN_UNITS, ratio

MOST_BOOTS = 15
"""Boots of each kernel, after which a commit counts as undecided."""


def decide(reference: Sequence[float], candidate: Sequence[float], threshold: float) -> tuple[Verdict | None, str]:
    """Tell whether *candidate* is slower, from independent times of both: (verdict, evidence).

    The dividing line is half the threshold above the reference. So a kernel that is as fast as the reference and one
    that is slower by the threshold are equally far from it. The verdict is None while the interval of the ratio holds
    the line.
    """
    found = ratio(reference, candidate) if min(len(reference), len(candidate)) >= MIN_UNITS else None
    if found is None or found.low is None or found.high is None:
        return None, f"{len(candidate)} boots"
    line = 1 + threshold / 2
    evidence = (
        f"ratio {found.value:.3f}, {CONFIDENCE:.0%} interval {found.low:.3f} to {found.high:.3f}, of "
        f"{len(candidate)} boots each; the line is {line:.3f}"
    )
    if found.low > line:
        return Verdict.BAD, evidence
    if found.high < line:
        return Verdict.GOOD, evidence
    return None, evidence
