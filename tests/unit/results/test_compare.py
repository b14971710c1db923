# SPDX-License-Identifier: MIT
"""The verdicts, intervals and cautions of a comparison."""

import math
import random
import re
from array import array
from collections.abc import Sequence
from dataclasses import replace

import pytest
from scipy import stats

from iommufd_py import ToolError
from iommufd_py.results import compare_text, cover_letter, finding, model
from iommufd_py.results.compare import Verdict, compare
from iommufd_py.results.estimate import holm, ratio
from tests.unit.results.bench_results import POINT, process_run, result, scaled


def test_interval_is_welchs() -> None:
    source = random.Random(7)
    before, after = ([source.uniform(90, 110) for _ in range(count)] for count in (6, 9))
    found = ratio(before, after)
    assert found is not None
    logs = [[math.log(one) for one in side] for side in (before, after)]
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    # The end of a 99 % interval is the value with p = 1 %.
    for end in (found.low, found.high):
        moved = [one + math.log(end) for one in logs[0]]
        assert stats.ttest_ind(logs[1], moved, equal_var=False).pvalue == pytest.approx(0.01)


def test_figures_without_any_spread_are_their_own_interval() -> None:
    found = ratio([100, 100, 100], [110, 110, 110])
    assert found is not None
    assert (found.value, found.low, found.high) == (pytest.approx(1.1),) * 3
    few = ratio([100], [100, 110, 120])
    assert few is not None
    assert few.low is None
    assert ratio([0, 1, 2], [1, 2, 3]) is None


def test_holm_is_that_of_statsmodels() -> None:
    """The expected values are from statsmodels.stats.multitest.multipletests(method="holm")."""
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == pytest.approx([0.03, None, 0.06, 0.06, 0.02])


def test_verdicts() -> None:
    before = scaled(0.99, 1.0, 1.01)
    exact = scaled(1, 1, 1)
    assert {one.verdict for one in compare(before, scaled(1.49, 1.5, 1.51)).changes} == {Verdict.SLOWER}
    assert {one.verdict for one in compare(before, scaled(0.494, 0.5, 0.506)).changes} == {Verdict.FASTER}
    assert {one.verdict for one in compare(before, scaled(1.0, 1.01, 1.02)).changes} == {Verdict.INCONCLUSIVE}
    assert {one.verdict for one in compare(before, scaled(0.5, 1.0, 2.0)).changes} == {Verdict.INCONCLUSIVE}
    assert {one.verdict for one in compare(before, scaled(1.5, 1.5)).changes} == {Verdict.TOO_FEW}
    # An interval without width, inside the margin.
    assert {one.verdict for one in compare(exact, scaled(1.01, 1.01, 1.01)).changes} == {Verdict.EQUIVALENT}
    assert {one.verdict for one in compare(exact, scaled(1.01, 1.01, 1.01), margin=0.005).changes} == {Verdict.SLOWER}


def test_the_ratio_is_that_of_the_times_beside_it() -> None:
    before = scaled(1, 1, 1)
    for change in compare(before, scaled(1.34, 1.34, 0.66, 0.66, 1.34)).changes:
        assert change.ratio == pytest.approx(change.after_ns / change.before_ns)


def test_a_zero_sample_has_no_ratio() -> None:
    """A coarse clock can give a time of 0."""
    zero = result(*[process_run([0, 0, 0])] * 3)
    change, other = compare(zero, zero).changes
    assert (change.ratio, change.verdict) == (None, Verdict.TOO_SHORT)
    assert other.verdict is Verdict.EQUIVALENT
    compare_text.comparison_table(compare(zero, zero))
    cover_letter.cover_letter([zero, zero], [compare(zero, zero)])


def test_difference_is_a_multiple_of_the_user_space_flush() -> None:
    change, _ = compare(scaled(1, 1, 1, flush_ns=(400,)), scaled(1.5, 1.5, 1.5, flush_ns=(400,))).changes
    assert change.flushes is not None
    # Both times contain the clock reads, so their difference does not contain them.
    assert change.flushes.value == pytest.approx(1000 / (400 - 22.5))
    change, _ = compare(scaled(1, 1, 1, flush_ns=()), scaled(1.5, 1.5, 1.5, flush_ns=())).changes
    assert change.flushes is None


def test_flushes_are_paired_with_those_of_the_same_boot() -> None:
    """On a boot with slow memory, user space flushes slowly too, so the multiple has a narrow interval."""
    factors = (1.0, 1.2, 0.8)

    def boots(ns: int) -> model.BenchResult:
        return result(
            *(
                process_run(
                    [round(ns * f)] * 3,
                    boot=str(n),
                    user_flush_ns=array("Q", [round(400 * f)]),
                    clock_ns=0.0,
                    ioctl_ns=0.0,
                )
                for n, f in enumerate(factors)
            )
        )

    change, _ = compare(boots(1000), boots(1400)).changes
    assert change.flushes is not None
    assert change.flushes.value == pytest.approx(1)
    assert change.flushes.low == pytest.approx(1)
    assert change.flushes.high == pytest.approx(1)


def test_flushes_of_an_emulated_cpu_are_not_given() -> None:
    change, _ = compare(scaled(1, 1, 1, platform="tcg"), scaled(1.5, 1.5, 1.5, platform="tcg")).changes
    assert change.flushes is None


def test_the_floor_is_taken_off() -> None:
    """The floor of the made-up results is 110 ns for an empty ioctl."""
    change, _ = compare(scaled(0.11, 0.11, 0.11), scaled(0.33, 0.33, 0.33)).changes
    assert change.floor_ns == pytest.approx(110)
    assert change.on_floor
    assert change.ratio == pytest.approx(3)
    assert change.net is not None
    assert change.net.value == pytest.approx((660 - 110) / (220 - 110))
    chunks = replace(POINT, chunk_bytes=4096)
    chunked, _ = compare(scaled(1, 1, 1, point=chunks), scaled(2, 2, 2, point=chunks)).changes
    assert chunked.floor_ns == pytest.approx(22.5 + 2 * (110 - 22.5))
    assert not compare(scaled(1, 1, 1), scaled(2, 2, 2)).changes[0].on_floor
    cover = cover_letter.cover_letter(
        [scaled(0.11, 0.11, 0.11)] * 2, [compare(scaled(0.11, 0.11, 0.11), scaled(0.33, 0.33, 0.33))]
    )
    assert re.search(r"net +x5\b", cover)


def humps(seed: int, upper: float, factor: float = 1, round_id: str = "") -> model.BenchResult:
    """Return a result with samples at 20 us, and the share *upper* at 40 us; *factor* multiplies both."""
    source = random.Random(seed)
    runs = []
    for number in range(5):
        ns = [
            round(factor * (40000 if source.random() < upper else 20000) * (1 + source.gauss(0, 0.01)))
            for _ in range(300)
        ]
        runs.append(process_run(ns, [500] * 300, round_id=f"{round_id}{number}" if round_id else ""))
    return result(*runs)


def test_two_groups_of_samples_are_named_and_widen_the_interval() -> None:
    comparison = compare(humps(1, 0.45), humps(2, 0.55))
    change, other = comparison.changes
    assert change.ratio == pytest.approx(2, rel=0.05)
    assert change.verdict is Verdict.INCONCLUSIVE
    assert change.low is not None
    assert change.low < 1
    assert change.after_mean_ns / change.before_mean_ns == pytest.approx(1.07, rel=0.03)
    counted, parted = compare_text.hump_lines(comparison)
    assert "in 1 of 2 operations" in counted
    assert "the intervals contain the ratio of the means; in 1 of them the ratio of the means differs" in counted
    assert "by over 5%" in counted
    assert "the ratio of the means is x1.06" in parted
    assert "before, 5 of 5, for example" in parted
    assert not other.humps
    alone = [result(*humps(seed, 0.5).rows[0].runs[:1]) for seed in (1, 2)]
    assert "interval" not in compare_text.hump_lines(compare(*alone))[0]
    # Both groups moved by much more than the distance between them.
    assert compare(humps(1, 0.45), humps(1, 0.45, 5)).changes[0].verdict is Verdict.SLOWER


def test_two_groups_widen_the_intervals_of_all_figures() -> None:
    """The intervals of the ratio without the floor and of F had no width beside one from 1.01 to 1.94."""
    change = compare(humps(1, 0.4), humps(1, 0.4, 5)).changes[0]
    assert change.low is not None and change.high is not None
    assert change.net is not None and change.net.low is not None and change.net.high is not None
    assert change.net.high / change.net.low > change.high / change.low > 2
    assert change.flushes is not None and change.flushes.low is not None and change.flushes.high is not None
    # The flush takes 400 ns, with the clock reads of 22.5 ns.
    multiple = change.before_ns / (400 - 22.5)
    assert change.flushes.low == pytest.approx((change.low - 1) * multiple)
    assert change.flushes.high == pytest.approx((change.high - 1) * multiple)


def test_groups_of_which_one_is_too_short_for_the_clock() -> None:
    """The median of such samples is a time, and 15 % less of them lie at 0 ns."""
    coarse = result(*[process_run([0] * 40 + [1000] * 60, [500] * 100)] * 3)
    fine = result(*[process_run([1000 + number] * 100, [500] * 100) for number in range(3)])
    for before, after in ((coarse, fine), (fine, coarse)):
        comparison = compare(before, after)
        change = comparison.changes[0]
        assert change.verdict is Verdict.INCONCLUSIVE
        assert change.low is not None and change.low > 0
        assert "not precise enough" in finding.time_sentences([before, after], [comparison])[2]


def test_groups_that_both_sides_met_in_turns_widen_less() -> None:
    """In turns both kernels meet the fast and the slow times of the machine, here for different shares of the time."""
    apart, turns = (
        compare(humps(1, 0.4, 1, round_id), humps(2, 0.4, 1.5, round_id)).changes[0] for round_id in ("", "round ")
    )
    assert apart.low is not None and apart.low < 1
    assert turns.verdict is Verdict.SLOWER
    assert turns.humps
    # Medians on different sides of the gap are no change in turns either.
    jumped = compare(humps(1, 0.45, 1, "round "), humps(2, 0.55, 1, "round ")).changes[0]
    assert jumped.ratio == pytest.approx(2, rel=0.05)
    assert jumped.verdict is Verdict.INCONCLUSIVE


def in_rounds(disturbed: Sequence[int], seed: int) -> model.BenchResult:
    """A result of twelve rounds. In the *disturbed* ones a fifth of the samples takes 1.6 times as long."""
    chance = random.Random(seed)
    runs = []
    for number in range(12):
        ns = [round(10_000 * chance.gauss(1, 0.005)) for _ in range(200)]
        slow = [round(1.6 * one) for one in ns[:40]] if number in disturbed else ns[:40]
        runs.append(process_run(slow + ns[40:], [500] * 200, boot=f"{seed} {number}", round_id=f"round {number}"))
    return result(*runs)


def test_groups_that_both_sides_met_in_different_rounds_widen_little() -> None:
    """The slow group of one side against the median of the other compares two speeds of the machine."""
    machine = compare(in_rounds((1, 4, 7), 1), in_rounds((2, 5, 9), 2)).changes[0]
    assert machine.humps and machine.low is not None and machine.high is not None
    assert machine.high - machine.low < 0.02
    assert machine.verdict is Verdict.EQUIVALENT


def test_a_slow_path_of_one_kernel_is_in_the_interval() -> None:
    """A fifth of the samples takes 1.6 times as long, so the mean is 12 % longer, and the medians are equal.

    Without turns, or beside groups of the machine on both sides, such rows were equivalent.
    """
    slow, fast = in_rounds(range(12), 2), in_rounds((), 1)
    apart = [replace(one, rows=(_without_turns(one.rows[0]),)) for one in (fast, slow)]
    for before, after in ((fast, slow), apart):
        change = compare(before, after).changes[0]
        assert change.ratio == pytest.approx(1, abs=0.01)
        assert change.high == pytest.approx(1.12, abs=0.01)
        assert change.net is not None and change.net.high is not None and change.net.high > change.high
        assert change.verdict is Verdict.INCONCLUSIVE


def _without_turns(row: model.Row) -> model.Row:
    return replace(row, runs=tuple(replace(run, round_id="") for run in row.runs))


def test_the_steps_of_a_coarse_clock_widen_the_interval() -> None:
    """Three equal medians on each side had an interval without width, also one step of the clock apart."""

    def on_steps(middle: int, *more: int) -> model.BenchResult:
        return result(*[process_run([middle] * 25 + [middle + 279] * 6 + list(more), [500] * 31)] * 3)

    change, other = compare(on_steps(5580), on_steps(5580)).changes
    assert (change.low, change.high) == (pytest.approx(0.951, abs=0.001), pytest.approx(1.051, abs=0.001))
    assert (change.verdict, other.verdict) == (Verdict.INCONCLUSIVE, Verdict.EQUIVALENT)
    assert compare(on_steps(5580), on_steps(5859)).changes[0].verdict is Verdict.INCONCLUSIVE
    assert compare(on_steps(5580), on_steps(6138)).changes[0].verdict is Verdict.SLOWER
    # A lone sample is an outlier, and no step.
    constant = result(*[process_run([5580] * 30 + [90_000], [500] * 31)] * 3)
    assert compare(constant, constant).changes[0].verdict is Verdict.EQUIVALENT


def test_a_clock_of_whole_nanoseconds_widens_nothing() -> None:
    random_times = random.Random(4)

    def boots() -> tuple[model.BenchResult, list[float]]:
        times = [[round(random_times.gauss(150, 3)) for _ in range(31)] for _ in range(4)]
        return result(*[process_run(one, [500] * 31) for one in times]), [sorted(one)[15] for one in times]

    (before, before_ns), (after, after_ns) = boots(), boots()
    change, plain = compare(before, after).changes[0], ratio(before_ns, after_ns)
    assert (change.low, change.high) == (pytest.approx(plain.low), pytest.approx(plain.high))


def test_boots_are_the_unit_where_there_are_enough() -> None:
    """Six processes on three boots are three independent figures, because a boot affects all its processes."""
    boots = ("a", "a", "b", "b", "c", "c")
    before = scaled(1.0, 1.0, 1.06, 1.06, 0.94, 0.94, boots=boots)
    after = scaled(1.1, 1.1, 1.16, 1.16, 1.04, 1.04, boots=[name.upper() for name in boots])
    assert {one.verdict for one in compare(before, after).changes} == {Verdict.INCONCLUSIVE}
    assert compare(before, after).cautions == ()
    one_boot = compare(
        scaled(1.0, 1.0, 1.06, 1.06, 0.94, 0.94), scaled(1.5, 1.5, 1.56, 1.56, 1.44, 1.44, boots=["B"] * 6)
    )
    assert {one.verdict for one in one_boot.changes} == {Verdict.SLOWER}
    assert one_boot.cautions[0].startswith("fewer than three boots of stock non-coherent: ")
    # The text is about the result with few boots only.
    mixed = compare(replace(before, name="three"), replace(scaled(1.0, 1.0, 1.0), name="one"))
    assert mixed.cautions[0].startswith("fewer than three boots of one: ")


def test_a_threshold_counts_within_a_wide_margin() -> None:
    """A row that was 6 % slower was equivalent within 10 %, and passed a threshold of 5 %."""
    before, after = scaled(0.999, 1.0, 1.001), scaled(1.064, 1.065, 1.066)
    comparison = compare(before, after, margin=0.1)
    assert {one.verdict for one in comparison.changes} == {Verdict.EQUIVALENT}
    assert len(comparison.slower_than(0.05)) == 2
    assert comparison.slower_than(0.07) == []
    assert compare(after, before, margin=0.1).slower_than(0) == []


def test_a_copy_of_a_result_shows_no_equality() -> None:
    """A run and its copy were "equivalent within 2% in all operations", without a doubt."""
    boots = [scaled(one, one, one, boots=[name] * 3) for one, name in ((1, "a"), (1.001, "b"), (0.999, "c"))]
    joined = model.merge(boots)
    for one, text in ((joined, "3 of 3 measurements"), (boots[1], "1 of 1 measurement")):
        cautions = compare(joined, replace(one, name="copy")).cautions
        assert cautions[-1].startswith(f"{text} are in both results, so equal times say nothing")
    again = model.merge([scaled(1, 1, 1, boots=[name] * 3) for name in "def"])
    assert not any("in both results" in caution for caution in compare(joined, again).cautions)


def test_other_machines_are_refused_and_other_settings_cautioned() -> None:
    before = scaled(1, 1, 1)

    def cautions(**environment: object) -> tuple[str, ...]:
        return compare(before, scaled(1, 1, 1, **environment)).cautions

    with pytest.raises(ToolError, match=r"differ in CPU \(CPU and Other\)"):
        compare(before, scaled(1, 1, 1, cpu="Other"))
    assert compare(before, scaled(1, 1, 1, cpu="Other"), force=True).cautions[0] == "they differ in CPU (CPU and Other)"
    assert cautions(governor="powersave") == ("they differ in governor: performance and powersave",)
    assert cautions(machine="other") == ("they differ in machine: unknown and other",)
    assert cautions(compiler="gcc 15") == ("they differ in compiler: unknown and gcc 15",)
    assert cautions(config={"KASAN": "y", "HZ": "1000"}) == ("they differ in CONFIG_KASAN",)
    assert cautions(command_line="quiet intel_iommu=sm_on virtme.exec=x") == (
        "they differ in the kernel's command line: intel_iommu=sm_on",
    )
    assert cautions(noncoherent_knob=False) == ()
    elsewhere = replace(before, target=replace(before.target, device="0000:99:00.0", cap=None))
    assert compare(before, elsewhere).cautions == (
        "they differ in the device: 0000:00:10.0 and 0000:99:00.0",
        "they differ in the IOMMU's capabilities: CAP=0xd2 and unknown",
    )
    other_clock = replace(before, floor=replace(before.floor, clock="time stamp counter"))
    assert compare(before, other_clock).cautions == (
        "they differ in the clock of the samples: CLOCK_MONOTONIC_RAW and time stamp counter",
    )
    assert model.merge([before, other_clock]).floor.clock == "CLOCK_MONOTONIC_RAW and time stamp counter"
    newer = replace(before, tool_version="9")
    assert compare(before, newer).cautions == ("they come from versions 0 and 9 of this tool",)
    assert "unequal" in compare(before, result(*[process_run(physical_runs=9)] * 3)).cautions[0]
    with pytest.raises(ToolError, match="no row in common"):
        compare(before, scaled(1, 1, 1, point=replace(POINT, backing="thp")))
    attached = result(*[replace(process_run(), operations={"attach": process_run().operations["map"]})] * 3)
    with pytest.raises(ToolError, match="no operation of a common row"):
        compare(before, attached)
    more = replace(before, rows=(*before.rows, replace(before.rows[0], point=replace(POINT, backing="thp"))))
    assert "1 row of stock non-coherent without counterpart" in compare(before, more).cautions[0]


def test_boots_that_differ_within_a_result_are_a_caution() -> None:
    quiet = scaled(1, 1, 1, boots=["a"] * 3)
    slow = scaled(1, 1, 1, boots=["b"] * 3, governor="powersave")
    merged = model.merge([quiet, slow])
    assert (
        "the boots of stock non-coherent differ in governor: performance and powersave"
        in compare(merged, merged).cautions
    )


def test_a_busy_machine_is_a_caution() -> None:
    """Each measurement counts once, however many disturbances it had."""
    noise = model.Noise(steal=0.3, switches=0, waiting=3, clock_jump=0, slowdown=1)
    busy = result(*[process_run(noise=noise)] * 3)
    assert compare(busy, busy).cautions[0] == (
        "stock non-coherent was measured on a busy machine in 3 of 3 measurements, for example: the hypervisor took "
        "30% of the CPU time"
    )


def test_the_bound_belongs_to_the_margin_and_to_the_threshold() -> None:
    """A ratio of 1.02 is 1.0200000000000002 for some times: one row was equivalent, and the next one slower."""
    for ns in range(500, 2000, 50):
        before, after = (result(*[process_run([round(ns * f)] * 3, [1000] * 3)] * 3) for f in (1, 1.02))
        comparison = compare(before, after)
        assert comparison.changes[0].verdict is Verdict.EQUIVALENT, ns
        assert comparison.slower_than(0.02) == []
        assert len(comparison.slower_than(0.0199)) == 1


def test_threshold_counts_what_is_surely_slower() -> None:
    """The end of the interval decides. With the ratio alone, the answer would change from run to run."""
    comparison = compare(scaled(0.99, 1.0, 1.01), scaled(1.49, 1.5, 1.51))
    assert len(comparison.slower_than(0.1)) == 2
    assert comparison.slower_than(0.499) == []


def test_boots_that_measured_in_turns_are_compared_with_each_other() -> None:
    """The speed of the machine doubled and halved between the rounds, and the ratio did not change."""
    speeds = (1.0, 2.0, 1.5, 0.8)
    factors = [speed * more for speed, more in zip(speeds, (1.1, 1.11, 1.1, 1.09), strict=True)]
    names = ["round a", "round b", "round c", "round d"]

    def measured(values: Sequence[float], boots: str, rounds: Sequence[str]) -> model.BenchResult:
        runs = [
            process_run([round(20000 * one)] * 3, [round(5000 * one)] * 3, boot=boot, round_id=name)
            for one, boot, name in zip(values, boots, rounds, strict=True)
        ]
        return result(*runs)

    before = measured(speeds, "abcd", names)
    found = compare(before, measured(factors, "ABCD", names)).changes
    assert {one.verdict for one in found} == {Verdict.SLOWER}
    assert all(one.width is not None and one.width < 0.05 for one in found)
    # The order of the boots in a file does not matter, and the ratio still belongs to the times beside it.
    mixed = compare(before, measured(factors[::-1], "DCBA", names[::-1])).changes
    assert [(one.low, one.high, one.ratio) for one in mixed] == [
        (pytest.approx(one.low), pytest.approx(one.high), pytest.approx(one.ratio)) for one in found
    ]
    # Without turns, or with one boot of another round, the noise of both sides counts.
    for rounds in ([""] * 4, [*names[:3], "round e"]):
        apart = compare(before, measured(factors, "ABCD", rounds)).changes
        assert {one.verdict for one in apart} == {Verdict.INCONCLUSIVE}
