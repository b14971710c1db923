# SPDX-License-Identifier: MIT
"""Damaged files, pipes and endless logs among the results of many machines."""

import json
import os
from pathlib import Path

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.fleet.checks import Outcome
from iommufd_py.fleet.record import LOG
from iommufd_py.fleet.verdict import Report, judge_run
from tests.unit.fleet.recorded import GOOD, KEPT, line_of, step, validation, write_machine


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
    assert line_of(judge_run(tmp_path), "validate").detail == "exit status 3: the step left no log"


@pytest.mark.parametrize("kind", ["validate", "dma-check", "dma-coherency", "pytest", "bench"])
@pytest.mark.parametrize("baseline", [None, "stock"])
def test_a_pipe_in_place_of_a_result_is_not_waited_for(tmp_path: Path, kind: str, baseline: str | None) -> None:
    steps = [(step(kernel, kind), None) for kernel in ("stock", "installed")]
    folder = write_machine(tmp_path, "a", steps, baseline=baseline)
    for one, _ in steps:
        os.mkfifo(folder / one.folder / f"result.{'xml' if kind == 'pytest' else 'json'}")
    name = "bench compared" if (kind, baseline) == ("bench", "stock") else kind
    found = line_of(judge_run(tmp_path), name)
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
