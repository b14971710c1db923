# SPDX-License-Identifier: MIT
"""The checks of each machine, read from its result files: one check for each rule and each step."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import read_file
from iommufd_py.fleet.record import LOG, RunnerRecord, RunnerState, StepRecord, StepState, no_pipe, plain
from iommufd_py.fleet.step_documents import step_document
from iommufd_py.results.document import load_result


class Outcome(StrEnum):
    """The outcome of a check; the worst comes first."""

    VIOLATED = "violated"
    FAILED = "failed"
    LOST = "lost"
    """The machine was lent and stopped answering. Only a violation or a failure that was seen is worse."""
    ERROR = "error"
    """The check did not finish, so nothing good is known about the kernel."""
    NOT_OBSERVED = "not observed"
    COUNTS_AGREE = "counts agree"
    """The kernel flushed the right number of pages. Which pages, and when, was not observed."""
    KEPT = "kept"
    PASSED = "passed"


_RANK = {one: rank for rank, one in enumerate(Outcome)}
BAD = frozenset({Outcome.LOST, Outcome.VIOLATED, Outcome.FAILED, Outcome.ERROR})
GOOD = frozenset({Outcome.KEPT, Outcome.PASSED})

MACHINE = "machine"
"""Name of the check that the machine finished its plan."""
_RULES = ("1", "2", "3")
_SHOWN = 300
_UNREADABLE = (OSError, ValueError, LookupError, RecursionError, MemoryError, ToolError, ElementTree.ParseError)
# Of a log, only the last line is read.
_MOST_LOG_BYTES = 64 << 10
# By the outcome of a rule, of a scenario, or of the whole run in `iommufd validate --json`.
_VALIDATE = {
    "kept": Outcome.KEPT,
    "counts agree": Outcome.COUNTS_AGREE,
    "violated": Outcome.VIOLATED,
    "kernel report": Outcome.FAILED,
    "counters disagree": Outcome.FAILED,
    "not observed": Outcome.NOT_OBSERVED,
    "error": Outcome.ERROR,
}
_EXIT = {0: Outcome.PASSED, 1: Outcome.FAILED, 4: Outcome.NOT_OBSERVED}
# A status of pytest above 1 means that it did not run the tests: 4 is wrong usage.
_EXIT_OF_PYTEST = {0: Outcome.PASSED, 1: Outcome.FAILED}
_STATES = {
    RunnerState.RUNNING: Outcome.LOST,
    RunnerState.DONE: Outcome.PASSED,
    RunnerState.FAILED: Outcome.ERROR,
    RunnerState.LOST: Outcome.LOST,
    RunnerState.NOT_LENT: Outcome.NOT_OBSERVED,
    RunnerState.STOPPED: Outcome.NOT_OBSERVED,
}
_STEP_STATES = {
    StepState.FAILED: (Outcome.ERROR, "the step could not be started, or its results could not be fetched"),
    StepState.TIMED_OUT: (Outcome.FAILED, "the step was stopped at its deadline"),
    StepState.LOST: (Outcome.LOST, "the machine stopped answering"),
    StepState.STOPPED: (Outcome.NOT_OBSERVED, "the run was stopped"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check on one kernel of one machine.

    Attributes:
        kernel: its name in the plan; empty for a check of the machine itself.
        name: ``rule 1`` for example, or the name of a step.
        outcome: how the check ended.
        detail: why the outcome is not good, or how much of the check ran.
        accepted: whether the plan accepts this outcome although it is not good.
        seconds: duration of the check; 0 for a check without a duration of its own.
    """

    kernel: str
    name: str
    outcome: Outcome
    detail: str = ""
    accepted: bool = False
    seconds: float = 0.0

    def __post_init__(self) -> None:
        # The consoles and logs of other machines can hold any byte, but XML, KCIDB and terminals accept text only.
        object.__setattr__(self, "detail", plain(self.detail))

    @property
    def is_good(self) -> bool:
        """Whether the outcome is good, or accepted by the plan."""
        return self.accepted or self.outcome in GOOD


_Reader = Callable[[StepRecord, Path, Outcome], Iterator[Check]]
"""Reads the result files of a step in a folder. The outcome is that of the step's exit status."""


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst of at least one outcome."""
    return min(outcomes, key=_RANK.__getitem__)


def machine_check(record: RunnerRecord) -> Check:
    """Return the check that the machine finished its plan."""
    reason = "its worker ended without a report" if record.state is RunnerState.RUNNING else record.reason
    return Check("", MACHINE, _STATES[record.state], reason)


def checks_of(record: RunnerRecord, folder: Path) -> list[Check]:
    """Return the checks of a machine. Of the repetitions of a check, the worst counts."""
    found: dict[tuple[str, str], Check] = {}
    for step in record.steps:
        for check in _checks_of_step(step, folder / step.folder, compared=record.baseline is not None):
            key = check.kernel, check.name
            known = found.get(key)
            if known is None or _RANK[check.outcome] < _RANK[known.outcome]:
                found[key] = check
    return [machine_check(record), *found.values()]


def _checks_of_step(step: StepRecord, folder: Path, *, compared: bool) -> Iterator[Check]:
    if step.state is not StepState.ENDED:
        outcome, detail = _STEP_STATES[step.state]
        yield from _all_of(step, outcome, detail)
        return
    meaning = _EXIT_OF_PYTEST if step.kind == "pytest" else _EXIT
    outcome = meaning.get(step.exit_status if step.exit_status is not None else -1, Outcome.ERROR)
    if outcome is Outcome.ERROR:
        yield from _all_of(step, outcome, f"exit status {step.exit_status}: {_message(folder)}")
        return
    try:
        if step.kind == "bench" and not compared:  # Otherwise the comparison reads it.
            load_result(no_pipe(folder / "result.json"))
        yield from _READERS[step.kind](step, folder, outcome)
    except _UNREADABLE as failure:
        # Exit status 1 or 4 without a document: the command refused, and its log gives the reason.
        if outcome is Outcome.PASSED:
            yield from _all_of(step, Outcome.ERROR, f"its result cannot be read: {failure}")
        else:
            yield from _all_of(step, outcome, _message(folder))


def _all_of(step: StepRecord, outcome: Outcome, detail: str) -> Iterator[Check]:
    """Yield the same outcome for every check of the step."""
    if step.kind == "validate":
        for number in _RULES:
            yield Check(step.kernel, f"rule {number}", outcome, detail)
    yield Check(step.kernel, step.name, outcome, detail, seconds=step.seconds)


def _message(folder: Path) -> str:
    """Return the last line with text in the log of a step. If the line is an error in JSON, return its message."""
    try:
        if not (folder / LOG).is_file():
            return "the step left no log"  # Or a pipe, which nobody would write to.
        with (folder / LOG).open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - _MOST_LOG_BYTES, 0))
            lines = log.read(_MOST_LOG_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return "the step left no log"
    last = next((line.strip() for line in reversed(lines) if line.strip()), "the log of the step is empty")
    try:
        document = json.loads(last)
        last = str((document.get("error") or document["skipped"])["message"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # The line is plain text.
    return last[:_SHOWN]


def _validate(step: StepRecord, folder: Path, status: Outcome) -> Iterator[Check]:
    document = step_document(no_pipe(folder / "result.json"), "iommufd-validate/1")
    suffice = document["counts_suffice"]
    bad = [one for one in document["scenarios"] if _VALIDATE[one["outcome"]] in BAD]
    for number in _RULES:
        outcome = _VALIDATE[document["rules"][number]]
        if outcome is Outcome.VIOLATED:
            named = [one["name"] for one in bad if any(str(each["rule"]) == number for each in one["violations"])]
            detail = f"by {_listed(named)}"
        else:
            detail = (document["not_observed"] or "") if outcome not in GOOD else ""
        yield Check(step.kernel, f"rule {number}", outcome, detail, suffice and outcome is Outcome.COUNTS_AGREE)
    outcome = _VALIDATE[document["outcome"]]
    if (status is Outcome.FAILED and outcome not in BAD) or (status is Outcome.NOT_OBSERVED and outcome in GOOD):
        raise ValueError(f"the exit status is {step.exit_status}, but the outcome in result.json is {outcome}")
    if bad and outcome not in BAD:
        raise ValueError(
            f"the outcome of {bad[0]['name']} is {bad[0]['outcome']}, but that of result.json is {outcome}"
        )
    detail = f"in {_listed([one['name'] for one in bad])}" if bad else "; ".join(document["doubts"])
    yield Check(step.kernel, step.name, outcome, detail, suffice and outcome is Outcome.COUNTS_AGREE, step.seconds)


def _cases(wrong: str, schema: str) -> _Reader:
    """Return a function that reads a document with cases, each with a verdict."""

    def read(step: StepRecord, folder: Path, status: Outcome) -> Iterator[Check]:
        cases = step_document(no_pipe(folder / "result.json"), schema)["cases"]
        bad = [one["name"] for one in cases if one["verdict"] == wrong]
        outcome = worst((status, Outcome.FAILED)) if bad else status
        yield Check(step.kernel, step.name, outcome, f"in {_listed(bad)}" if bad else "", seconds=step.seconds)

    return read


def _pytest(step: StepRecord, folder: Path, status: Outcome) -> Iterator[Check]:
    cases = list(ElementTree.fromstring(read_file(no_pipe(folder / "result.xml"))).iter("testcase"))
    bad = [one.get("name", "") for one in cases if one.find("failure") is not None or one.find("error") is not None]
    skipped = sum(one.find("skipped") is not None for one in cases)
    if not cases:
        raise ValueError("no test ran")
    if bad:
        status = worst((status, Outcome.FAILED))
    elif skipped == len(cases):
        status = worst((status, Outcome.NOT_OBSERVED))
    detail = f"in {_listed(bad)}" if bad else f"{skipped} of {len(cases)} tests skipped" if skipped else ""
    yield Check(step.kernel, step.name, status, detail, seconds=step.seconds)


def _bench(step: StepRecord, folder: Path, status: Outcome) -> Iterator[Check]:
    (folder / "result.json").stat()
    yield Check(step.kernel, step.name, status, "", seconds=step.seconds)


_READERS: dict[str, _Reader] = {
    "validate": _validate,
    "dma-check": _cases("fail", "iommufd-dma-check/1"),
    "dma-coherency": _cases("wrong", "iommufd-dma-coherency/1"),
    "pytest": _pytest,
    "bench": _bench,
}


def _listed(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
