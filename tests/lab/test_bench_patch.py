# SPDX-License-Identifier: MIT
"""`iommufd bench patch` boots both kernels of the lab and compares them."""

import subprocess
from pathlib import Path

import pytest

from iommufd_py.results import document
from iommufd_py.results.compare import Verdict, compare
from tests.programs import IOMMUFD
from tests.waiting import patience


def test_both_kernels_are_booted_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = [IOMMUFD, "bench", "patch", "--boots", "1", "--processes", "1"]
    command += ["--kernels", "stock,patched", "--results", str(tmp_path), "--", "--size", "4K", "--values", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(600), check=False)
    assert done.returncode == 0, done.stderr
    assert "round 1 of 1: stock, patched" in done.stderr
    stock, patched = (document.load_result(tmp_path / f"non-coherent-{kernel}.json") for kernel in ("stock", "patched"))
    assert stock.label == "stock"
    # The stock kernel flushes no page, the patched kernel flushes one page at each map.
    assert stock.rows[0].runs[0].operations["map"].flush is None
    flush = patched.rows[0].runs[0].operations["map"].flush
    assert flush is not None and flush.pages == 1
    assert stock.rows[0].runs[0].boot_id != patched.rows[0].runs[0].boot_id
    assert (tmp_path / "non-coherent.txt").read_text() in done.stdout
    assert (tmp_path / "non-coherent.html").read_text().startswith("<!DOCTYPE html>")


def test_native_kernels_measure_in_turns(tmp_path: Path) -> None:
    command = [IOMMUFD, "bench", "patch", "--native", "--boots", "3", "--precision", "100"]
    command += ["--kernels", "stock,patched", "--seconds", "0.2", "--results", str(tmp_path)]
    command += ["--minutes", "20", "--", "--operation", "map", "--size", "2M"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(600), check=False)
    assert done.returncode == 0, done.stderr
    names = ("stock", "patched", "patched-coherent")
    results = [document.load_result(tmp_path / f"native-{name}.json") for name in names]
    rounds = [[run.round_id for run in one.rows[0].runs] for one in results]
    assert rounds[0] == rounds[1] == rounds[2]
    assert len(set(rounds[0])) == len(rounds[0]) >= 3
    # Each slot has other pages, and at least three slots count. All kernels leave out the same ones.
    assert all((run.page_sets or 0) >= 3 for one in results for run in one.rows[0].runs)
    left_out = [[run.discarded for run in one.rows[0].runs] for one in results]
    assert left_out[0] == left_out[1] == left_out[2]
    # The cost of a flush of 2M is far above all noise, and the comparison of each round shows it.
    assert {one.verdict for one in compare(results[0], results[1]).changes} == {Verdict.SLOWER}
    assert list(tmp_path.glob("turns-*")) == []
