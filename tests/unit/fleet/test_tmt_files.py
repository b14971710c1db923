# SPDX-License-Identifier: MIT
"""The files for tmt, and the results that the tmt test writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.fleet.tmt_files import write_tmt_files

JUNIT = """<?xml version='1.0'?>
<testsuite><testcase name="map one"/><testcase name="b"><failure message="page 3"/></testcase>
<testcase name="c"><error message="e"/></testcase><testcase name="d"><skipped message="no probes"/></testcase>
</testsuite>
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tmt_files(tmp_path / "tree")
    return tmp_path / "tree"


def results(tree: Path, junit: str, status: str) -> list[dict[str, object]]:
    source, target = tree / "junit.xml", tree / "results.json"
    source.write_text(junit)
    subprocess.run([sys.executable, tree / "tests/results.py", source, target, status], check=True)
    return list(json.loads(target.read_text()))


def test_they_make_a_tree_of_tmt(tree: Path) -> None:
    assert {str(one.relative_to(tree)) for one in tree.rglob("*") if one.is_file()} == {
        ".fmf/version",
        "plans/iommufd.fmf",
        "tests/iommufd.fmf",
        "tests/iommufd.sh",
        "tests/results.py",
    }
    assert "test: sh ./iommufd.sh\n" in (tree / "tests/iommufd.fmf").read_text()


def test_nothing_is_overwritten(tree: Path) -> None:
    (tree / "plans/iommufd.fmf").write_text("mine")
    with pytest.raises(ToolError, match=r"plans/iommufd\.fmf already exists"):
        write_tmt_files(tree)
    assert (tree / "plans/iommufd.fmf").read_text() == "mine"


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    """A part of them would be in the way of the next try. The largest file has more than one block."""
    script = (
        "import resource, sys; from pathlib import Path; from iommufd_py.fleet.tmt_files import write_tmt_files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)); write_tmt_files(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "tree"], capture_output=True, text=True, check=False
    )
    assert f"{tmp_path}/tree/tests/results.py cannot be written: File too large" in done.stderr
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


def test_the_plan_asks_for_the_hardware(tree: Path) -> None:
    from labgrid.util.yaml import load

    plan = load((tree / "plans/iommufd.fmf").read_text())
    assert plan["provision"]["hardware"]["iommu"] == {"is-supported": True, "model-name": "intel"}
    test = load((tree / "tests/iommufd.fmf").read_text())
    assert (test["result"], test["check"][0]["how"]) == ("custom", "dmesg")


def test_each_case_is_a_result(tree: Path) -> None:
    assert results(tree, JUNIT, "1") == [
        {"name": "/map_one", "result": "pass"},
        {"name": "/b", "result": "fail", "note": ["page 3"]},
        {"name": "/c", "result": "error", "note": ["e"]},
        {"name": "/d", "result": "skip", "note": ["no probes"]},
    ]


@pytest.mark.parametrize(("status", "result"), [("1", "fail"), ("4", "skip"), ("137", "error")])
def test_an_exit_status_that_is_worse_than_every_case_is_a_result_too(tree: Path, status: str, result: str) -> None:
    """The command can fail after its report, for example when it cannot give the device back."""
    passed = "<testsuite><testcase name='a'/></testsuite>"
    assert [one["result"] for one in results(tree, passed, status)] == ["pass", result]
    assert [one["result"] for one in results(tree, passed, "0")] == ["pass"]


@pytest.mark.parametrize(("status", "result"), [("0", "error"), ("1", "fail"), ("2", "error"), ("4", "skip")])
def test_a_command_that_left_no_junit_has_one_result_that_is_not_good(tree: Path, status: str, result: str) -> None:
    assert results(tree, "", status) == [{"name": "/validate", "result": result, "log": ["validate.log"]}]
