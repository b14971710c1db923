# SPDX-License-Identifier: MIT
"""A result: its file, its tables, the limits of its figures, and the points and IOVAs of which it consists."""

import json
import re
import statistics
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jsonschema
import pyperf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import FlushCount, ToolError
from iommufd_py.base.iova import IovaRange, IovaRanges
from iommufd_py.bench.ioctl_rounds import ThreadIovas
from iommufd_py.bench.workloads import points
from iommufd_py.results import (
    compare_text,
    counts,
    cover_letter,
    dialects,
    document,
    finding,
    model,
    plot,
    report,
    validity,
)
from iommufd_py.results.compare import compare
from iommufd_py.results.kcidb import bench_kcidb
from iommufd_py.results.pyperf import left_out, to_pyperf
from iommufd_py.results.schema import read_schema
from iommufd_py.results.stats import quantile, settled, summarize
from tests.unit.results.bench_results import POINT, process_run, result


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


def test_summary_takes_samples_in_any_order_and_keeps_the_processes_apart() -> None:
    summary = summarize([[3000, 1000, 2000], [5000, 4000, 6000]])
    assert (summary.count, summary.min_ns, summary.median_ns, summary.max_ns) == (6, 1000, 3500, 6000)
    assert summary.run_medians_ns == (2000, 5000)
    assert (summary.low_ns, summary.high_ns) == (2000, 5000)


def test_outliers_are_counted_and_not_dropped() -> None:
    summary = summarize([[10, 11, 12, 13, 14, 1000]])
    assert (summary.outliers, summary.count, summary.max_ns) == (1, 6, 1000)


def test_a_warm_up_is_over_when_two_blocks_agree() -> None:
    assert settled([100, 101, 5000], [101, 102, 100])
    assert not settled([110, 111, 112], [100, 101, 102])


@pytest.mark.parametrize("flushes", [(None, None), (FlushCount(1, 2), FlushCount(2, 2))])
def test_run_survives_its_file_and_its_file_is_as_described(
    tmp_path: Path, flushes: tuple[FlushCount | None, ...]
) -> None:
    noise = model.Noise(steal=None, switches=1.5, waiting=0.0, clock_jump=0.0, slowdown=1.1)
    busy = process_run(noise=noise, discarded=("busy",), clock_ns=20.5, ioctl_ns=110.0)
    file = tmp_path / "run.json"
    kept = replace(model.merge([result(process_run(switched=(1,), flushes=flushes), busy)]), name="name")
    document.save(kept, file)
    assert document.load_result(file) == kept
    written = json.loads(file.read_text())
    jsonschema.Draft202012Validator(read_schema(document.SCHEMA)).validate(written)
    assert written["schema"] == "iommufd-bench/1"
    assert written["target"]["coherency"] == "non-coherent"
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]


def test_the_schema_is_one_and_describes_nothing_that_is_not_there() -> None:
    schema = read_schema(document.SCHEMA)
    jsonschema.Draft202012Validator.check_schema(schema)
    written = json.loads(json.dumps(document.to_document(result())))
    for spoil in (
        lambda doc: doc.update(extra=1),
        lambda doc: doc["environment"].pop("governor"),
        lambda doc: doc["rows"][0]["runs"][0]["operations"].update(mop={}),
        lambda doc: doc["rows"][0]["point"].update(cache="wet"),
        lambda doc: doc["validity"].append({"code": "NONSENSE", "text": "", "rows": []}),
    ):
        damaged = json.loads(json.dumps(written))
        spoil(damaged)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate(damaged)


def test_every_code_that_can_be_given_is_in_the_schema() -> None:
    """In the source, a code is the first word of a limit or of an entry of the table of costly options."""
    source = Path(validity.__file__).read_text()
    codes = {
        *re.findall(r'(?:FigureLimit\(|_about\(\s*rows,)\s*"([A-Z_]+)"', source),
        *(code for code, _ in validity._COSTLY.values()),
    }
    assert set(read_schema(document.SCHEMA)["properties"]["validity"]["items"]["properties"]["code"]["enum"]) == codes


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


def test_runs_of_several_boots_become_one_result() -> None:
    first, second = result(process_run(boot="a")), result(process_run(boot="b"), process_run(boot="b"))
    other = replace(second, rows=(*second.rows, replace(second.rows[0], point=replace(POINT, backing="thp"))))
    merged = model.merge([first, other])
    assert [[one.boot_id for one in row.runs] for row in merged.rows] == [["a", "b", "b"], ["b", "b"]]


def test_leaves_of_boots_that_differ_are_all_shown() -> None:
    """Other memory gives other leaves. The joined result had those of the first boot only."""
    large, small = {2 << 20: 1}, {4 << 10: 512}
    boots = [result(process_run(leaves=one), process_run()) for one in (large, large, small)]
    shown = {number: report.leaves_text(model.merge(boots[:number]).rows[0]) for number in (2, 3)}
    assert shown == {2: "1x2M", 3: "1x2M or 512x4K"}
    assert "1x2M or 512x4K" in counts.count_letter([model.merge(boots)])


def test_each_boot_keeps_its_environment_and_floors() -> None:
    first = result(process_run(boot="a"), flush_ns=(400,))
    second = result(process_run(boot="b"), flush_ns=(900,), governor="powersave")
    merged = model.merge([model.merge([first]), second])
    assert [(one.boot_id, one.environment.governor) for one in merged.boots] == [
        ("a", "performance"),
        ("b", "powersave"),
    ]
    assert list(merged.rows[0].user_flush_ns) == [400, 900]
    assert len(merged.floor.ioctl_ns) == 2 * len(first.floor.ioctl_ns)


def test_a_run_has_the_name_that_it_was_given() -> None:
    assert result().label == "stock non-coherent"
    assert replace(result(), name="before").label == "before"


def test_table_shows_each_operation_per_page() -> None:
    table = report.times_table(result())
    shown = dict(zip(table.headings, table.rows[0], strict=True))
    assert shown["size"] == "8K"
    assert shown["n"] == "9"
    assert shown["median"] == "2 us"
    assert shown["ns/4K"] == "1000"
    assert shown["GiB/s"] == "3.81"
    assert shown["flush"] == "-"
    assert [row[2] for row in table.rows] == ["map", "unmap"]


@pytest.mark.parametrize(
    ("bytes_of_runs", "shown"), [((8192, 8192), "8K"), ((8192, 4096), "4K-8K"), ((None, 0), "0"), ((None, None), "?")]
)
def test_table_of_buffers_shows_the_page_tables_of_all_processes(
    bytes_of_runs: tuple[int | None, ...], shown: str
) -> None:
    table = report.buffers(result(*[process_run(page_table_bytes=one) for one in bytes_of_runs]))
    (texts,) = table.rows
    assert texts[table.headings.index("tables")] == shown


def test_only_axes_that_say_something_have_a_column() -> None:
    assert report.times_table(result()).headings[:3] == ("size", "backing", "operation")
    special = replace(POINT, cache=model.CacheState.CLEAN, chunk_bytes=4096)
    assert report.times_table(result(point=special)).headings[:5] == ("size", "backing", "chunk", "cache", "operation")
    assert report.row_name(special) == "8K, 4k, chunk 4K, cache clean"


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


def test_points_that_cannot_exist_are_left_out_with_the_reason() -> None:
    found, left_out = points(
        workload=[model.Workload.MAP, model.Workload.MAP_FILE],
        size_bytes=[4096, 2 << 20],
        backing=["4k", "thp", "memfd"],
        chunk_bytes=[0, 64 << 10],
    )
    assert all(point.backing == "memfd" for point in found if point.workload is model.Workload.MAP_FILE)
    assert not any(point.backing == "thp" and point.size_bytes == 4096 for point in found)
    assert "4K is not a multiple of the 2M pages of thp" in left_out
    assert "4K cannot be mapped in chunks of 64K" in left_out
    assert "map-file needs a memfd, not 4k" in left_out
    assert len(found) == len(set(found)) == 3 + 5 + 3


RANGES = IovaRanges((IovaRange(0x100_0000, 0x7FFF_FFFF),), 4096)


@given(
    st.sampled_from([model.Workload.MAP, model.Workload.COPY]),
    st.integers(1, 0x4000),
    st.sampled_from([0, 4096, 65536]),
    st.sampled_from(model.IovaUse),
    st.integers(1, 4),
)
def test_places_are_allowed_aligned_and_apart(
    workload: model.Workload, pages: int, alignment: int, use: model.IovaUse, threads: int
) -> None:
    size = pages * 4096
    point = model.Point(workload, size, alignment=alignment, iova_use=use, threads=threads)
    places = [ThreadIovas.find("mock", RANGES, point, thread, None) for thread in range(threads)]
    taken: list[IovaRange] = []
    for place in places:
        if alignment:
            assert place.iova % (alignment * 2) == alignment
        else:
            assert place.iova % (1 << (size.bit_length() - 1)) == 0
        for number in {0, place.places - 1}:
            firsts = [place.iova, place.other] if workload is model.Workload.COPY else [place.iova]
            taken += [IovaRange(at + number * place.stride, at + number * place.stride + size - 1) for at in firsts]
    assert all(RANGES.ranges[0].contains(one.start, one.length) for one in taken)
    taken.sort()
    assert all(before.last < after.start for before, after in pairwise(taken))


def test_the_whole_of_a_range_can_be_mapped() -> None:
    point = model.Point(model.Workload.MAP, 1 << 30)
    assert ThreadIovas.find("mock", RANGES, point, 0, None).iova == 1 << 30
    with pytest.raises(ToolError, match="no allowed IOVA range holds 2G"):
        ThreadIovas.find("mock", RANGES, replace(point, workload=model.Workload.COPY), 0, None)


def test_an_alignment_that_cannot_be_had_is_refused() -> None:
    point = model.Point(model.Workload.MAP, 4096, alignment=1 << 30)
    assert ThreadIovas.find("mock", RANGES, point, 0, 1 << 30).iova == 1 << 30
    with pytest.raises(ToolError, match="IOVA 0x10000000 is not aligned to exactly 1G: leave out --iova"):
        ThreadIovas.find("mock", RANGES, point, 0, 0x1000_0000)
    with pytest.raises(ToolError, match="aligned to 64T"):
        ThreadIovas.find("mock", RANGES, replace(point, alignment=64 << 40), 0, None)
    _, left_out = points(workload=[model.Workload.MAP], size_bytes=[4096], backing=["4k"], alignment=[3 << 12])
    assert left_out == ["12K is not an alignment: give a power of two of at least 4K"]


def test_a_wanted_iova_that_is_not_allowed_names_the_allowed_ranges() -> None:
    point = model.Point(model.Workload.MAP, 8192)
    first = RANGES.ranges[0].start
    with pytest.raises(ToolError, match=rf"8K from IOVA .* are not in a range that mock allows: {first:#x}-"):
        ThreadIovas.find("mock", RANGES, point, 0, (1 << 64) - 4096)
    with pytest.raises(ToolError, match="IOVA 0x40000001 is not a multiple of 4K"):
        ThreadIovas.find("mock", RANGES, point, 0, (1 << 30) + 1)
    last = next(one.last for one in RANGES.ranges if one.length > 1 << 20)
    copied = replace(point, workload=model.Workload.COPY)
    assert ThreadIovas.find("mock", RANGES, copied, 0, last + 1 - 4 * 4096).other == last + 1 - 2 * 4096


def test_absent_and_unwritable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot be read"):
        document.load_result(tmp_path / "absent.json")
    with pytest.raises(ToolError, match="cannot be written"):
        document.save(result(), tmp_path / "no" / "such" / "run.json")


def test_one_floor_stands_everywhere() -> None:
    """The floor in the text was that of the start, 20 % above the floor of the ratios, which the runs measure."""
    runs = [process_run([1600] * 3, [900] * 3, boot=str(at), clock_ns=30.0, ioctl_ns=150.0) for at in range(3)]
    one = result(*runs)
    assert statistics.median(one.floor.ioctl_ns) == 110
    comparison = compare(one, one)
    assert [change.floor_ns for change in comparison.changes] == pytest.approx([150, 150])
    assert [cell.floor_ns for cell in report.cells(one)] == [150, 150]
    assert (
        dict(report.facts(one))["floor"]
        == "30 ns between two clock reads, 150 ns for an ioctl that does nothing (medians)"
    )
    assert (
        "the floor of 150 ns is over 10 % of a time in 1 of 2 ratios"
        in finding.time_sentences([one, one], [comparison])[2]
    )
    for text in (
        cover_letter.cover_letter([one, one], [comparison]),
        dialects.iommupt(one, one, comparison),
        dialects.vfio_tests(one, one, comparison),
    ):
        assert "floor: an ioctl that does nothing takes 150 ns" in text
    assert "floor\N{NO-BREAK SPACE}150\N{NO-BREAK SPACE}ns" in plot.page_figure([one]).get_suptitle()
    assert replace(one, rows=()).floors == (22.5, 110)


def test_results_with_different_floors_show_both() -> None:
    """Each kernel has its own floor: the checks of a debug kernel lengthen each ioctl. Texts showed one floor only."""
    slow, fast = (result(*[process_run(clock_ns=30.0, ioctl_ns=ns)] * 3) for ns in (400.0, 150.0))
    comparison = compare(slow, fast)
    for text in (
        cover_letter.cover_letter([slow, fast], [comparison]),
        dialects.iommupt(slow, fast, comparison),
        dialects.vfio_tests(slow, fast, comparison),
        json.dumps(bench_kcidb([slow, fast], [comparison])),
        " ".join(compare_text.markdown(comparison, cover_letter.conditions([slow, fast])).split()),
    ):
        assert "an ioctl that does nothing takes 150 ns to 400 ns" in text
    quality = finding.time_sentences([slow, fast], [comparison])[2]
    assert "the floor of 150 ns to 400 ns is over 10 %" in quality
    title = plot.change_figure(comparison, [slow, fast]).get_suptitle()
    assert "floor 150 ns to 400 ns" in title.replace("\N{NO-BREAK SPACE}", " ")
