# SPDX-License-Identifier: MIT
"""A run as JSON, KTAP and JUnit. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from iommufd_py.validate.judge import Violation
from iommufd_py.validate.runner import RULES, RuleOutcome, ScenarioResult, Validation
from iommufd_py.validate.scenario import Scenario

_FAILED = (RuleOutcome.VIOLATED, RuleOutcome.ERROR)


def validation_document(result: Validation) -> dict[str, Any]:
    """Return the run as one JSON document."""
    return {
        "schema": "iommufd-validate/1",
        "outcome": str(result.outcome),
        "device": result.device,
        "kernel": result.kernel,
        "flush_symbols": list(result.flush_symbols),
        "not_observed": result.not_observed or None,
        "rules": {str(number): str(result.rule(number)) for number in RULES},
        "scenarios": [_scenario(verdict) for verdict in result.verdicts],
    }


def list_document(scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """Return what there is to play as one JSON document."""
    rows = [
        {"name": one.name, "rules": list(one.rules), "functions": list(one.functions), "what": one.what, "why": one.why}
        for one in scenarios
    ]
    return {"schema": "iommufd-validate-scenarios/1", "rules": RULES, "scenarios": rows}


def _scenario(verdict: ScenarioResult) -> dict[str, Any]:
    return {
        "name": verdict.scenario.name,
        "rules": list(verdict.scenario.rules),
        "outcome": str(verdict.outcome),
        "reason": verdict.reason or None,
        "duration_s": verdict.seconds,
        "violations": [_violation(violation) for violation in verdict.violations],
    }


def _violation(violation: Violation) -> dict[str, Any]:
    page = violation.page
    return {
        "rule": violation.rule or None,
        "step": violation.step,
        "what": violation.what,
        "page": None if page is None else {"buffer": page.buffer, "index": page.index},
        "pfn": violation.frame,
        "others": violation.others,
        "story": list(violation.story),
    }


def details(verdict: ScenarioResult) -> Iterator[str]:
    """Yield what is to be said of a scenario that was not kept, line by line."""
    if verdict.reason:
        yield verdict.reason
    for violation in verdict.violations:
        yield str(violation)
        yield from (f"    {line}" for line in violation.story)


def ktap(result: Validation) -> str:
    """Return the run as the kernel's own tests speak (Documentation/dev-tools/ktap.rst)."""
    lines = ["KTAP version 1", f"1..{len(result.verdicts)}"]
    for number, verdict in enumerate(result.verdicts, 1):
        failed = verdict.outcome in _FAILED
        lines += [f"# {line}" for line in details(verdict) if failed]
        skipped = f" # SKIP {verdict.reason}" if verdict.outcome is RuleOutcome.NOT_OBSERVED else ""
        lines.append(f"{'not ok' if failed else 'ok'} {number} {verdict.scenario.name}{skipped}")
    return "\n".join(lines)


def junit(result: Validation) -> str:
    """Return the run as CI systems read it."""
    count = {outcome: sum(one.outcome is outcome for one in result.verdicts) for outcome in RuleOutcome}
    suite = ElementTree.Element(
        "testsuite",
        name="iommufd validate",
        tests=str(len(result.verdicts)),
        failures=str(count[RuleOutcome.VIOLATED]),
        errors=str(count[RuleOutcome.ERROR]),
        skipped=str(count[RuleOutcome.NOT_OBSERVED]),
        time=f"{sum(one.seconds for one in result.verdicts):.3f}",
    )
    elements = {RuleOutcome.VIOLATED: "failure", RuleOutcome.ERROR: "error", RuleOutcome.NOT_OBSERVED: "skipped"}
    for one in result.verdicts:
        name, seconds = one.scenario.name, f"{one.seconds:.3f}"
        case = ElementTree.SubElement(suite, "testcase", classname=result.device, name=name, time=seconds)
        if one.outcome in elements:
            lines = list(details(one))
            ElementTree.SubElement(case, elements[one.outcome], message=lines[0]).text = "\n".join(lines)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
