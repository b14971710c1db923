# SPDX-License-Identifier: MIT
"""What may be said of two runs: pure statistics, with the two bars of a comparison."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from scipy import stats

from iommufd_py import ToolError
from iommufd_py.results import compare_text, model
from iommufd_py.results.compare import Verdict, compare, comparison_document, ratio_interval
from tests.unit.results.bench_results import POINT, result, run

REPEATS, AT_LEAST = 20, 19


def drawn(source: random.Random, factor: float, *, runs: int = 10, bias: float = 0.01) -> model.BenchResult:
    """A result whose processes each have a bias, and whose samples have a long tail upward, as real ones."""

    def samples(median: float) -> list[int]:
        here = median * factor * math.exp(source.gauss(0, bias))
        return [round(here * (1 + abs(source.gauss(0, 0.03)) + (source.random() < 0.01) * 5)) for _ in range(200)]

    return result(*(run(samples(6000), samples(4000)) for _ in range(runs)))


def verdicts(factor: float, seed: int) -> list[list[Verdict]]:
    source = random.Random(seed)
    return [
        [change.verdict for change in compare(drawn(source, 1), drawn(source, factor)).changes] for _ in range(REPEATS)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_same_against_the_same_is_no_change(seed: int) -> None:
    """The bar: of 20 repeats at least 19 say so, of every row."""
    same = [all(one is Verdict.SAME for one in row) for row in verdicts(1.0, seed)]
    assert sum(same) >= AT_LEAST


@pytest.mark.parametrize("seed", range(3))
def test_five_percent_are_found(seed: int) -> None:
    """The bar: of 20 repeats at least 19 find a slowdown of 5 % in every row."""
    slower = [all(one is Verdict.SLOWER for one in row) for row in verdicts(1.05, seed)]
    assert sum(slower) >= AT_LEAST


def test_interval_is_welchs(seed: int = 7) -> None:
    source = random.Random(seed)
    before, after = ([source.uniform(90, 110) for _ in range(count)] for count in (6, 9))
    ratio, low, high = ratio_interval(before, after)
    logs = [[math.log(one) for one in side] for side in (before, after)]
    assert low < ratio < high
    # An interval of 99 % ends where the test's p is 1 %.
    assert stats.ttest_ind(logs[1], [one + math.log(low) for one in logs[0]], equal_var=False).pvalue == pytest.approx(
        0.01
    )
    assert stats.ttest_ind(logs[1], [one + math.log(high) for one in logs[0]], equal_var=False).pvalue == pytest.approx(
        0.01
    )


def test_medians_without_any_spread_are_their_own_interval() -> None:
    assert ratio_interval([100, 100, 100], [110, 110, 110]) == (pytest.approx(1.1),) * 3
    with pytest.raises(ValueError, match="two medians"):
        ratio_interval([100], [100, 110])


def scaled(*factors: float, boots: Sequence[str] = (), **options: object) -> model.BenchResult:
    names = boots or ["boot"] * len(factors)
    runs = (run([round(2000 * f)] * 3, [round(500 * f)] * 3, boot=b) for f, b in zip(factors, names, strict=True))
    return result(*runs, **options)


def test_verdicts() -> None:
    before = scaled(0.99, 1.0, 1.01)
    assert {one.verdict for one in compare(before, scaled(1.19, 1.2, 1.21)).changes} == {Verdict.SLOWER}
    assert {one.verdict for one in compare(before, scaled(0.79, 0.8, 0.81)).changes} == {Verdict.FASTER}
    assert {one.verdict for one in compare(before, scaled(1.0, 1.01, 1.02)).changes} == {Verdict.SAME}
    assert {one.verdict for one in compare(before, scaled(1.5, 1.5)).changes} == {Verdict.UNKNOWN}
    # So certain that the interval has no width, and yet of no importance.
    assert {one.verdict for one in compare(scaled(1, 1, 1), scaled(1.005, 1.005, 1.005)).changes} == {Verdict.SAME}


def test_difference_is_a_multiple_of_the_user_space_flush() -> None:
    change, _ = compare(scaled(1, 1, 1, flush_ns=(400,)), scaled(1.5, 1.5, 1.5, flush_ns=(400,))).changes
    assert change.user_flush_ns == 400 - 22.5  # without the clock reads that it was measured with
    assert change.floors == pytest.approx(1000 / 377.5)
    change, _ = compare(scaled(1, 1, 1, flush_ns=()), scaled(1.5, 1.5, 1.5, flush_ns=())).changes
    assert change.floors is None


def test_boots_are_the_unit_where_there_are_enough() -> None:
    """Six processes on three boots are three independent figures: what a boot does to all its processes counts once."""
    boots = ("a", "a", "b", "b", "c", "c")
    before = scaled(1.0, 1.0, 1.06, 1.06, 0.94, 0.94, boots=boots)
    after = scaled(1.1, 1.1, 1.16, 1.16, 1.04, 1.04, boots=[name.upper() for name in boots])
    assert {one.verdict for one in compare(before, after).changes} == {Verdict.SAME}
    assert compare(before, after).cautions == ()
    one_boot = compare(
        scaled(1.0, 1.0, 1.06, 1.06, 0.94, 0.94), scaled(1.2, 1.2, 1.26, 1.26, 1.14, 1.14, boots=["B"] * 6)
    )
    assert {one.verdict for one in one_boot.changes} == {Verdict.SLOWER}
    assert "fewer than three times" in one_boot.cautions[0]


def test_other_machines_are_refused_and_other_settings_cautioned() -> None:
    before = scaled(1, 1, 1)
    with pytest.raises(ToolError, match=r"differ in CPU \(CPU and Other\)"):
        compare(before, scaled(1, 1, 1, cpu="Other"))
    assert compare(before, scaled(1, 1, 1, cpu="Other"), force=True).cautions[0] == "they differ in CPU (CPU and Other)"
    assert compare(before, scaled(1, 1, 1, governor="powersave")).cautions == (
        "they differ in governor: performance and powersave",
    )
    assert compare(before, scaled(1, 1, 1, config={"KASAN": "y", "HZ": "1000"})).cautions == (
        "they differ in CONFIG_KASAN",
    )
    assert compare(before, scaled(1, 1, 1, command_line="quiet intel_iommu=sm_on virtme.exec=x")).cautions == (
        "they differ in the kernel's command line: intel_iommu=sm_on",
    )
    assert compare(before, scaled(1, 1, 1, noncoherent_knob=False)).cautions == ()
    assert "unequal" in compare(before, result(*[run(physical_runs=9)] * 3)).cautions[0]
    with pytest.raises(ToolError, match="no row in common"):
        compare(before, scaled(1, 1, 1, point=replace(POINT, backing="thp")))


def test_threshold_counts_what_is_surely_slower() -> None:
    comparison = compare(scaled(0.99, 1.0, 1.01), scaled(1.19, 1.2, 1.21))
    assert len(comparison.slower_than(0.1)) == 2
    assert comparison.slower_than(0.3) == []


def test_cover_letter_fits_a_mail() -> None:
    before = scaled(0.99, 1.0, 1.01)
    after = scaled(1.19, 1.2, 1.21, kernel_variant="patched")
    text = compare_text.cover_letter(before, after, compare(before, after))
    assert all(len(line) <= 72 for line in text.splitlines() if not line.startswith("note:"))
    lines = [[word.strip() for word in line.split("|")] for line in text.splitlines() if "|" in line]
    assert lines == [
        ["", "map", "unmap"],
        ["stock non-coherent", "2 us", "500 ns"],
        ["patched non-coherent", "2.4 us", "600 ns"],
        ["", "x1.20", "x1.20"],
        ["", "1.16 to 1.24", "1.16 to 1.24"],
        ["", "1.06 F", "0.26 F"],
    ]
    assert "no significant change" in text


def test_markdown_and_json_have_every_row() -> None:
    comparison = compare(scaled(0.99, 1.0, 1.01), scaled(1.19, 1.2, 1.21))
    assert len(compare_text.markdown(comparison).splitlines()) == 4
    (kept,) = comparison_document([comparison])["comparisons"]
    assert [change["verdict"] for change in kept["changes"]] == ["slower", "slower"]
