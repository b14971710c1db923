# SPDX-License-Identifier: MIT
"""Benchmarks of many machines: the ratio of each machine, and their mean."""

import json
import math
import random
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from iommufd_py.fleet import formats, kcidb
from iommufd_py.fleet.checks import Outcome
from iommufd_py.fleet.combined_times import CombinedTimes, Ratio, forest, mean
from iommufd_py.fleet.html import page_of
from iommufd_py.fleet.record import StepState
from iommufd_py.fleet.verdict import judge_run
from iommufd_py.results.model import BenchResult
from tests.unit.fleet.recorded import step, write_machine
from tests.unit.results.bench_results import process_run, result


def ratio(value: float, width: float, runner: str = "a") -> Ratio:
    return Ratio(runner, value, value / width, value * width, 1e-6, value * 1e-6)


def bench(
    scale: float, *, cpu: str = "CPU", platform: str = "bare metal", seed: int = 0, **environment: object
) -> BenchResult:
    """A benchmark whose times are *scale* times 1000 ns, with some noise."""
    noise = random.Random(seed)
    runs = [
        process_run([round(1000 * scale * noise.uniform(0.98, 1.02)) for _ in range(9)], boot=f"{seed}-{number}")
        for number in range(5)
    ]
    return result(*runs, cpu=cpu, platform=platform, **environment)


def machine(directory: Path, name: str, factor: float, *, speed: float = 1.0, seed: int = 0, **more: str) -> None:
    steps = [
        (step("stock", "bench"), bench(speed, seed=seed)),
        (step("patched", "bench"), bench(speed * factor, seed=seed + 1, **more)),
    ]
    write_machine(directory, name, steps, baseline="stock")


@pytest.mark.slow
def test_ratios_that_agree_have_a_mean_between_them_and_no_heterogeneity() -> None:
    found = mean([ratio(3.0, 1.1), ratio(3.05, 1.1), ratio(2.95, 1.1)])
    assert found is not None
    assert found.value == pytest.approx(3.0, rel=0.01)
    assert (found.i2, found.machines) == (0, 3)
    assert found.low < 2.95 < 3.05 < found.high


def test_ratios_that_differ_show_it() -> None:
    found = mean([ratio(1.0, 1.01), ratio(2.0, 1.01), ratio(4.0, 1.01)])
    assert found is not None
    assert found.value == pytest.approx(2.0, rel=0.01), "of the logarithms, with equal weights for all machines"
    assert found.i2 > 0.99
    assert found.low < 1.0
    assert found.high > 4.0


def test_a_precise_machine_weighs_more_where_they_agree() -> None:
    found = mean([ratio(1.0, 1.01), ratio(1.1, 1.5)])
    assert found is not None
    assert 1.0 < found.value < 1.01


def test_an_interval_of_no_width_is_as_wide_as_the_clock() -> None:
    found = mean([ratio(1.0, 1.0), ratio(1.0, 1.0)])
    assert found is not None
    assert found.value == pytest.approx(1)
    assert 0.9 < found.low < 1 < found.high < 1.1


def test_two_machines_that_contradict_each_other_have_an_interval_without_end() -> None:
    row = CombinedTimes("new", "bench", "map", (ratio(1.0, 1.01), ratio(1e10, 1.01, "b")))
    found = row.mean
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0), pytest.approx(sys.float_info.max))
    ((_, _, middle, interval, *_),) = formats.ratio_rows((row,))
    assert (middle, interval) == ("x1e+05", "0.000 to 1.8e+308")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib computes a margin beside the longest line.
        assert b"<svg" in forest(row)


@pytest.mark.parametrize("ratios", [(), (ratio(2.0, 1.1),), (ratio(2.0, 1.1), Ratio("b", 2.0, None, None, 1, 2))])
def test_fewer_than_two_intervals_give_no_mean(ratios: tuple[Ratio, ...]) -> None:
    assert mean(ratios) is None


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    # The true ratios of the machines spread around 2. The interval must contain 2 in 99 of 100 cases.
    noise = random.Random(1)
    held = 0
    for _ in range(300):
        ratios = []
        for _ in range(4):
            true = math.log(2) + noise.gauss(0, 0.1)
            ratios.append(ratio(math.exp(true + noise.gauss(0, 0.02)), math.exp(2.576 * 0.02)))
        found = mean(ratios)
        assert found is not None
        held += found.low <= 2 <= found.high
    assert held >= 0.97 * 300


@pytest.mark.slow
def test_times_of_two_machines_never_meet(tmp_path: Path) -> None:
    # One machine is a hundred times slower; both have the same ratio.
    machine(tmp_path, "fast", 3.0, speed=1, seed=10)
    machine(tmp_path, "slow", 3.0, speed=100, seed=20)
    report = judge_run(tmp_path)
    assert report.exit_status == 0
    row = next(one for one in report.rows if one.operation.startswith("map "))
    assert {one.runner: round(one.value, 1) for one in row.ratios} == {"fast": 3.0, "slow": 3.0}
    assert row.mean is not None
    assert row.mean.value == pytest.approx(3.0, rel=0.03)
    assert (row.kernel, row.step) == ("patched", "bench")
    tests = [one for one in kcidb.fleet_kcidb(report)["tests"] if "number" in one]
    assert {one["environment"]["comment"] for one in tests} == {"fast", "slow"}
    assert all(one["number"]["unit"] == "s" for one in tests)
    page = page_of(report)
    assert page.count("<svg") == 2
    assert "I\u00b2" in page or "I2" in page
    json.dumps(formats.fleet_document(report))


def test_repetitions_of_a_machine_are_one_ratio(tmp_path: Path) -> None:
    steps = [
        (step(kernel, "bench", repetition=repetition), bench(scale, seed=seed))
        for kernel, scale, repetition, seed in (
            ("stock", 1, 1, 1),
            ("stock", 1, 2, 2),
            ("new", 2, 1, 3),
            ("new", 2, 2, 4),
        )
    ]
    write_machine(tmp_path, "a", steps, baseline="stock")
    row = next(one for one in judge_run(tmp_path).rows if one.operation.startswith("map "))
    assert [one.runner for one in row.ratios] == ["a"]
    assert row.mean is None


def test_a_machine_that_cannot_be_compared_with_itself_is_named(tmp_path: Path) -> None:
    machine(tmp_path, "a", 2.0)
    machine(tmp_path, "b", 2.0, cpu="another CPU")
    report = judge_run(tmp_path)
    found = next(one for one in report.lines if one.name == "bench compared")
    assert (found.outcome, found.runners) == (Outcome.ERROR, ("b",))
    assert "they differ in CPU" in found.detail
    assert found.counts == {Outcome.PASSED: 1, Outcome.ERROR: 1}
    assert report.exit_status == 1


@pytest.mark.parametrize(
    ("stock", "patched"),
    [((StepState.TIMED_OUT, None), (StepState.ENDED, 0)), ((StepState.ENDED, 0), (StepState.ENDED, 1))],
)
def test_a_machine_without_a_time_on_one_kernel_was_not_compared(
    tmp_path: Path, stock: tuple[StepState, int | None], patched: tuple[StepState, int | None]
) -> None:
    """The verdict ignores the baseline's own checks. A benchmark that failed there must not go unnoticed."""
    machine(tmp_path, "a", 2.0)
    steps = [
        (step("stock", "bench", *stock), None if stock[1] is None else bench(1)),
        (step("patched", "bench", *patched), None if patched[1] else bench(1)),
    ]
    write_machine(tmp_path, "b", steps, baseline="stock")
    report = judge_run(tmp_path)
    found = next(one for one in report.lines if one.name == "bench compared")
    assert (found.outcome, found.runners) == (Outcome.NOT_OBSERVED, ("b",))
    assert found.detail == f"the benchmark did not succeed on {'patched' if patched[1] else 'stock'}"
    assert report.exit_status == (1 if patched[1] else 4)


def test_a_machine_that_was_lost_after_its_benchmark_still_gives_a_ratio(tmp_path: Path) -> None:
    machine(tmp_path, "a", 2.0)
    file = tmp_path / "a/runner.json"
    file.write_text(file.read_text().replace('"done"', '"lost"'))
    assert [one.runner for one in judge_run(tmp_path).rows[0].ratios] == ["a"]


def test_the_row_says_how_many_machines_are_in_the_mean(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 3)):
        machine(tmp_path, name, 2.0, seed=seed)
    steps = [
        (step("stock", "bench"), result(process_run([1000] * 9))),
        (step("patched", "bench"), result(process_run([2000] * 9))),
    ]
    write_machine(tmp_path, "once", steps, baseline="stock")
    rows = judge_run(tmp_path).rows
    assert [row[5] for row in formats.ratio_rows(rows)] == ["2 of 3", "2 of 3"]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"ns": [', '"ns": [-1, ', "damaged at rows/0/runs/0/operations/map/ns/0: -1 is outside the minimum of 0"),
        ('"ns": [', '"ns": ["a", ', "damaged at rows/0/runs/0/operations/map/ns/0: 'a' is not of type integer"),
        ("iommufd-bench/1", "iommufd-bench/9", "was written by a newer version of this tool"),
        ('{"schema"', '{{"schema"', "is not JSON"),
    ],
)
def test_a_damaged_benchmark_is_named_with_the_place(tmp_path: Path, old: str, new: str, place: str) -> None:
    machine(tmp_path, "a", 2.0)
    file = tmp_path / "a/patched.1.bench/result.json"
    file.write_text(file.read_text().replace(old, new, 1))
    found = next(one for one in judge_run(tmp_path).lines if one.name == "bench compared")
    assert found.outcome is Outcome.ERROR
    assert place in found.detail


def test_a_benchmark_of_an_emulated_cpu_says_so(tmp_path: Path) -> None:
    for name in ("a", "b"):
        steps = [
            (step(kernel, "bench"), bench(1, platform="tcg", seed=seed)) for seed, kernel in enumerate(("old", "new"))
        ]
        write_machine(tmp_path, name, steps, baseline="old")
    assert judge_run(tmp_path).cautions["measured on an emulated CPU: the ratio says nothing about hardware"] == (
        "a",
        "b",
    )


def test_limits_of_the_figures_stand_below_the_ratios(tmp_path: Path) -> None:
    """A ratio of a kernel with KASAN, or of samples that were still changing, looked like any other."""
    kasan = bench(1, config={"KASAN": "y"})
    unsteady = replace(
        bench(1), rows=tuple(replace(row, runs=(process_run(steady=False),) * 3) for row in bench(1).rows)
    )
    for name, one in (("a", kasan), ("b", unsteady), ("c", kasan)):
        steps = [(step("old", "bench"), bench(1)), (step("new", "bench"), one), (step("newer", "bench"), one)]
        write_machine(tmp_path, name, steps, baseline="old")
    report = judge_run(tmp_path)
    limits = {text.partition(":")[0]: names for text, names in report.cautions.items()}
    assert limits["KASAN"] == ("a", "c")
    assert limits["NOT_STEADY"] == ("b",)
    assert "build without it for absolute figures" in page_of(report)
    tests = [one for one in kcidb.fleet_kcidb(report)["tests"] if "number" in one]
    told = {one["environment"]["comment"]: one["environment"]["misc"]["limits"] for one in tests}
    assert any(text.startswith("NOT_STEADY") for text in told["b"])
    assert not any(text.startswith("NOT_STEADY") for text in told["a"])


def test_an_operation_without_a_ratio_is_named(tmp_path: Path) -> None:
    short = result(process_run([0] * 3, [0] * 3))
    write_machine(tmp_path, "a", [(step("old", "bench"), short), (step("new", "bench"), short)], baseline="old")
    report = judge_run(tmp_path)
    assert report.rows == ()
    text = "map 8K, 4k is too short to time, and has no ratio"
    assert report.cautions[text] == ("a",)
    assert text in page_of(report)


def test_repetitions_with_other_operations_are_an_error_of_their_machine(tmp_path: Path) -> None:
    machine(tmp_path, "a", 2.0)
    other = result(*[replace(process_run(), operations={"attach": process_run().operations["map"]})] * 3)
    steps = [
        (step("stock", "bench"), bench(1)),
        (step("new", "bench"), bench(1)),
        (step("new", "bench", repetition=2), other),
    ]
    write_machine(tmp_path, "b", steps, baseline="stock")
    report = judge_run(tmp_path)
    (found,) = (one for one in report.lines if (one.kernel, one.name) == ("new", "bench compared"))
    assert (found.outcome, found.runners) == (Outcome.ERROR, ("b",))
    assert "new.2.bench/result.json is damaged at rows/0/runs/0/operations: attach cannot be" in found.detail


@pytest.mark.slow
def test_a_forest_of_hundreds_is_a_picture_of_bounded_height(tmp_path: Path) -> None:
    machine(tmp_path, "a", 2.0)
    (row, *_) = judge_run(tmp_path).rows
    many = type(row)("new", "bench", "map", tuple(ratio(1 + number / 500, 1.1, f"r{number}") for number in range(500)))
    assert b"<svg" in forest(many)
    assert b"r499" not in forest(many)
