# SPDX-License-Identifier: MIT
"""The verdict on many machines: the worst outcome of each rule, and rules that were not observed."""

import json
import os
import re
import shutil
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

from iommufd_py.base.errors import ToolError
from iommufd_py.fleet import formats, kcidb
from iommufd_py.fleet.checks import Outcome
from iommufd_py.fleet.html import page_of
from iommufd_py.fleet.record import LOG, KernelFacts, RunnerState, StepState
from iommufd_py.fleet.verdict import CombinedCheck, Report, judge_run
from tests.unit.fleet.recorded import KEPT, step, validation, write_machine

GOOD = (step("installed", "validate"), validation())


def line(report: Report, name: str, kernel: str = "installed") -> CombinedCheck:
    return next(one for one in report.lines if (one.kernel, one.name) == (kernel, name))


def test_all_machines_keep_the_rules(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_machine(tmp_path, name, [GOOD])
    report = judge_run(tmp_path)
    assert (report.outcome, report.exit_status) == (Outcome.PASSED, 0)
    assert line(report, "rule 1").outcome is Outcome.KEPT
    assert line(report, "rule 1").counts == {Outcome.KEPT: 2}
    assert line(report, "machine", "").outcome is Outcome.PASSED


def test_one_machine_that_breaks_a_rule_is_named(tmp_path: Path) -> None:
    rules = KEPT | {"2": "violated"}
    write_machine(tmp_path, "a", [GOOD])
    write_machine(tmp_path, "b", [(step("installed", "validate", status=1), validation(rules, "violated"))])
    report = judge_run(tmp_path)
    assert (report.outcome, report.exit_status) == (Outcome.VIOLATED, 1)
    found = line(report, "rule 2")
    assert (found.outcome, found.runners, found.detail) == (Outcome.VIOLATED, ("b",), "by map-2")
    assert line(report, "rule 1").outcome is Outcome.KEPT
    assert line(report, "rule 3").outcome is Outcome.KEPT


def test_what_one_machine_cannot_observe_is_not_kept(tmp_path: Path) -> None:
    unseen = validation(dict.fromkeys(KEPT, "not observed"), "not observed", not_observed="no probes")
    write_machine(tmp_path, "a", [GOOD])
    write_machine(tmp_path, "b", [(step("installed", "validate", status=4), unseen)])
    report = judge_run(tmp_path)
    assert (report.outcome, report.exit_status) == (Outcome.NOT_OBSERVED, 4)
    found = line(report, "rule 1")
    assert (found.outcome, found.runners, found.detail) == (Outcome.NOT_OBSERVED, ("b",), "no probes")


@pytest.mark.parametrize("suffice", [False, True])
def test_counts_that_agree_are_as_good_as_the_plan_says(tmp_path: Path, suffice: bool) -> None:
    counted = validation(dict.fromkeys(KEPT, "counts agree"), "counts agree", counts_suffice=suffice)
    write_machine(tmp_path, "a", [(step("installed", "validate", status=0 if suffice else 4), counted)])
    write_machine(tmp_path, "b", [GOOD])
    report = judge_run(tmp_path)
    assert report.exit_status == (0 if suffice else 4)
    assert line(report, "rule 1").outcome is Outcome.COUNTS_AGREE, "it is never called kept"


LOST = (step("installed", "validate", StepState.LOST, None), None)


@pytest.mark.parametrize(("allowed", "status"), [(0, 1), (1, 0), (2, 0)])
def test_a_lost_machine_fails_unless_it_is_allowed(tmp_path: Path, allowed: int, status: int) -> None:
    write_machine(tmp_path, "a", [GOOD])
    write_machine(tmp_path, "b", [LOST], state=RunnerState.LOST, reason="Kernel panic - not syncing: x")
    report = judge_run(tmp_path, allowed)
    assert (report.exit_status, report.lost) == (status, ("b",))
    if not allowed:
        assert line(report, "rule 1").runners == ("b",)
        assert line(report, "machine", "").detail == "Kernel panic - not syncing: x"
    else:
        assert line(report, "rule 1").counts == {Outcome.KEPT: 1, Outcome.LOST: 1}


def test_more_lost_machines_than_allowed_fail(tmp_path: Path) -> None:
    write_machine(tmp_path, "a", [GOOD])
    for name in ("b", "c"):
        write_machine(tmp_path, name, [LOST], state=RunnerState.LOST, reason="gone")
    assert judge_run(tmp_path, 1).exit_status == 1
    assert line(judge_run(tmp_path, 1), "machine", "").runners == ("b", "c")


def test_a_rule_that_only_lost_machines_should_have_shown_is_not_kept(tmp_path: Path) -> None:
    write_machine(tmp_path, "a", [LOST], state=RunnerState.LOST, reason="gone")
    report = judge_run(tmp_path, 1)
    assert (report.exit_status, line(report, "rule 1").outcome) == (4, Outcome.NOT_OBSERVED)


def test_an_allowed_loss_hides_no_violation(tmp_path: Path) -> None:
    write_machine(tmp_path, "a", [LOST], state=RunnerState.LOST, reason="gone")
    violated = validation(KEPT | {"1": "violated"}, "violated")
    write_machine(tmp_path, "b", [(step("installed", "validate", status=1), violated)])
    for allowed in (0, 1):
        found = line(judge_run(tmp_path, allowed), "rule 1")
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
    assert (line(report, "rule 3").outcome, line(report, "rule 3").runners) == (outcome, ("b",))


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
    "a document of another kind": ("validate", 0, {"schema": "iommufd-info/1"}, Outcome.ERROR, "its result cannot be"),
    "a report in the kernel log": ("validate", 1, validation(outcome="kernel report"), Outcome.FAILED, ""),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_step_says_no_more_than_its_files(tmp_path: Path, case: str) -> None:
    kind, status, result, outcome, detail = STEPS[case]
    write_machine(tmp_path, "a", [(step("installed", kind, status=status), result)], log="first\nthe last line\n\n")
    report = judge_run(tmp_path)
    assert line(report, kind).outcome is outcome
    (found,) = (one for one in report.runners[0].checks if one.name == kind)
    assert found.detail.startswith(detail)
    if kind == "validate" and outcome is Outcome.ERROR:
        assert line(judge_run(tmp_path), "rule 1").outcome is Outcome.ERROR


def test_the_reason_of_a_refusal_is_read_from_its_document(tmp_path: Path) -> None:
    log = '{"schema": "iommufd-error/1", "skipped": {"message": "no tracefs"}}\n'
    write_machine(tmp_path, "a", [(step("installed", "validate", status=4), None)], log=log)
    found = line(judge_run(tmp_path), "rule 2")
    assert (found.outcome, found.detail) == (Outcome.NOT_OBSERVED, "no tracefs")


def test_the_worst_repetition_counts(tmp_path: Path) -> None:
    violated = validation(KEPT | {"1": "violated"}, "violated")
    second = step("installed", "validate", repetition=2, status=1), violated
    write_machine(tmp_path, "a", [GOOD, second])
    assert line(judge_run(tmp_path), "rule 1").outcome is Outcome.VIOLATED


def test_the_baseline_is_shown_and_not_judged(tmp_path: Path) -> None:
    violated = validation(dict.fromkeys(KEPT, "violated"), "violated")
    steps = [(step("stock", "validate", status=1), violated), (step("patched", "validate"), validation())]
    write_machine(tmp_path, "a", steps, baseline="stock")
    report = judge_run(tmp_path)
    assert report.exit_status == 0
    assert line(report, "rule 1", "stock").outcome is Outcome.VIOLATED
    assert not line(report, "rule 1", "stock").judged
    assert 'failures="0"' in formats.fleet_junit(report)


def test_a_machine_with_another_version_of_the_tool_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_machine(tmp_path, name, [GOOD])
    write_machine(tmp_path, "c", [GOOD], version="0.9")
    report = judge_run(tmp_path)
    found = line(report, "tool version", "")
    assert (report.exit_status, found.outcome, found.runners) == (1, Outcome.ERROR, ("c",))
    assert "it ran version 0.9, the others 1.0" in found.detail


def test_a_damaged_record_is_named_with_the_place(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "a", [GOOD])
    record = json.loads((folder / "runner.json").read_text())
    record["steps"][0]["exit_status"] = "0"
    (folder / "runner.json").write_text(json.dumps(record))
    with pytest.raises(ToolError, match=r"runner\.json is damaged at steps/0/exit_status: '0' is not of type"):
        judge_run(tmp_path)
    record["steps"][0] |= {"exit_status": 0, "seconds": 10**400}
    (folder / "runner.json").write_text(json.dumps(record))
    with pytest.raises(ToolError, match=r"damaged at steps/0/seconds: 1000\S* is outside the maximum"):
        judge_run(tmp_path)


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


@pytest.fixture
def mixed(tmp_path: Path) -> Report:
    """A run with machines that keep a rule, break it, cannot observe it, are lost, or were not lent."""
    write_machine(tmp_path, "spr0", [GOOD])
    write_machine(
        tmp_path, "skx0", [(step("installed", "validate", status=1), validation(KEPT | {"1": "violated"}, "violated"))]
    )
    unseen = validation(dict.fromkeys(KEPT, "not observed"), "not observed", not_observed="no probes # here")
    write_machine(tmp_path, "amd0", [(step("installed", "validate", status=4), unseen)])
    write_machine(tmp_path, "dead0", [LOST], state=RunnerState.LOST, reason="Kernel panic\x00 <&>\nmore")
    write_machine(tmp_path, "runner 5", state=RunnerState.NOT_LENT, reason="the deadline of the run is over")
    return judge_run(tmp_path)


def test_the_document_is_as_its_schema_says(mixed: Report) -> None:
    schema = json.loads((resources.files("iommufd_py.cli") / "schemas" / "iommufd-fleet-report-1.json").read_text())
    document = json.loads(json.dumps(formats.fleet_document(mixed)))
    Draft202012Validator(schema).validate(document)
    assert document["outcome"] == "violated"


def test_junit_has_a_suite_for_each_machine_with_its_name(mixed: Report) -> None:
    suites = {one.get("name"): one for one in ElementTree.fromstring(formats.fleet_junit(mixed)).iter("testsuite")}
    assert set(suites) == {"spr0", "skx0", "amd0", "dead0", "runner 5"}
    assert {case.get("classname") for case in suites["skx0"].iter("testcase")} == {"skx0"}
    kinds = {name: (one.get("failures"), one.get("errors"), one.get("skipped")) for name, one in suites.items()}
    assert kinds == {
        "spr0": ("0", "0", "0"),
        "skx0": ("2", "0", "0"),
        "amd0": ("0", "0", "4"),
        "dead0": ("0", "5", "0"),
        "runner 5": ("0", "0", "5"),
    }


def test_ktap_is_nested_and_counts(mixed: Report) -> None:
    lines = formats.fleet_ktap(mixed).splitlines()
    assert lines[:2] == ["KTAP version 1", "1..5"]
    assert [one for one in lines if not one.startswith(" ")][2:] == [
        "ok 1 amd0",
        "not ok 2 dead0",
        "ok 3 runner_5 # SKIP",
        "not ok 4 skx0",
        "ok 5 spr0",
    ]
    assert "  ok 2 installed:_rule_1 # SKIP not observed no probes # here" in lines
    assert "  # Kernel panic? <&> more" in lines


def test_the_name_of_a_machine_is_no_directive_of_ktap(tmp_path: Path) -> None:
    """A place of labgrid can have any name. As a directive, "# SKIP" would hide the violation from a parser."""
    folder = write_machine(
        tmp_path, "a", [(step("installed", "validate"), validation({**KEPT, "2": "violated"}, "violated"))]
    )
    record = json.loads((folder / "runner.json").read_text())
    (folder / "runner.json").write_text(json.dumps(record | {"name": "a # SKIP\nok 2 b"}))
    assert formats.fleet_ktap(judge_run(tmp_path)).splitlines()[-1] == "not ok 1 a_SKIP_ok_2_b"


def test_kcidb_is_valid_and_says_what_happened(mixed: Report) -> None:
    tests = kcidb.fleet_kcidb(mixed)["tests"]
    rules = {one["environment"]["comment"]: one["status"] for one in tests if one["path"].endswith("rule_1")}
    assert rules == {"amd0": "SKIP", "dead0": "MISS", "runner 5": "SKIP", "skx0": "FAIL", "spr0": "PASS"}
    assert len({one["id"] for one in tests}) == len(tests)


def test_the_page_names_the_machines(mixed: Report) -> None:
    text = page_of(mixed)
    assert "violated: 5 machines, 1 lost" in text
    assert "&lt;&amp;&gt;" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def _report_of(directory: Path, raw: bytes, kind: str = "validate", status: int = 0) -> Report:
    """Return the report on a machine whose step left *raw* as its result."""
    one = step("installed", kind, status=status)
    folder = write_machine(directory, "r1", [(one, None)]) / one.folder
    folder.mkdir(exist_ok=True)
    (folder / f"result.{'xml' if kind == 'pytest' else 'json'}").write_bytes(raw)
    return judge_run(directory)


@pytest.mark.parametrize(
    ("raw", "kind", "reason"),
    [
        (b"[" * 100_000, "validate", "nested too deeply"),
        (b'{"a":' * 100_000, "dma-check", "nested too deeply"),
        (b"9" * 5000, "validate", "is not JSON"),
        (b"[]", "validate", "has the schema None"),
        (
            json.dumps(validation()).replace("{", '{"outcome": "violated", ', 1).encode(),
            "validate",
            "twice",
        ),
        (json.dumps(validation() | {"scenarios": []}).encode(), "validate", "has no case"),
        (json.dumps(validation() | {"scenarios": [1]}).encode(), "validate", "lacks a part"),
        (
            json.dumps(validation(KEPT | {"2": "violated"}, "kept")).encode(),
            "validate",
            "map-2 is violated, but",
        ),
        (b'{"schema": "iommufd-dma-check/1", "cases": []}', "dma-check", "has no case"),
        (b'{"schema": "iommufd-dma-check/1", "cases": {"a": 1}}', "dma-check", "lacks a part"),
        (b'{"schema": "iommufd-dma-coherency/1", "cases": [{"name": 1}]}', "dma-coherency", "lacks a part"),
        (b"<?xml version='1.0' encoding='nonsense'?><a/>", "pytest", "unknown encoding"),
        (b"{}", "bench", "has no schema"),
    ],
)
def test_a_damaged_result_is_an_error_of_its_machine_only(tmp_path: Path, raw: bytes, kind: str, reason: str) -> None:
    """It is never a good outcome, and never the end of the report on the other machines."""
    write_machine(tmp_path, "other", [(step("installed", "validate"), validation())])
    found = _report_of(tmp_path, raw, kind)
    assert found.exit_status == 1
    (line,) = (one for one in found.lines if one.name == kind)
    assert (line.outcome, line.runners) == (Outcome.ERROR, ("r1",))
    assert reason in line.detail


def test_a_pipe_in_place_of_a_log_is_not_waited_for(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "a", [(step("installed", "validate", status=3), None)]) / "installed.1.validate"
    (folder / LOG).unlink()
    os.mkfifo(folder / LOG)
    assert line(judge_run(tmp_path), "validate").detail == "exit status 3: the step left no log"


@pytest.mark.parametrize("kind", ["validate", "dma-check", "dma-coherency", "pytest", "bench"])
@pytest.mark.parametrize("baseline", [None, "stock"])
def test_a_pipe_in_place_of_a_result_is_not_waited_for(tmp_path: Path, kind: str, baseline: str | None) -> None:
    steps = [(step(kernel, kind), None) for kernel in ("stock", "installed")]
    folder = write_machine(tmp_path, "a", steps, baseline=baseline)
    for one, _ in steps:
        os.mkfifo(folder / one.folder / f"result.{'xml' if kind == 'pytest' else 'json'}")
    name = "bench compared" if (kind, baseline) == ("bench", "stock") else kind
    found = line(judge_run(tmp_path), name)
    assert found.outcome is Outcome.ERROR
    assert "is not a regular file" in found.detail


def test_a_pipe_in_place_of_a_record_is_not_waited_for(tmp_path: Path) -> None:
    file = write_machine(tmp_path, "a", [GOOD]) / "runner.json"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ToolError, match="is not a regular file"):
        judge_run(tmp_path)


def test_only_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    folder = write_machine(tmp_path, "r1", [(step("installed", "validate", status=3), None)]) / "installed.1.validate"
    folder.mkdir(exist_ok=True)
    with (folder / LOG).open("wb") as log:
        log.truncate(1 << 40)  # No memory holds so much.
        log.seek(0, 2)
        log.write(b"\nthe last line\n")
    (line,) = (one for one in judge_run(tmp_path).lines if one.name == "validate")
    assert line.detail == "exit status 3: the last line"


def test_texts_of_other_machines_are_plain_in_every_format(tmp_path: Path) -> None:
    kernel = KernelFacts("installed", "\x1b[31m7.3\n\x00", "\x9b1.0")
    write_machine(tmp_path, "r1", [(step("installed", "validate"), validation())])
    file = tmp_path / "r1" / "runner.json"
    document = json.loads(file.read_text())
    document |= {"name": "a\x00b\x1b[2J\ud800", "tags": {"iommu": "\x1b]0;x\x07"}, "kernels": [asdict(kernel)]}
    file.write_text(json.dumps(document))
    found = judge_run(tmp_path)
    reported = json.dumps(kcidb.fleet_kcidb(found), ensure_ascii=False)
    for text in (formats.fleet_junit(found), formats.fleet_ktap(found), page_of(found), reported):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)
    document["started"] = "yesterday"
    file.write_text(json.dumps(document))
    with pytest.raises(ToolError, match="damaged at started: 'yesterday' is not allowed here"):
        judge_run(tmp_path)
