# SPDX-License-Identifier: MIT
"""A run as JSON, KTAP and JUnit. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from iommufd_py.base.coherency import FLUSH_RULES
from iommufd_py.validate.runner import WORST_FIRST, RuleOutcome, ScenarioResult, Validation
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.steps import Violation


def validation_document(result: Validation) -> dict[str, Any]:
    """Return the run as one JSON document."""
    return {
        "schema": "iommufd-validate/1",
        "outcome": str(result.outcome),
        "device": result.device,
        "kernel": result.kernel,
        "flush_symbols": list(result.flush_symbols),
        "not_observed": result.not_observed or None,
        "rule_set": result.rule_set,
        "doubts": list(result.doubts),
        "counts_suffice": result.counts_suffice,
        "rules": {str(number): str(result.rule(number)) for number in FLUSH_RULES},
        "scenarios": [_scenario(verdict) for verdict in result.scenarios],
    }


def list_document(scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """Return the scenarios as one JSON document."""
    rows = [
        {"name": one.name, "rules": list(one.rules), "functions": list(one.functions), "what": one.what, "why": one.why}
        for one in scenarios
    ]
    rules = {str(number): text for number, text in FLUSH_RULES.items()}
    return {"schema": "iommufd-validate-scenarios/1", "rules": rules, "scenarios": rows}


def _scenario(verdict: ScenarioResult) -> dict[str, Any]:
    return {
        "name": verdict.scenario.name,
        "rules": list(verdict.scenario.rules),
        "outcome": str(verdict.outcome),
        "reason": verdict.reason or None,
        "duration_s": verdict.seconds,
        "steps": list(verdict.steps),
        "violations": [_violation(violation) for violation in verdict.violations],
        "kernel_reports": [{"kind": one.kind, "title": one.title, "text": one.text} for one in verdict.reports],
    }


def _violation(violation: Violation) -> dict[str, Any]:
    page = violation.page
    return {
        "rule": violation.rule or None,
        "step": violation.step,
        "what": violation.what,
        "page": None if page is None else {"buffer": page.buffer, "index": page.number},
        "pfn": violation.frame,
        "others": violation.others,
        "history": list(violation.history),
    }


def headline(verdict: ScenarioResult) -> str:
    """Return one line about a scenario that was not kept."""
    if not verdict.violations:
        return verdict.reason or str(verdict.outcome)
    more = len(verdict.violations) - 1
    return f"{verdict.violations[0]}" + (f"; and {more} more violations" if more else "")


def steps_line(verdict: ScenarioResult) -> str:
    """Return one line with the steps of a scenario, for the reader of a random walk."""
    return f"steps: {'; '.join(verdict.steps)}"


def details(verdict: ScenarioResult) -> Iterator[str]:
    """Yield the lines that explain a scenario that was not kept."""
    if verdict.reason:
        yield verdict.reason
    if verdict.steps:
        yield steps_line(verdict)
    for violation in verdict.violations:
        yield str(violation)
        yield from (f"    {line}" for line in violation.history)
    for report in verdict.reports:
        yield from report.text.splitlines()


def _skip_reason(result: Validation, verdict: ScenarioResult) -> str:
    """Return the reason why a scenario neither passed nor failed; empty if it passed or failed."""
    if verdict.outcome in WORST_FIRST or result.passes(verdict.outcome):
        return ""
    return verdict.reason or f"only the counts agree; {result.not_observed}"


def validation_ktap(result: Validation) -> str:
    """Return the run in the format of the kernel's own tests (Documentation/dev-tools/ktap.rst)."""
    lines = ["KTAP version 1", f"1..{len(result.scenarios)}"]
    for number, verdict in enumerate(result.scenarios, 1):
        failed = verdict.outcome in WORST_FIRST
        lines += [f"# {line}" for line in details(verdict) if failed]
        skip = _skip_reason(result, verdict)
        lines.append(
            f"{'not ok' if failed else 'ok'} {number} {verdict.scenario.name}{f' # SKIP {skip}' if skip else ''}"
        )
    return "\n".join(lines)


def validation_junit(result: Validation) -> str:
    """Return the run as JUnit XML, which CI systems read."""
    kinds = [_junit_kind(result, one) for one in result.scenarios]
    suite = ElementTree.Element(
        "testsuite",
        name="iommufd validate",
        tests=str(len(result.scenarios)),
        failures=str(kinds.count("failure")),
        errors=str(kinds.count("error")),
        skipped=str(kinds.count("skipped")),
        time=f"{sum(one.seconds for one in result.scenarios):.3f}",
    )
    for one, kind in zip(result.scenarios, kinds, strict=True):
        name, seconds = one.scenario.name, f"{one.seconds:.3f}"
        case = ElementTree.SubElement(suite, "testcase", classname=result.device, name=name, time=seconds)
        if kind:
            lines = list(details(one)) or [_skip_reason(result, one)]
            ElementTree.SubElement(case, kind, message=lines[0]).text = "\n".join(lines)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def _junit_kind(result: Validation, verdict: ScenarioResult) -> str:
    if verdict.outcome is RuleOutcome.ERROR:
        return "error"
    if verdict.outcome in WORST_FIRST:
        return "failure"
    return "skipped" if _skip_reason(result, verdict) else ""
