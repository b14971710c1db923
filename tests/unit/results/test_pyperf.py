# SPDX-License-Identifier: MIT
"""Results in the format of pyperf."""

import json
from dataclasses import replace
from pathlib import Path

import pyperf
import pytest

from iommufd_py.results.pyperf import left_out, to_pyperf
from tests.unit.results.bench_results import process_run, result


def test_pyperf_reads_what_is_exported(tmp_path: Path) -> None:
    file = tmp_path / "pyperf.json"
    file.write_text(json.dumps(to_pyperf(result())))
    suite = pyperf.BenchmarkSuite.load(str(file))
    assert suite.get_benchmark_names() == ["map: 8K, 4k", "unmap: 8K, 4k"]
    benchmark = suite.get_benchmark("map: 8K, 4k")
    assert benchmark.get_nrun() == 3
    assert benchmark.median() == pytest.approx(2e-6)


def test_an_export_has_the_floor_and_the_limits(tmp_path: Path) -> None:
    """pyperf shows the metadata ('pyperf metadata')."""
    file = tmp_path / "pyperf.json"
    doubtful = result(governor="powersave", config={"KASAN": "y"})
    file.write_text(json.dumps(to_pyperf(replace(doubtful, name="nightly run"))))
    metadata = pyperf.BenchmarkSuite.load(str(file)).get_metadata()
    assert metadata["label"] == "nightly run"
    assert metadata["floor"] == "an ioctl that does nothing takes 110 ns"
    assert [one.partition(":")[0] for one in metadata["limits"].split(" / ")] == ["KASAN", "GOVERNOR"]
    assert "limits" not in to_pyperf(result())["metadata"]


def test_pyperf_gets_the_figures_that_a_comparison_uses() -> None:
    """Two processes of a boot are one figure."""
    runs = [process_run([ns] * 3, [500] * 3, boot=str(ns // 100)) for ns in (1000, 1020, 1100, 1140, 1200, 1260)]
    benchmarks = to_pyperf(result(*runs))["benchmarks"]
    assert [one["values"] for one in benchmarks[0]["runs"]] == [[1.01e-6], [1.12e-6], [1.23e-6]]


def test_pyperf_reads_an_export_although_it_refuses_times_of_zero(tmp_path: Path) -> None:
    coarse = result(*(process_run([ns] * 3, [0] * 3) for ns in (0, 1000, 1010)))
    file = tmp_path / "pyperf.json"
    file.write_text(json.dumps(to_pyperf(coarse)))
    (benchmark,) = pyperf.BenchmarkSuite.load(str(file)).get_benchmarks()
    assert (benchmark.get_name(), benchmark.get_values()) == ("map: 8K, 4k", pytest.approx((1e-6, 1.01e-6)))
    assert [one.partition(",")[0] for one in left_out(coarse)] == ["map of 8K", "unmap of 8K"]
    assert ["1 of 3 figures" in left_out(coarse)[0], "3 of 3 figures" in left_out(coarse)[1]] == [True, True]
    assert left_out(result()) == []
