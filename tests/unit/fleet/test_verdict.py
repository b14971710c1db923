# SPDX-License-Identifier: MIT
"""The verdict on many machines: the worst outcome of each rule, and rules that were not observed."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.fleet import formats
from iommufd_py.fleet.checks import Outcome
from iommufd_py.fleet.record import RunnerState
from iommufd_py.fleet.verdict import judge_run
from tests.unit.fleet.recorded import GOOD, KEPT, LOST, line_of, step, validation, write_machine


def test_all_machines_keep_the_rules(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_machine(tmp_path, name, [GOOD])
    report = judge_run(tmp_path)
    assert (report.outcome, report.exit_status) == (Outcome.PASSED, 0)
    assert line_of(report, "rule 1").outcome is Outcome.KEPT
    assert line_of(report, "rule 1").counts == {Outcome.KEPT: 2}
    assert line_of(report, "machine", "").outcome is Outcome.PASSED


def test_one_machine_that_breaks_a_rule_is_named(tmp_path: Path) -> None:
    rules = KEPT | {"2": "violated"}
    write_machine(tmp_path, "a", [GOOD])
    write_machine(tmp_path, "b", [(step("installed", "validate", status=1), validation(rules, "violated"))])
    report = judge_run(tmp_path)
    assert (report.outcome, report.exit_status) == (Outcome.VIOLATED, 1)
    found = line_of(report, "rule 2")
    assert (found.outcome, found.runners, found.detail) == (Outcome.VIOLATED, ("b",), "by map-2")
    assert line_of(report, "rule 1").outcome is Outcome.KEPT
    assert line_of(report, "rule 3").outcome is Outcome.KEPT


def test_a_rule_that_one_machine_cannot_observe_is_not_kept(tmp_path: Path) -> None:
    unseen = validation(dict.fromkeys(KEPT, "not observed"), "not observed", not_observed="no probes")
    write_machine(tmp_path, "a", [GOOD])
    write_machine(tmp_path, "b", [(step("installed", "validate", status=4), unseen)])
    report = judge_run(tmp_path)
    assert (report.outcome, report.exit_status) == (Outcome.NOT_OBSERVED, 4)
    found = line_of(report, "rule 1")
    assert (found.outcome, found.runners, found.detail) == (Outcome.NOT_OBSERVED, ("b",), "no probes")


@pytest.mark.parametrize("suffice", [False, True])
def test_counts_that_agree_are_as_good_as_the_plan_says(tmp_path: Path, suffice: bool) -> None:
    counted = validation(dict.fromkeys(KEPT, "counts agree"), "counts agree", counts_suffice=suffice)
    write_machine(tmp_path, "a", [(step("installed", "validate", status=0 if suffice else 4), counted)])
    write_machine(tmp_path, "b", [GOOD])
    report = judge_run(tmp_path)
    assert report.exit_status == (0 if suffice else 4)
    assert line_of(report, "rule 1").outcome is Outcome.COUNTS_AGREE, "it is never called kept"


@pytest.mark.parametrize(("allowed", "status"), [(0, 1), (1, 0), (2, 0)])
def test_a_lost_machine_fails_unless_it_is_allowed(tmp_path: Path, allowed: int, status: int) -> None:
    write_machine(tmp_path, "a", [GOOD])
    write_machine(tmp_path, "b", [LOST], state=RunnerState.LOST, reason="Kernel panic - not syncing: x")
    report = judge_run(tmp_path, allowed)
    assert (report.exit_status, report.lost) == (status, ("b",))
    if not allowed:
        assert line_of(report, "rule 1").runners == ("b",)
        assert line_of(report, "machine", "").detail == "Kernel panic - not syncing: x"
    else:
        assert line_of(report, "rule 1").counts == {Outcome.KEPT: 1, Outcome.LOST: 1}


def test_more_lost_machines_than_allowed_fail(tmp_path: Path) -> None:
    write_machine(tmp_path, "a", [GOOD])
    for name in ("b", "c"):
        write_machine(tmp_path, name, [LOST], state=RunnerState.LOST, reason="gone")
    assert judge_run(tmp_path, 1).exit_status == 1
    assert line_of(judge_run(tmp_path, 1), "machine", "").runners == ("b", "c")


def test_a_rule_that_only_lost_machines_should_have_shown_is_not_kept(tmp_path: Path) -> None:
    write_machine(tmp_path, "a", [LOST], state=RunnerState.LOST, reason="gone")
    report = judge_run(tmp_path, 1)
    assert (report.exit_status, line_of(report, "rule 1").outcome) == (4, Outcome.NOT_OBSERVED)


def test_an_allowed_loss_hides_no_violation(tmp_path: Path) -> None:
    write_machine(tmp_path, "a", [LOST], state=RunnerState.LOST, reason="gone")
    violated = validation(KEPT | {"1": "violated"}, "violated")
    write_machine(tmp_path, "b", [(step("installed", "validate", status=1), violated)])
    for allowed in (0, 1):
        found = line_of(judge_run(tmp_path, allowed), "rule 1")
        assert (found.outcome, found.runners) == (Outcome.VIOLATED, ("b",))


STATES = {
    RunnerState.RUNNING: (Outcome.LOST, 1),
    RunnerState.FAILED: (Outcome.ERROR, 1),
    RunnerState.NOT_LENT: (Outcome.NOT_OBSERVED, 4),
    RunnerState.STOPPED: (Outcome.NOT_OBSERVED, 4),
}


@pytest.mark.parametrize("state", STATES)
def test_a_machine_without_results_has_none_that_are_good(tmp_path: Path, state: RunnerState) -> None:
    write_machine(tmp_path, "a", [GOOD])
    write_machine(tmp_path, "b", state=state, reason="for a reason")
    report = judge_run(tmp_path)
    outcome, status = STATES[state]
    assert (report.outcome, report.exit_status) == (outcome, status)
    assert (line_of(report, "rule 3").outcome, line_of(report, "rule 3").runners) == (outcome, ("b",))


JUNIT = "<testsuites><testsuite>{}</testsuite></testsuites>"


STEPS: dict[str, tuple[str, int, Any, Outcome, str]] = {
    "a test that fails": (
        "pytest",
        1,
        JUNIT.format('<testcase name="t"><failure/></testcase><testcase name="u"/>'),
        Outcome.FAILED,
        "in t",
    ),
    "a test that is skipped": (
        "pytest",
        0,
        JUNIT.format('<testcase name="t"><skipped/></testcase><testcase name="u"/>'),
        Outcome.PASSED,
        "1 of 2 tests skipped",
    ),
    "all tests skipped": (
        "pytest",
        0,
        JUNIT.format('<testcase name="t"><skipped/></testcase>'),
        Outcome.NOT_OBSERVED,
        "1 of 1 tests skipped",
    ),
    "no test at all": ("pytest", 5, JUNIT.format(""), Outcome.ERROR, "exit status 5: the last line"),
    "a test file that does not exist": ("pytest", 4, None, Outcome.ERROR, "exit status 4: the last line"),
    "half a file": ("pytest", 0, "<testsuites><testsuite>", Outcome.ERROR, "its result cannot be read: "),
    "wrong data": (
        "dma-check",
        1,
        {"schema": "iommufd-dma-check/1", "cases": [{"name": "write", "verdict": "fail"}]},
        Outcome.FAILED,
        "in write",
    ),
    "a status that the document contradicts": (
        "dma-check",
        0,
        {"schema": "iommufd-dma-check/1", "cases": [{"name": "write", "verdict": "fail"}]},
        Outcome.FAILED,
        "in write",
    ),
    "no document, as the device snoops": ("dma-coherency", 4, None, Outcome.NOT_OBSERVED, "the last line"),
    "a wrong case": (
        "dma-coherency",
        1,
        {"schema": "iommufd-dma-coherency/1", "cases": [{"name": "fresh page", "verdict": "wrong"}]},
        Outcome.FAILED,
        "in fresh page",
    ),
    "wrong usage": ("validate", 2, None, Outcome.ERROR, "exit status 2: the last line"),
    "nothing, with a good status": ("validate", 0, None, Outcome.ERROR, "its result cannot be read: "),
    "a good outcome of a status that says otherwise": ("validate", 4, validation(), Outcome.NOT_OBSERVED, "the last"),
    "a document of another kind": ("validate", 0, {"schema": "iommufd-info/1"}, Outcome.ERROR, "its result cannot be"),
    "a report in the kernel log": ("validate", 1, validation(outcome="kernel report"), Outcome.FAILED, ""),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_step_says_no_more_than_its_files(tmp_path: Path, case: str) -> None:
    kind, status, result, outcome, detail = STEPS[case]
    write_machine(tmp_path, "a", [(step("installed", kind, status=status), result)], log="first\nthe last line\n\n")
    report = judge_run(tmp_path)
    assert line_of(report, kind).outcome is outcome
    (found,) = (one for one in report.runners[0].checks if one.name == kind)
    assert found.detail.startswith(detail)
    if kind == "validate" and outcome is Outcome.ERROR:
        assert line_of(judge_run(tmp_path), "rule 1").outcome is Outcome.ERROR


def test_the_reason_of_a_refusal_is_read_from_its_document(tmp_path: Path) -> None:
    log = '{"schema": "iommufd-error/1", "skipped": {"message": "no tracefs"}}\n'
    write_machine(tmp_path, "a", [(step("installed", "validate", status=4), None)], log=log)
    found = line_of(judge_run(tmp_path), "rule 2")
    assert (found.outcome, found.detail) == (Outcome.NOT_OBSERVED, "no tracefs")


def test_the_worst_repetition_counts(tmp_path: Path) -> None:
    violated = validation(KEPT | {"1": "violated"}, "violated")
    second = step("installed", "validate", repetition=2, status=1), violated
    write_machine(tmp_path, "a", [GOOD, second])
    assert line_of(judge_run(tmp_path), "rule 1").outcome is Outcome.VIOLATED


def test_the_baseline_is_shown_and_not_judged(tmp_path: Path) -> None:
    violated = validation(dict.fromkeys(KEPT, "violated"), "violated")
    steps = [(step("stock", "validate", status=1), violated), (step("patched", "validate"), validation())]
    write_machine(tmp_path, "a", steps, baseline="stock")
    report = judge_run(tmp_path)
    assert report.exit_status == 0
    assert line_of(report, "rule 1", "stock").outcome is Outcome.VIOLATED
    assert not line_of(report, "rule 1", "stock").judged
    assert 'failures="0"' in formats.fleet_junit(report)


def test_a_machine_with_another_version_of_the_tool_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_machine(tmp_path, name, [GOOD])
    write_machine(tmp_path, "c", [GOOD], version="0.9")
    report = judge_run(tmp_path)
    found = line_of(report, "tool version", "")
    assert (report.exit_status, found.outcome, found.runners) == (1, Outcome.ERROR, ("c",))
    assert "it ran version 0.9, the others 1.0" in found.detail


@pytest.mark.parametrize("baseline", [None, "installed"])
def test_a_run_without_a_judged_check_has_not_passed(tmp_path: Path, baseline: str | None) -> None:
    write_machine(tmp_path, "a", [GOOD] if baseline else [], baseline=baseline)
    report = judge_run(tmp_path)
    assert (report.outcome, report.exit_status) == (Outcome.NOT_OBSERVED, 4)


def test_a_machine_whose_record_is_gone_is_not_left_out(tmp_path: Path) -> None:
    write_machine(tmp_path, "a", [GOOD])
    file = write_machine(tmp_path, "b", [GOOD]) / "runner.json"
    record = file.read_bytes()
    file.unlink()
    with pytest.raises(
        ToolError, match=r"/b holds no runner\.json, so its machine would be missing .*: restore the file"
    ):
        judge_run(tmp_path)
    file.write_bytes(record)
    assert judge_run(tmp_path).exit_status == 0


def test_a_copy_of_a_machines_results_is_not_a_second_machine(tmp_path: Path) -> None:
    shutil.copytree(write_machine(tmp_path, "a", [GOOD]), tmp_path / "b")
    with pytest.raises(ToolError) as refused:
        judge_run(tmp_path)
    copy = re.search(r"/a and (\S+/b) are both results of 'a': remove the copy, ", str(refused.value))
    assert copy is not None, refused.value
    shutil.rmtree(copy[1])
    assert judge_run(tmp_path).exit_status == 0


def test_a_step_that_is_recorded_twice_is_damage(tmp_path: Path) -> None:
    """Its benchmark was two repetitions with the same times, which makes an interval too narrow."""
    write_machine(tmp_path, "a", [GOOD])
    file = tmp_path / "a/runner.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "steps": document["steps"] * 2}))
    with pytest.raises(ToolError, match=r"/a/runner\.json is damaged at steps/1: an earlier step has the same kernel"):
        judge_run(tmp_path)


@pytest.mark.parametrize(
    ("subject", "mine", "other", "shown"),
    [("run", "v2", "v3", "the run is 'v2' and 'v3'"), ("baseline", None, "new", "the baseline is None and 'new'")],
)
def test_results_of_two_runs_have_no_verdict(
    tmp_path: Path, subject: str, mine: str | None, other: str, shown: str
) -> None:
    """The verdict ignores the rules of the baseline, so that a wrong one would hide a violation."""
    write_machine(tmp_path, "a", [GOOD], **{subject: mine})
    write_machine(tmp_path, "b", [GOOD], **{subject: other})
    with pytest.raises(ToolError) as refused:
        judge_run(tmp_path)
    other_run = re.search(
        rf"/a and (\S+/b) are of two runs \({shown}\): give the results of one run$", str(refused.value)
    )
    assert other_run is not None, refused.value
    shutil.rmtree(other_run[1])
    judge_run(tmp_path)


def test_the_verdict_names_the_run(tmp_path: Path) -> None:
    write_machine(tmp_path, "a", [GOOD], run="flush-v3")
    report = judge_run(tmp_path)
    assert formats.verdict_sentence(report) == "flush-v3: passed: 1 machine"
    assert formats.fleet_document(report)["run"] == "flush-v3"


def test_a_directory_without_records_is_refused(tmp_path: Path) -> None:
    write_machine(tmp_path / "results", "a", [GOOD])
    with pytest.raises(
        ToolError, match=r"holds no runner\.json: give the directory that 'iommufd fleet run --output' wrote$"
    ):
        judge_run(tmp_path)
    assert judge_run(tmp_path / "results").exit_status == 0
