# SPDX-License-Identifier: MIT
"""Run scenarios, and combine their results into a verdict on each rule."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from iommufd_py.base.errors import IommufdError, SkipError, ToolError, UnsupportedIoctlError
from iommufd_py.host.kernel_log import Splat, scan_kernel_log
from iommufd_py.host.kmsg import KernelLog
from iommufd_py.validate.context import ScenarioContext
from iommufd_py.validate.driver import Driver
from iommufd_py.validate.observer import CountersDisagreeError, Observer
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.steps import ScenarioStep, Violation


class RuleOutcome(StrEnum):
    """Verdict on a scenario or on a rule."""

    KEPT = "kept"
    COUNTS_AGREE = "counts agree"
    """The kernel flushed the right number of pages. Neither the pages nor the time were observed."""
    VIOLATED = "violated"
    REPORTED = "kernel report"
    """The kernel log has a warning or worse."""
    DISAGREES = "counters disagree"
    """The kernel's counters and the trace contradict each other."""
    NOT_OBSERVED = "not observed"
    ERROR = "error"
    """The scenario did not run to its end, so there is no verdict."""


WORST_FIRST = (RuleOutcome.VIOLATED, RuleOutcome.REPORTED, RuleOutcome.DISAGREES, RuleOutcome.ERROR)
"""The outcomes that are failures, the worst first."""


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """The result of one scenario.

    Attributes:
        seconds: duration of the scenario.
        exercised: rules that required a flush in this scenario.
        violations: the violations; empty for any other outcome.
        reason: the reason why it was not observed, or the error.
        reports: reports in the kernel log while the scenario ran.
        steps: the names of the steps that ran, in order.
    """

    scenario: Scenario
    outcome: RuleOutcome
    seconds: float
    exercised: frozenset[int] = frozenset()
    violations: tuple[Violation, ...] = ()
    reason: str = ""
    reports: tuple[Splat, ...] = ()
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of a run.

    Attributes:
        device: the device whose domains were used.
        kernel: release of the kernel.
        flush_symbols: flush functions of the kernel; empty if it does not flush.
        not_observed: the events that cannot be observed on this kernel, with the reason.
        scenarios: the result of each scenario.
        rule_set: ``seed`` or ``refined``, the form of rule 2 that was applied.
        doubts: a sentence for each fact that the verdict assumes but that was not observed.
        counts_suffice: whether agreement of the counters counts as kept.
    """

    device: str
    kernel: str
    flush_symbols: tuple[str, ...]
    not_observed: str
    scenarios: tuple[ScenarioResult, ...]
    rule_set: str = "seed"
    doubts: tuple[str, ...] = ()
    counts_suffice: bool = False

    def rule(self, number: int) -> RuleOutcome:
        """Return the verdict on a rule. It is kept only if it required a flush, and the kernel flushed."""
        if any(violation.rule == number for result in self.scenarios for violation in result.violations):
            return RuleOutcome.VIOLATED
        outcomes = {result.outcome for result in self.scenarios if number in result.exercised}
        for one in (RuleOutcome.COUNTS_AGREE, RuleOutcome.KEPT):
            if one in outcomes:
                return one
        return RuleOutcome.NOT_OBSERVED

    @property
    def outcome(self) -> RuleOutcome:
        """Verdict on the run: the worst of all scenarios; not observed if a selected rule never required a flush."""
        outcomes = {result.outcome for result in self.scenarios}
        for worst in WORST_FIRST:
            if worst in outcomes:
                return worst
        rules = {self.rule(number) for result in self.scenarios for number in result.scenario.rules}
        if rules <= {RuleOutcome.KEPT}:
            return RuleOutcome.KEPT
        return (
            RuleOutcome.COUNTS_AGREE
            if rules <= {RuleOutcome.KEPT, RuleOutcome.COUNTS_AGREE}
            else RuleOutcome.NOT_OBSERVED
        )

    @property
    def is_good(self) -> bool:
        """Whether everything that was selected was observed and is right."""
        return self.passes(self.outcome)

    def passes(self, outcome: RuleOutcome) -> bool:
        """Return whether an outcome is good enough for this run."""
        return outcome is RuleOutcome.KEPT or (outcome is RuleOutcome.COUNTS_AGREE and self.counts_suffice)


def run_scenario(
    scenario: Scenario, driver: Driver, observer: Observer, log: KernelLog | None = None
) -> ScenarioResult:
    """Run one scenario and judge it.

    Args:
        scenario: the scenario.
        driver: supplies the devices.
        observer: records and judges.
        log: the kernel log, whose reports become part of the result; None if it cannot be read.
    """
    start = time.monotonic()

    def result(
        outcome: RuleOutcome, steps: Sequence[ScenarioStep] = (), violations: Sequence[Violation] = (), reason: str = ""
    ) -> ScenarioResult:
        seconds = round(time.monotonic() - start, 3)
        reports = scan_kernel_log(log.text()) if log is not None else ()
        if reports and outcome is not RuleOutcome.VIOLATED:
            outcome = RuleOutcome.REPORTED
            reason = "; ".join((f"the kernel log has a {reports[0].kind}: {reports[0].title}", *filter(None, [reason])))
        names = tuple(step.name for step in steps)
        return ScenarioResult(scenario, outcome, seconds, _exercised(steps), tuple(violations), reason, reports, names)

    if log is not None:
        log.restart()  # An earlier scenario can have printed a report that the kernel prints once.
    try:
        observer.begin()
        with ScenarioContext(driver, observer.probes) as context:
            scenario.play(context)
            recorded = context.recorded()
        violations = [*recorded.violations, *observer.judge(recorded)]
    except (SkipError, UnsupportedIoctlError) as failure:
        return result(RuleOutcome.NOT_OBSERVED, reason=str(failure))
    except CountersDisagreeError as failure:
        return result(RuleOutcome.DISAGREES, reason=str(failure))
    except (ToolError, IommufdError) as failure:
        return result(RuleOutcome.ERROR, reason=str(failure))
    if violations:
        return result(RuleOutcome.VIOLATED, recorded.steps, violations)
    return result(RuleOutcome.KEPT if observer.probes is not None else RuleOutcome.COUNTS_AGREE, recorded.steps)


def _exercised(steps: Iterable[ScenarioStep]) -> frozenset[int]:
    return frozenset(rule for step in steps for rule, pages in ((step.rule, step.enter), (3, step.leave)) if pages)
