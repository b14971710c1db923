# SPDX-License-Identifier: MIT
"""Run the programs of docs/examples that need no device, as their docstrings describe."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from iommufd_py import Iommufd, flush_count
from tests.conftest import need_page_faults
from tests.programs import SEARCH_PATH
from tests.waiting import patience

pytestmark = pytest.mark.mock

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example in this process, which has done the slow imports, and return its output."""

    def run_example(name: str, *arguments: object, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        left = 0
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as end:
            left = int(end.code or 0)
        out = capsys.readouterr().out
        assert left == status, out
        return out

    return run_example


def test_map_memory(run: Run) -> None:
    lines = run("map_memory.py").splitlines()
    assert "mapped 2097152 bytes at 0x10000000" in lines
    assert lines[-1] == "unmapped 2097152 bytes"


def test_errors(run: Run) -> None:
    out = run("errors.py")
    assert "IOMMU_IOAS_MAP EEXIST 65536" in out
    assert "IOMMU_IOAS_UNMAP(ioas_id=" in out


def test_dirty_tracking(run: Run) -> None:
    first, second = run("dirty_tracking.py").splitlines()
    assert first.startswith("3 pages: ")
    assert second == "after the read: 0"


def test_pasid(run: Run) -> None:
    assert run("pasid.py").splitlines()[-1] == "attached: None"


def test_nested(run: Run) -> None:
    assert run("nested.py") == "2 entries invalidated\n"


def test_page_faults(run: Run) -> None:
    need_page_faults()
    lines = run("page_faults.py").splitlines()
    assert lines[0].endswith("wants to WRITE at 0xdeadb000")
    assert lines[1] == "pending: 0"


def test_benchmark(tmp_path: Path) -> None:
    # In a separate process: multiprocessing keeps a helper process and its descriptors.
    command = [sys.executable, EXAMPLES / "benchmark.py", tmp_path / "run.json"]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=patience(60), check=True).stdout
    assert "2048 KiB unmap: " in out
    assert len(json.loads((tmp_path / "run.json").read_text())["rows"]) == 2


def test_validate_in_ci(iommufd: Iommufd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without the series violates rules, or without probes the rules cannot be observed."""
    monkeypatch.setenv("PATH", SEARCH_PATH)
    command = [sys.executable, EXAMPLES / "validate_in_ci.py", tmp_path / "rules.xml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(180), check=False)
    assert done.returncode in ((0, 4) if flush_count(iommufd) is not None else (1, 4)), done.stderr
    if done.stdout:
        assert list(ElementTree.parse(tmp_path / "rules.xml").iter("testcase"))
