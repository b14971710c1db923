# SPDX-License-Identifier: MIT
"""Files, tables and floors of results."""

import json
import re
import statistics
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from iommufd_py import FlushCount, ToolError
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
from iommufd_py.results.schema import read_schema
from tests.unit.results.bench_results import POINT, process_run, result


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
