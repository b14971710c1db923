# SPDX-License-Identifier: MIT
"""The limits of figures: what spoils them, and which rows it concerns."""

from dataclasses import replace

from iommufd_py import FlushCount
from iommufd_py.results import counts, cover_letter, model, report, validity
from tests.unit.results.bench_results import POINT, process_run, result


def test_findings_name_what_spoils_the_figures() -> None:
    def codes(*runs: model.Run, **environment: object) -> list[str]:
        return [limit.code for limit in validity.figure_limits(result(*runs, **environment))]

    assert codes() == []
    assert codes(platform="tcg") == ["TCG"]
    assert codes(platform="virtual machine") == ["VIRTUAL"]
    assert codes(noncoherent_knob=True) == ["NONCOHERENT_KNOB"]
    assert codes(config={"KASAN": "y"}) == ["KASAN"]
    assert codes(config=None) == ["NO_CONFIG"]
    assert codes(governor="powersave", turbo=True) == ["GOVERNOR", "TURBO"]
    assert codes(process_run(), process_run()) == ["FEW_RUNS"]
    assert codes(process_run(), process_run(), process_run(steady=False)) == ["NOT_STEADY"]
    assert codes(process_run(), process_run(), process_run((9000, 9000, 9000))) == ["WIDE_INTERVAL"]
    assert codes(process_run(), process_run(), process_run(switched=(2,))) == ["DISTURBED"]
    assert codes(process_run(), process_run(), process_run(pinned=4096)) == ["NOTHING_PINNED"]
    assert codes(process_run(), process_run(), process_run(physical_runs=1)) == ["UNEQUAL_RUNS"]
    # Samples of many sets of pages do not depend on the runs of the first set.
    assert codes(*[process_run(physical_runs=one, page_sets=20) for one in (1, 2, 2)]) == []
    loud = model.Noise(steal=0.0, switches=0.0, waiting=2.0, clock_jump=0.0, slowdown=1.0)
    assert codes(process_run(), process_run(), process_run(noise=loud)) == ["NOISE"]
    assert codes(process_run(), process_run(), process_run(noise=replace(loud, waiting=0.1), discarded=("busy",))) == []
    assert codes(*[process_run([5580] * 25 + [5859] * 6, [500] * 31)] * 3) == ["COARSE_CLOCK"]
    assert codes(*[process_run([0] * 3, [500] * 3)] * 3) == ["COARSE_CLOCK"]
    assert codes(*[process_run([55_800] * 25 + [56_079] * 6, [500] * 31)] * 3) == []
    two = [1000] * 30 + [2000] * 30
    assert codes(*[process_run(two, [500] * 60)] * 3) == ["TWO_HUMPS"]


def test_a_boot_that_differs_from_the_others_is_named() -> None:
    """On a machine with other users, a boot can take twice the time."""
    boots = [result(process_run([ns] * 3, [ns] * 3, boot=str(ns))) for ns in (1000, 1010, 2000, 990)]
    found = {one.code: one.text for one in validity.figure_limits(model.merge(boots))}
    assert found["BOOT_DIFFERS"].startswith("the times of boot 3 are x1.99 ")
    merged = model.merge(boots)
    busy = replace(merged, boots=(replace(merged.boots[0], disturbances="steal"), *merged.boots[1:]), discarded=("a",))
    found = {one.code: one.text for one in validity.figure_limits(busy)}
    assert "during 1 of 4 boots, after 1 repeated round (boot 1: steal)" in found["BUSY_HOST"]
    # After the time limit, no round is repeated.
    (limit,) = (one for one in validity.figure_limits(replace(busy, discarded=())) if one.code == "BUSY_HOST")
    assert "during 1 of 4 boots (boot 1: steal)" in limit.text


def test_two_groups_are_no_difference_of_boots() -> None:
    """A median that jumps between two groups differed from boot to boot, and each boot got a remark."""
    groups = [[1000 + at for at in range(30)], [1800 + at for at in range(30)]]
    times = [[*groups[0], *groups[1], *groups[boot % 2]] for boot in range(5)]
    boots = [process_run(ns, ns, boot=str(boot)) for boot, ns in enumerate(times)]
    assert {one.code for one in validity.figure_limits(result(*boots))} == {"WIDE_INTERVAL", "TWO_HUMPS"}
    # An operation without groups shows a boot that differs nevertheless.
    slow = [process_run(ns, [900 if boot == 2 else 500] * 90, boot=str(boot)) for boot, ns in enumerate(times)]
    (text,) = [one.text for one in validity.figure_limits(result(*slow)) if one.code == "BOOT_DIFFERS"]
    assert text.startswith("the times of boot 3 are x1.80 ")


def test_a_row_with_few_boots_hides_no_boot_that_differs() -> None:
    """A boot of another row can be missing: the number is that of the boot in the result."""
    times = {"a": 1000, "b": 1010, "c": 2000, "d": 990}
    boots = [result(process_run([ns] * 3, [ns] * 3, boot=boot)) for boot, ns in times.items()]
    merged = model.merge(boots)
    few = replace(merged.rows[0], point=replace(POINT, size_bytes=4096), runs=merged.rows[0].runs[:1])
    later = replace(merged.rows[0], runs=merged.rows[0].runs[1:])
    found = validity.figure_limits(replace(merged, rows=(few, later)))
    (text,) = [one.text for one in found if one.code == "BOOT_DIFFERS"]
    assert text.startswith("the times of boot 3 are ")


def test_different_flushes_of_the_processes_are_told() -> None:
    """The table showed the counts of the first process only."""
    once, never = FlushCount(1, 2), FlushCount(0, 0)
    runs = [process_run(flushes=(count, once)) for count in (once, never, once)]
    found = result(*runs)
    assert [cell.flush_text for cell in report.cells(found)] == ["0-1, 0.00-1.00", "1, 1.00"]
    assert [one.code for one in validity.figure_limits(found)] == ["UNEQUAL_FLUSHES"]
    letter = counts.count_letter([found])
    assert "Flushes: 1 of 2 operations with flushes flush each page once." in letter
    assert "UNEQUAL_FLUSHES" in letter
    # Contiguous pages take one call, so only the calls differ between buffers.
    runs = [process_run(flushes=(count, once)) for count in (once, FlushCount(2, 2), once)]
    assert [one.code for one in validity.figure_limits(result(*runs))] == []
    assert [cell.flush_text for cell in report.cells(result(*runs))] == ["1-2, 1.00", "1, 1.00"]
    assert [cell.flush_text for cell in report.cells(result())] == ["-", "-"]


def test_a_note_names_its_rows_unless_it_is_about_all() -> None:
    good = result()
    unsteady = replace(good.rows[0], point=replace(POINT, size_bytes=4096), runs=(process_run(steady=False),) * 3)
    both = replace(good, rows=(*good.rows, unsteady))
    assert [note.partition(":")[0] for note in report.notes(both)] == ["NOT_STEADY (4K, 4k)"]
    named = replace(both, name="both")
    doubts = cover_letter.doubts([named, replace(good, name="good"), named])
    assert [one.partition(":")[0] for one in doubts] == ["NOT_STEADY [both (4K, 4k), both (4K, 4k)]"]
    every = replace(good, rows=(unsteady,) * 5)
    assert [note.partition(":")[0] for note in report.notes(every)] == ["NOT_STEADY"]


def test_many_rows_are_counted_instead_of_named() -> None:
    good = result()
    unsteady = [
        replace(good.rows[0], point=replace(POINT, hwpts=number), runs=(process_run(steady=False),) * 3)
        for number in range(4)
    ]
    notes = report.notes(replace(good, rows=(*good.rows, *unsteady)))
    assert notes[0].startswith("NOT_STEADY (4 of 5 rows): ")


def test_a_step_in_the_time_for_a_page_is_remarked_on() -> None:
    """Only large sizes are compared: the fixed costs of small ones are no step."""
    first = result().rows[0]

    def steps(*sizes_and_page_ns: tuple[int, int]) -> list[tuple[int, ...]]:
        rows = []
        for size, page_ns in sizes_and_page_ns:
            ns = [size // 4096 * page_ns] * 3
            rows.append(
                replace(first, point=replace(POINT, size_bytes=size), runs=(process_run(ns, ns, pinned=size),) * 3)
            )
        found = validity.figure_limits(replace(result(), rows=tuple(rows)))
        return [limit.rows for limit in found if limit.code == "STEP"]

    assert steps((4096, 5000), (2 << 20, 100), (64 << 20, 105)) == []
    assert steps((4096, 5000), (2 << 20, 100), (64 << 20, 105), (256 << 20, 120)) == [(3,)]
