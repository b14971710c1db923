# SPDX-License-Identifier: MIT
"""Judge a scenario by the kernel's own counters, which give the number of flushed pages in each step only. Pure."""

from collections.abc import Sequence

from iommufd_py.base.units import counted
from iommufd_py.validate.steps import ScenarioStep, Violation


def judge_counts(steps: Sequence[ScenarioStep], flushed: Sequence[int], *, refined: bool = False) -> list[Violation]:
    """Compare the number of pages flushed in each step with the number that the step asks for.

    Args:
        steps: the steps, in order.
        flushed: pages flushed in each step.
        refined: a joining domain may skip the flush if its IOAS has another non-coherent domain.
    """
    violations = []
    for step, count in zip(steps, flushed, strict=True):
        enter = 0 if refined and step.rule == 2 else len(step.enter)
        least = enter + len(step.leave)
        most = len(step.enter) + len(step.leave) + len(step.may) + 2 * len(step.transient)
        if least <= count <= most:
            continue
        rule = 3 if step.leave and not step.enter else step.rule
        violations.append(
            Violation(rule, step.name, f"{counted(count, 'flushed page')} instead of {_span(least, most)}")
        )
    return violations


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"
