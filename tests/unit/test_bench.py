# SPDX-License-Identifier: MIT
import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import CoherencyEvidence, FlushCount, ToolError
from iommufd_py.bench import model, report
from iommufd_py.bench.stats import quantile, summarize
from iommufd_py.sysinfo import Environment


def result(
    *,
    dma_cc: bool = False,
    platform: str = "tcg",
    pinned: int = 8192,
    counts: bool = False,
    runs: int | None = 2,
    knob: bool | None = None,
) -> model.BenchResult:
    flushes = (FlushCount(1, 2), FlushCount(2, 2)) if counts else (None, None)
    return model.BenchResult(
        tool_version="0",
        command=("iommufd", "bench", "run"),
        started="2026-01-01T00:00:00+00:00",
        environment=Environment("7.3.0", "stock", platform, "q35", "CPU", 2, "quiet", knob, ("KASAN",)),
        target=model.Target("0000:00:10.0", "INTEL_VTD", 0xD2, CoherencyEvidence(dma_cc, None), 1),
        floor_ns=(100, 110, 120),
        rows=(
            model.Row(8192, "4k", 1 << 32, pinned, runs, {4096: 2}, *flushes, 3, (1000, 3000, 2000), (500, 400, 600)),
        ),
    )


@given(st.lists(st.integers(0, 1 << 40), min_size=2))
def test_quantiles_are_those_of_the_standard_library(samples: list[int]) -> None:
    percentiles = statistics.quantiles(samples, n=100, method="inclusive")
    ordered = sorted(samples)
    assert quantile(ordered, 0.5) == pytest.approx(statistics.median(samples))
    assert quantile(ordered, 0.99) == pytest.approx(percentiles[98])
    assert quantile(ordered, 0) == min(samples)
    assert quantile(ordered, 1) == max(samples)


def test_no_samples_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


def test_summary_takes_samples_in_any_order() -> None:
    summary = summarize([3000, 1000, 2000])
    assert (summary.count, summary.min_ns, summary.median_ns) == (3, 1000, 2000)


@pytest.mark.parametrize("counts", [False, True])
def test_run_survives_its_file(tmp_path: Path, counts: bool) -> None:
    file = tmp_path / "run.json"
    model.save(result(counts=counts), file)
    assert model.load(file) == result(counts=counts)
    document = json.loads(file.read_text())
    assert document["schema"] == "iommufd-bench/1"
    assert document["target"]["coherency"] == "non-coherent"
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]


def test_table_shows_each_operation_per_page() -> None:
    rows = report.table(result())
    assert rows[0] == ("8K", "4k", "2", "2x4K", "map", "3", "1 us", "2 us", "2.98 us", "1000.0", "3.81", "-")
    assert [row[4] for row in rows] == ["map", "unmap"]


def test_comparison_keeps_shared_sizes_only() -> None:
    headings, rows = report.comparison([result(counts=True), result(dma_cc=True)])
    assert headings == ("size", "backing", "operation", "stock non-coherent", "flush", "stock coherent", "flush")
    assert rows == [
        ("8K", "4k", "map", "2 us", "1, 1.00", "2 us", "-"),
        ("8K", "4k", "unmap", "500 ns", "2, 1.00", "500 ns", "-"),
    ]


def test_comparison_of_unequal_work_says_so() -> None:
    assert report.comparison_warnings([result(), result()]) == []
    assert report.comparison_warnings([result(runs=1), result(runs=2)]) == [
        "8K: the buffers lay in 1, 2 physical runs: unequal work"
    ]
    assert len(report.comparison_warnings([result(), result(runs=None)])) == 1


def test_warnings_name_what_spoils_the_figures() -> None:
    assert report.warnings(result()) == [
        "emulated: compare within this table only",
        "the kernel was built with CONFIG_KASAN, which slows these paths",
    ]
    assert "test_noncoherent_hwpt" in report.warnings(result(knob=True))[1]
    assert len(report.warnings(result(knob=False))) == 2
    assert report.warnings(result(platform="bare metal", pinned=4096))[-1] == "8K: only 4K were pinned by the map"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "is no JSON"),
        ("[]", "has the schema None"),
        ('{"schema": "iommufd-bench/99"}', "has the schema 'iommufd-bench/99'"),
        ('{"schema": "iommufd-bench/1"}', "is damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(ToolError, match=reason):
        model.load(file)


def test_absent_and_unwritable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot be read"):
        model.load(tmp_path / "absent.json")
    with pytest.raises(ToolError, match="cannot be written"):
        model.save(result(), tmp_path / "no" / "such" / "run.json")
