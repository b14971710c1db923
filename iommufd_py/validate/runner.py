# SPDX-License-Identifier: MIT
"""Playing scenarios, and what all of them together say of the rules."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from iommufd_py.base.errors import IommufdError, SkipError, ToolError, UnsupportedIoctlError
from iommufd_py.validate.context import Stage
from iommufd_py.validate.driver import Driver
from iommufd_py.validate.judge import Step, Violation
from iommufd_py.validate.observer import Observer
from iommufd_py.validate.scenario import Scenario

RULES = {
    1: "a map into an IOAS with a non-coherent domain flushes each page once, before it enters any domain",
    2: "a non-coherent domain that joins flushes each page before it enters it, wherever the page is from",
    3: "a page that was in a non-coherent domain is flushed after its last unmap and before its unpin",
}


class Outcome(StrEnum):
    """How a scenario ended, and how a rule stands."""

    KEPT = "kept"
    VIOLATED = "violated"
    NOT_OBSERVED = "not observed"
    ERROR = "error"
    """The scenario could not be played to its end; that says nothing good of the kernel."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one scenario showed.

    Attributes:
        exercised: rules by which something had to be flushed.
        violations: empty unless violated.
        reason: why it was not observed, or what went wrong.
    """

    scenario: Scenario
    outcome: Outcome
    seconds: float
    exercised: frozenset[int] = frozenset()
    violations: tuple[Violation, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run showed.

    Attributes:
        device: what the domains were of.
        flush_symbols: functions by which the kernel flushes; none if it does not.
        not_observed: what could not be seen on this kernel.
    """

    device: str
    kernel: str
    flush_symbols: tuple[str, ...]
    not_observed: str
    verdicts: tuple[Verdict, ...]

    def rule(self, number: int) -> Outcome:
        """Return how a rule stands: kept only if something had to be flushed by it, and was."""
        if any(violation.rule == number for verdict in self.verdicts for violation in verdict.violations):
            return Outcome.VIOLATED
        if any(number in verdict.exercised for verdict in self.verdicts if verdict.outcome is Outcome.KEPT):
            return Outcome.KEPT
        return Outcome.NOT_OBSERVED

    @property
    def outcome(self) -> Outcome:
        """The whole: violated if any scenario is, not observed if a rule that was asked for was never put to work."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        for worst in (Outcome.VIOLATED, Outcome.ERROR):
            if worst in outcomes:
                return worst
        asked = {number for verdict in self.verdicts for number in verdict.scenario.rules}
        return Outcome.KEPT if all(self.rule(number) is Outcome.KEPT for number in asked) else Outcome.NOT_OBSERVED


def play(scenario: Scenario, driver: Driver, observer: Observer) -> Verdict:
    """Play one scenario and judge it."""
    start = time.monotonic()

    def verdict(
        outcome: Outcome, steps: Iterable[Step] = (), violations: Sequence[Violation] = (), reason: str = ""
    ) -> Verdict:
        seconds = round(time.monotonic() - start, 3)
        return Verdict(scenario, outcome, seconds, _exercised(steps), tuple(violations), reason)

    try:
        observer.begin()
        with Stage(driver, observer.probes) as stage:
            scenario.play(stage)
            recorded = stage.recorded()
        violations = [*recorded.violations, *observer.judge(recorded)]
    except (SkipError, UnsupportedIoctlError) as failure:
        return verdict(Outcome.NOT_OBSERVED, reason=str(failure))
    except (ToolError, IommufdError) as failure:
        return verdict(Outcome.ERROR, reason=str(failure))
    return verdict(Outcome.VIOLATED if violations else Outcome.KEPT, recorded.steps, violations)


def _exercised(steps: Iterable[Step]) -> frozenset[int]:
    return frozenset(rule for step in steps for rule, pages in ((step.rule, step.enter), (3, step.leave)) if pages)
