# SPDX-License-Identifier: MIT
"""The report on many machines in each of its formats."""

import json
import re
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

from iommufd_py.base.errors import ToolError
from iommufd_py.fleet import formats, kcidb
from iommufd_py.fleet.html import page_of
from iommufd_py.fleet.record import KernelFacts, RunnerState
from iommufd_py.fleet.verdict import Report, judge_run
from tests.unit.fleet.recorded import GOOD, KEPT, LOST, step, validation, write_machine


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


def test_every_id_of_kcidb_is_unique(tmp_path: Path) -> None:
    """labgrid accepts any name of a place, and `uname -r` of a tree with changes ends with a plus."""
    for number, name in enumerate(("rack 1", "rack#1", "rack_1", "rack/1", "rack%201", "\u4e00", "\u4e8c")):
        folder = write_machine(tmp_path, f"m{number}", [GOOD, (step("a_b", "validate", name="x.y"), validation())])
        record = json.loads((folder / "runner.json").read_text())
        kernels = [{"name": "installed", "release": "7.3.0"}, {"name": "a_b", "release": "7.3.0+"}]
        kernels = [one | {"tool_version": "1.0"} for one in kernels]
        (folder / "runner.json").write_text(json.dumps(record | {"name": name, "kernels": kernels}))
    found = kcidb.fleet_kcidb(judge_run(tmp_path))
    for kind, expected in (("checkouts", 2), ("builds", 2), ("tests", 7 * 9)):
        assert len({one["id"] for one in found[kind]}) == len(found[kind]) == expected + (kind != "tests")


@pytest.mark.parametrize("name", ["a..b", "a.", "a-.-b", "7.3.1"])
def test_every_name_of_a_kernel_and_of_a_step_makes_a_path_of_kcidb(tmp_path: Path, name: str) -> None:
    write_machine(tmp_path, "a", [(step(name, "validate", name=name), validation())])
    paths = [one["path"] for one in kcidb.fleet_kcidb(judge_run(tmp_path))["tests"]]
    assert all(one.count(".") == 3 for one in paths[1:])


def test_the_same_plan_has_other_ids_of_kcidb_in_its_next_run(tmp_path: Path) -> None:
    ids = []
    for day in ("25", "26"):
        folder = write_machine(tmp_path / day, "a", [GOOD])
        record = json.loads((folder / "runner.json").read_text())
        (folder / "runner.json").write_text(json.dumps(record | {"started": f"2026-11-{day}T22:00:00+00:00"}))
        write_machine(tmp_path / day, "b", state=RunnerState.NOT_LENT)
        record = json.loads((tmp_path / day / "b/runner.json").read_text())
        (tmp_path / day / "b/runner.json").write_text(json.dumps(record | {"started": ""}))
        ids += [one["id"] for one in kcidb.fleet_kcidb(judge_run(tmp_path / day))["tests"]]
    assert len(set(ids)) == len(ids) == 20


def test_the_page_names_the_machines(mixed: Report) -> None:
    text = page_of(mixed)
    assert "violated: 5 machines, 1 lost" in text
    assert "&lt;&amp;&gt;" in text
    assert "http" not in text.replace("http://www.w3.org", "")


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
