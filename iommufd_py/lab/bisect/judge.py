# SPDX-License-Identifier: MIT
"""The command that a guest runs to answer a question, and the verdict from its output."""

import json
from statistics import median
from typing import Any

from iommufd_py.base.units import counted
from iommufd_py.lab.bisect.trial import OPERATIONS, CommitVerdict, Kind, Question
from iommufd_py.lab.runs import RunResult
from iommufd_py.results.model import Workload

_GOOD = ("kept", "counts agree")
_BAD = ("violated", "kernel report", "counters disagree")
_SHOWN = 160
# pytest's exit status for failed tests. Every other status, except 0, means that there is no result.
_TESTS_FAILED = 1


def guest_command(question: Question) -> list[str]:
    """Return the command that answers the question in a guest."""
    match question.kind:
        case Kind.RULE:
            return ["iommufd", "validate", "--json"]
        case Kind.SCENARIO:
            return ["iommufd", "validate", "--json", "--only", question.subject]
        case Kind.TEST:
            return ["pytest", "-q", "-rf", question.subject]
        case Kind.BENCH:
            operation, size = question.timing
            workload = OPERATIONS[operation]
            options = ["--operation", workload.value, "--size", str(size), "--processes", "1"]
            # Only a memfd has a descriptor for IOMMU_IOAS_MAP_FILE.
            options += ["--backing", "memfd"] if workload is Workload.MAP_FILE else []
            return ["iommufd", "bench", "run", "--device", "mock", *options, "--seconds", "3", "--no-retry", "--json"]


def judge_commit(question: Question, result: RunResult, output: str) -> tuple[CommitVerdict, str]:
    """Return the verdict on a commit, with the evidence in one line.

    Args:
        question: a question that is not a timing.
        result: the run of the guest.
        output: the output of the command.
    """
    if question.kind is Kind.TEST:
        return _of_test(result, output)
    document = _document(output)
    if document is None:
        return CommitVerdict.SKIP, f"no answer: {_trouble(result)}"
    return _of_rule(document, question.subject) if question.kind is Kind.RULE else _of_scenario(document)


def median_ns(question: Question, result: RunResult, output: str) -> tuple[float | None, str]:
    """Return the median time of the question's operation in one boot, or None and the reason."""
    document = _document(output)
    if document is None or not document["rows"]:
        return None, _trouble(result)
    return median_of_document(question, document), ""


def median_of_document(question: Question, document: Any) -> float:
    """Return the median time of the question's operation in the result of `bench run`."""
    operation, _ = question.timing
    return float(median(document["rows"][0]["runs"][0]["operations"][operation]["ns"]))


def _of_test(result: RunResult, output: str) -> tuple[CommitVerdict, str]:
    lines = [line for line in output.splitlines() if line.strip()]
    last = lines[-1].strip("= ") if lines else "no output"
    if result.status == 0:
        # pytest also exits with 0 if it skips every test.
        return (CommitVerdict.GOOD if " passed" in f" {last}" else CommitVerdict.SKIP), _short(last)
    if result.status == _TESTS_FAILED:
        failed = next((line for line in lines if line.startswith("FAILED ")), last)
        return CommitVerdict.BAD, _short(failed)
    if result.splats and result.failure is None:
        return CommitVerdict.BAD, _trouble(result)
    return CommitVerdict.SKIP, _short(f"{_trouble(result)}: {last}")


def _of_rule(document: dict[str, Any], number: str) -> tuple[CommitVerdict, str]:
    outcome = document["rules"][number]
    scenarios = document["scenarios"]
    if outcome in _GOOD:
        return CommitVerdict.GOOD, f"rule {number}: {outcome}, {counted(len(scenarios), 'scenario')}"
    broken = [
        (scenario["name"], violation)
        for scenario in scenarios
        for violation in scenario["violations"]
        if str(violation["rule"]) == number
    ]
    if outcome in _BAD and broken:
        name, first = broken[0]
        names = {name for name, _ in broken}
        return CommitVerdict.BAD, _short(
            f"rule {number}: {outcome} in {len(names)} of {counted(len(scenarios), 'scenario')}; {name}: "
            f"{first['step']}: {first['what']}"
        )
    return CommitVerdict.SKIP, _short(f"rule {number}: {outcome}: {document['not_observed'] or 'see the scenarios'}")


def _of_scenario(document: dict[str, Any]) -> tuple[CommitVerdict, str]:
    for one in document["scenarios"]:
        if one["outcome"] in _BAD:
            first = one["violations"][0] if one["violations"] else None
            why = f"{first['step']}: {first['what']}" if first else one["reason"]
            return CommitVerdict.BAD, _short(f"{one['name']}: {one['outcome']}: {why}")
    for one in document["scenarios"]:
        if one["outcome"] not in _GOOD:
            return CommitVerdict.SKIP, _short(f"{one['name']}: {one['outcome']}: {one['reason']}")
    return CommitVerdict.GOOD, ", ".join(f"{one['name']}: {one['outcome']}" for one in document["scenarios"][:3])


def _document(output: str) -> dict[str, Any] | None:
    try:
        document = json.loads(output)
    except json.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _trouble(result: RunResult) -> str:
    return _short(result.problem or f"exit status {result.status}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
