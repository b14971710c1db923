# SPDX-License-Identifier: MIT
"""`iommufd bench patch` boots both kernels of the lab and compares them."""

import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.results import document
from tests.waiting import patience


def test_both_kernels_are_booted_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = [str(Path(sys.prefix, "bin/iommufd")), "bench", "patch", "--boots", "1", "--processes", "1"]
    command += ["--kernels", "stock,patched", "--results", str(tmp_path), "--", "--size", "4K", "--values", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(600), check=False)
    assert done.returncode == 0, done.stderr
    assert "boot 2 of 2: patched" in done.stderr
    stock, patched = (document.load_result(tmp_path / f"non-coherent-{kernel}.json") for kernel in ("stock", "patched"))
    assert stock.label == "stock"
    # The stock kernel flushes no page, the patched kernel flushes one page at each map.
    assert stock.rows[0].runs[0].operations["map"].flush is None
    flush = patched.rows[0].runs[0].operations["map"].flush
    assert flush is not None and flush.pages == 1
    assert stock.rows[0].runs[0].boot_id != patched.rows[0].runs[0].boot_id
    assert (tmp_path / "non-coherent.txt").read_text() in done.stdout
    assert (tmp_path / "non-coherent.html").read_text().startswith("<!DOCTYPE html>")
