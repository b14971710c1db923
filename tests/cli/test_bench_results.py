# SPDX-License-Identifier: MIT
"""`iommufd bench` on kept results, as people and CI call it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py.results import document
from tests.unit.results.bench_results import result, run
from tests.waiting import patience

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stock(tmp_path: Path) -> str:
    file = tmp_path / "stock.json"
    document.save(result(*(run([one] * 3, [one] * 3) for one in (990, 1000, 1010))), file)
    return str(file)


@pytest.fixture
def patched(tmp_path: Path) -> str:
    file = tmp_path / "patched.json"
    runs = (run([one] * 3, [one] * 3) for one in (1190, 1200, 1210))
    document.save(result(*runs, kernel_variant="patched"), file)
    return str(file)


def test_show_prints_the_figures_and_where_they_come_from(cli: Cli, stock: str) -> None:
    done = cli("bench", "show", stock)
    assert done.returncode == 0
    assert "kernel:    7.3.0 stock" in done.stdout
    assert "coherency: non-coherent by VFIO_DMA_CC_IOMMU=0" in done.stdout
    summary = json.loads(cli("bench", "show", stock, "--json").stdout)
    assert summary["schema"] == "iommufd-bench-summary/1"
    assert [row["median_ns"] for row in summary["rows"]] == [1000, 1000]


def test_threshold_decides_the_exit_status(cli: Cli, stock: str, patched: str) -> None:
    assert cli("bench", "compare", stock, patched).returncode == 0
    assert cli("bench", "compare", stock, patched, "--threshold", "30").returncode == 0
    done = cli("bench", "compare", stock, patched, "--threshold", "10")
    assert done.returncode == 1
    assert "slower" in done.stdout
    assert done.stderr == ""
    # What became faster is no failure.
    assert cli("bench", "compare", patched, stock, "--threshold", "10").returncode == 0


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", "no significant change"),
        ("markdown", "| --- |"),
        ("cover-letter", "n.s.: no significant change"),
        ("json", '"schema": "iommufd-bench-compare/1"'),
    ],
)
def test_every_format_is_printed(cli: Cli, stock: str, form: str, expected: str) -> None:
    done = cli("bench", "compare", stock, stock, "--format", form)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_another_machine_is_refused_in_one_sentence(cli: Cli, stock: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    document.save(result(cpu="Other"), file)
    done = cli("bench", "compare", stock, str(file))
    assert done.returncode == 1
    assert done.stderr.startswith("iommufd: error: the results cannot be compared, they differ in CPU")
    assert cli("bench", "compare", stock, str(file), "--force").returncode == 0


def test_plot_writes_pictures_and_the_page(cli: Cli, stock: str, patched: str, tmp_path: Path) -> None:
    pictures, page = tmp_path / "pictures", tmp_path / "report.html"
    done = cli("bench", "plot", stock, patched, "--directory", str(pictures), "--format", "png", "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in pictures.iterdir()) == ["change-1.png", "distribution.png", "page.png"]
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert cli("bench", "plot", stock).returncode == 2


def test_export_is_read_by_pyperf(cli: Cli, stock: str, tmp_path: Path) -> None:
    file = tmp_path / "pyperf.json"
    file.write_text(cli("bench", "export", stock).stdout)
    command = [str(Path(sys.executable).parent / "pyperf"), "stats", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(60), check=False)
    assert done.returncode == 0, done.stderr
    assert "map: 8K, 4k" in done.stdout
    assert re.search(r"Median \+- MAD: +1.00 us", done.stdout)


def test_nothing_to_time_is_wrong_usage(cli: Cli) -> None:
    done = cli("bench", "run", "--device", "mock", "--size", "4K", "--backing", "thp")
    assert done.returncode == 2
    assert "4K is no multiple of the 2M pages of thp" in done.stderr
