# SPDX-License-Identifier: MIT
"""Playing scenarios, and what all of them together say of the rules."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from iommufd_py.base.errors import IommufdError, SkipError, ToolError, UnsupportedIoctlError
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.driver import Driver
from iommufd_py.validate.judge import ScenarioStep, Violation
from iommufd_py.validate.observer import Observer
from iommufd_py.validate.scenario import Scenario

RULES = {
    1: "a map into an IOAS with a non-coherent domain flushes each page once, before it enters any domain",
    2: "a non-coherent domain that joins flushes each page before it enters it, wherever the page is from",
    3: "a page that was in a non-coherent domain is flushed after its last unmap and before its unpin",
}


class RuleOutcome(StrEnum):
    """How a scenario ended, and how a rule stands."""

    KEPT = "kept"
    VIOLATED = "violated"
    NOT_OBSERVED = "not observed"
    ERROR = "error"
    """The scenario could not be played to its end; that says nothing good of the kernel."""


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """What one scenario showed.

    Attributes:
        exercised: rules by which something had to be flushed.
        violations: empty unless violated.
        reason: why it was not observed, or what went wrong.
    """

    scenario: Scenario
    outcome: RuleOutcome
    seconds: float
    exercised: frozenset[int] = frozenset()
    violations: tuple[Violation, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Validation:
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
    verdicts: tuple[ScenarioResult, ...]

    def rule(self, number: int) -> RuleOutcome:
        """Return how a rule stands: kept only if something had to be flushed by it, and was."""
        if any(violation.rule == number for verdict in self.verdicts for violation in verdict.violations):
            return RuleOutcome.VIOLATED
        if any(number in verdict.exercised for verdict in self.verdicts if verdict.outcome is RuleOutcome.KEPT):
            return RuleOutcome.KEPT
        return RuleOutcome.NOT_OBSERVED

    @property
    def outcome(self) -> RuleOutcome:
        """The whole: violated if any scenario is, not observed if a rule that was asked for was never put to work."""
        outcomes = {verdict.outcome for verdict in self.verdicts}
        for worst in (RuleOutcome.VIOLATED, RuleOutcome.ERROR):
            if worst in outcomes:
                return worst
        asked = {number for verdict in self.verdicts for number in verdict.scenario.rules}
        return (
            RuleOutcome.KEPT
            if all(self.rule(number) is RuleOutcome.KEPT for number in asked)
            else RuleOutcome.NOT_OBSERVED
        )


def play(scenario: Scenario, driver: Driver, observer: Observer) -> ScenarioResult:
    """Play one scenario and judge it."""
    start = time.monotonic()

    def verdict(
        outcome: RuleOutcome, steps: Iterable[ScenarioStep] = (), violations: Sequence[Violation] = (), reason: str = ""
    ) -> ScenarioResult:
        seconds = round(time.monotonic() - start, 3)
        return ScenarioResult(scenario, outcome, seconds, _exercised(steps), tuple(violations), reason)

    try:
        observer.begin()
        with ScenarioContext(driver, observer.probes) as context:
            scenario.play(context)
            recorded = context.recorded()
        violations = [*recorded.violations, *observer.judge(recorded)]
    except (SkipError, UnsupportedIoctlError) as failure:
        return verdict(RuleOutcome.NOT_OBSERVED, reason=str(failure))
    except (ToolError, IommufdError) as failure:
        return verdict(RuleOutcome.ERROR, reason=str(failure))
    return verdict(RuleOutcome.VIOLATED if violations else RuleOutcome.KEPT, recorded.steps, violations)


def _exercised(steps: Iterable[ScenarioStep]) -> frozenset[int]:
    return frozenset(rule for step in steps for rule, pages in ((step.rule, step.enter), (3, step.leave)) if pages)
