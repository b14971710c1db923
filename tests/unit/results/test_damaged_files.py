# SPDX-License-Identifier: MIT
"""Damaged or foreign files: the error is one sentence with the place, never a traceback."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from iommufd_py import ToolError
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.results import (
    breakdown,
    cautions,
    compare_text,
    cover_letter,
    dialects,
    document,
    kcidb,
    pyperf,
    report,
)
from iommufd_py.results.compare import compare, comparison_document
from iommufd_py.results.model import BenchResult, Noise, Point, Workload, merge
from tests.unit.results.bench_results import process_run, result

Place = tuple[str | int, ...]
MUTANTS = (None, "text", -1, 0, 2**63, 2**64, 1.5, [], {}, True, float("nan"), 10**400, "\x1b[31m", "\ud800", 1e300)


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Yield every place in a document."""
    if here:
        yield here
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*here, key))
    elif isinstance(value, list):
        for number, each in enumerate(value[:2]):
            yield from places(each, (*here, number))


def changed(whole: Any, place: Place, value: Any) -> Any:
    spoiled = copy.deepcopy(whole)
    *way, last = place
    parent = spoiled
    for step in way:
        parent = parent[step]
    if value is KeyError:
        del parent[last]
    else:
        parent[last] = value
    return spoiled


@pytest.fixture(scope="module")
def good() -> Any:
    noise = Noise(steal=0.0, switches=0.0, waiting=0.0, clock_jump=0.0, slowdown=1.0)
    whole = merge(
        [
            result(
                process_run(noise=noise, clock_ns=20.0, ioctl_ns=110.0, discarded=("busy",)),
                process_run(),
                process_run(),
            )
        ]
    )
    return json.loads(json.dumps(document.to_document(whole)))


def use(path: Path) -> None:
    """Use a file in every way in which the tool uses it."""
    read = document.load_result(path)
    for one in (report.times_table(read), report.buffers(read)):
        assert all(isinstance(text, str) for row in one.rows for text in row)
    "\n".join([*report.notes(read), *(text for _, text in report.facts(read))]).encode()
    json.dumps(report.summary_document(read), allow_nan=False)
    if any(row.operations for row in read.rows):  # An export of nothing is refused.
        json.dumps(pyperf.to_pyperf(read), allow_nan=False)
    comparison = compare(read, read, force=True)
    compare_text.markdown(comparison, ["x"]).encode()
    cover_letter.cover_letter([read, read], [comparison]).encode()
    dialects.iommupt(read, read, comparison).encode()
    dialects.vfio_tests(read, read, comparison).encode()
    json.dumps(kcidb.bench_kcidb([read, read], [comparison]), allow_nan=False)
    json.dumps(comparison_document([comparison], ["x"]), allow_nan=False)


@pytest.mark.slow
def test_every_value_of_every_kind_is_used_or_refused_with_its_place(good: Any, tmp_path: Path) -> None:
    """A value that violates the schema is refused with its place. A file with any other value is usable."""
    file, used, refused = tmp_path / "run.json", 0, 0
    for place in places(good):
        for value in (*MUTANTS, KeyError):
            file.write_text(json.dumps(changed(good, place, value)))
            try:
                use(file)
            except ToolError as failure:
                text = str(failure)
                refused += 1
                assert str(file) in text or "no row in common" in text or "differ in" in text, (place, value, text)
                assert len(text) < 600 + len(str(file)), (place, value)
                text.encode()
            else:
                used += 1
    assert refused > 5 * used > 0


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("rows", 0, "iova"), None, "damaged at rows/0/iova: None is not of type integer"),
        (("rows", 0, "point", "size_bytes"), 0, "damaged at rows/0/point/size_bytes: 0 is outside the minimum of 1"),
        (("rows", 0, "point", "bulk_unmap"), None, "damaged at rows/0/point/bulk_unmap: None is not of type boolean"),
        (
            ("started",),
            "2026-02-30T00:00:00+00:00",
            r"damaged at started: '2026-02-30T00:00:00\+00:00' is not a time that exists",
        ),
        (("environment", "platform"), 1, "damaged at environment/platform: 1 is not of type string"),
        (("rows", 0, "runs", 0, "boot_id"), [], r"damaged at rows/0/runs/0/boot_id: \[\] is not of type string"),
        (("floor", "clock_ns", 0), float("nan"), "damaged at floor/clock_ns/0: nan is not of type integer"),
        (
            ("rows", 0, "runs", 1, "operations", "unmap"),
            KeyError,
            "damaged at rows/0/runs/1/operations: map cannot be: map through iommufd times map and unmap;",
        ),
        (
            ("rows", 0, "point", "workload"),
            "attach",
            "damaged at rows/0/runs/0/operations: map and unmap cannot be: attach through iommufd times attach and det",
        ),
        (("rows", 0, "point", "workload"), "close", "damaged at rows/0/runs/0/operations: map and unmap cannot be"),
        (
            ("target", "coherency"),
            "coherent",
            r"damaged at target/coherency: by the evidence \(.*=0\) it is non-coherent",
        ),
        (("rows", 0, "runs", 1, "operations"), {}, "damaged at rows/0/runs/1/operations: {} is not allowed here"),
        (
            ("rows", 0, "runs", 1, "operations", "map", "switched"),
            [9],
            "damaged at rows/0/runs/1/operations/map/switched: there is no sample at this position",
        ),
        (
            ("rows", 0, "runs", 1, "operations", "map", "faulted"),
            [0, 0],
            "damaged at rows/0/runs/1/operations/map/faulted: a position is there twice",
        ),
        (("command", 0), None, "damaged at command/0"),
        (
            ("rows", 0, "runs", 0, "leaves"),
            {"9" * 5000: 1},
            "damaged at rows/0/runs/0/leaves: '99+... is not allowed here",
        ),
        (
            ("rows", 0, "runs", 0, "leaves"),
            {"04096": 1, "4096": 2},
            "damaged at rows/0/runs/0/leaves: '04096' is not allowed here",
        ),
        (
            ("rows", 0, "runs", 0, "leaves"),
            {"4096\n": 1},
            r"damaged at rows/0/runs/0/leaves: '4096\\n' is not allowed here",
        ),
        (("started",), "2026-01-01T00:00:00+00:00\n", "damaged at started"),
        (("name",), "n" * 1001, "damaged at name: 'n+... is not allowed here"),
        (("name",), "\u202egood", r"damaged at name: '\\u202egood' is not allowed here"),
        (("future",), 1, "'future' was unexpected.; a newer version of this tool may know more: upgrade iommufd-py"),
        (("rows", 0, "point", "workload"), "future", "is not one of map, .* a newer version of this tool may know"),
        (("command",), ["x"] * 5000, "damaged at command"),
        (("schema",), "iommufd-bench/2", "was written by a newer version of this tool .* upgrade iommufd-py"),
        (("schema",), "iommufd-bench-compare/1", "was written by 'iommufd bench compare --json'"),
        (("schema",), "iommufd-bench/0", "has the schema 'iommufd-bench/0', not iommufd-bench/1"),
        (("schema",), "other/1", "has the schema 'other/1', not iommufd-bench/1"),
        (("schema",), KeyError, "has no schema, so it is not a file of this tool"),
    ],
)
def test_the_sentence(good: Any, tmp_path: Path, place: Place, value: Any, reason: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(changed(good, place, value)))
    with pytest.raises(ToolError, match=reason):
        document.load_result(file)


@pytest.mark.parametrize("backend", ContainerMode)
@pytest.mark.parametrize("workload", Workload)
def test_a_row_has_the_operations_of_its_workload(
    good: Any, tmp_path: Path, workload: Workload, backend: ContainerMode
) -> None:
    """The schema names them all, and a row with those of any other workload is refused."""
    point, file = Point(workload, 8192, backend=backend), tmp_path / "run.json"
    (row, *_), samples = good["rows"], good["rows"][0]["runs"][0]["operations"]["map"]
    for names in {
        one.operations for one in (Point(each, 1, backend=mode) for each in Workload for mode in ContainerMode)
    }:
        run = {**row["runs"][0], "operations": dict.fromkeys(names, samples)}
        file.write_text(json.dumps({**good, "rows": [{**row, "point": asdict(point), "runs": [run]}]}))
        if names == point.operations:
            assert document.load_result(file).rows[0].operations == names
        else:
            with pytest.raises(ToolError, match=f"rows/0/runs/0/operations: .* {' and '.join(point.operations)};"):
                document.load_result(file)


def test_a_row_that_is_there_twice_is_damage(good: Any, tmp_path: Path) -> None:
    """A comparison would count its operations twice, each with both rows of the other result."""
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**good, "rows": [*good["rows"], good["rows"][0]]}))
    with pytest.raises(ToolError, match=rf"damaged at rows/{len(good['rows'])}/point: an earlier row has the same"):
        document.load_result(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not json", "is not JSON: give a file that 'iommufd bench run --output' wrote"),
        (b"\xff\xfe", "is not JSON"),
        (b" \n", "is empty: give a file"),
        (b'{"schema": "iommufd-bench/1", "rows": [', "lacks its end, as after a full disk"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"[]", "has no schema"),
        (b'{"version": "1.0", "benchmarks": []}', "is a pyperf file"),
        (b'{"schema": "iommufd-bench/1"}', "is damaged at its top level: '.*' is a required property"),
        (b'{"schema": ["iommufd-bench/1"]}', "has no schema"),
        (b'{"schema": "iommufd-bench/1", "schema": "x"}', "is damaged: an object has the key 'schema' twice"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(content)
    with pytest.raises(ToolError, match=reason):
        document.load_result(file)
    with pytest.raises(ToolError):
        breakdown.load_breakdowns(file)


def test_a_byte_order_mark_is_no_damage(good: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(good), "utf-8-sig")
    use(file)


def test_a_file_of_an_older_version_is_read(good: Any, tmp_path: Path) -> None:
    """The older version had no floors of each process, no boots and no names."""
    old = copy.deepcopy(good)
    for key in ("name", "boots", "discarded"):
        del old[key]
    del old["environment"]["compiler"]
    for row in old["rows"]:
        row["user_flush_ns"], row["leaves"] = [400, 410], {"4096": 2}
        for one in row["runs"]:
            for key in ("user_flush_ns", "leaves", "clock_ns", "ioctl_ns", "noise", "discarded"):
                del one[key]
    file = tmp_path / "run.json"
    file.write_text(json.dumps(old))
    read = document.load_result(file)
    assert list(read.rows[0].user_flush_ns) == [400, 410]
    assert read.rows[0].leaves == ({4096: 2},)
    assert read.rows[0].runs[0].ioctl_ns is None
    use(file)
    change = compare(read, read).changes[0]
    assert change.flushes is not None
    assert change.flushes.low is None


TEXTS = ("kernel_release", "kernel_variant", "platform", "machine", "cpu", "command_line", "microcode", "governor")
FACTS = (
    *(("environment", name) for name in (*TEXTS, "compiler")),
    ("target", "device"),
    ("target", "iommu"),
    ("floor", "clock"),
    ("tool_version",),
    ("command", 0),
)
HOLE = re.compile(r"\(\s*\)|\(\s*and\b|\band\s*\)|\s\s|\s,|^[\s,]|[\s,]$|^$")


def sentences(before: BenchResult, after: BenchResult) -> Iterator[str]:
    """Yield the sentences and values of each text form that tell about machines."""
    comparison = compare(before, after, force=True)
    yield from (*cautions.obstacles(before, after), *comparison.cautions)
    yield from cautions.cautions(merge((before, after)), after, ())
    yield from (*report.machine_lines([after]), *cover_letter.conditions([before, after]))
    yield from (text for _, text in report.facts(after))
    footer = dialects.vfio_tests(before, after, comparison).partition("2^30 bytes.\n")[2]
    yield from re.sub(r"\n +", " ", footer).splitlines()
    yield from map(str, pyperf.to_pyperf(after)["metadata"].values())
    found = kcidb.bench_kcidb([before, after], [comparison])
    yield from (one["comment"] for one in (*found["checkouts"], *found["builds"]))
    yield from (one["environment"]["comment"] for one in found["tests"])
    yield from (one["environment"]["misc"]["command"] for one in found["tests"])


@pytest.mark.parametrize("value", ["", " "], ids=["empty", "blank"])
@pytest.mark.parametrize("place", FACTS, ids=lambda place: str(place[-1]))
def test_a_fact_that_is_missing_leaves_no_hole_in_a_sentence(
    good: Any, tmp_path: Path, place: Place, value: str
) -> None:
    whole = {**changed(good, ("environment", "compiler"), "gcc 15"), "boots": []}
    results = []
    for name, one in (("whole", whole), ("without", changed(whole, place, value))):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({**one, "name": name}))
        results.append(document.load_result(file))
    holes = [text for pair in (results, results[::-1]) for text in sentences(*pair) if HOLE.search(text)]
    assert not holes


def test_a_result_without_its_command_has_the_name_of_the_tool(good: Any, tmp_path: Path) -> None:
    """pyperf reads no empty command."""
    (tmp_path / "run.json").write_text(json.dumps({**good, "command": []}))
    read = document.load_result(tmp_path / "run.json")
    assert pyperf.to_pyperf(read)["metadata"]["command"] == read.repeat_command == "iommufd"


def test_no_rows_have_nothing_to_compare(good: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**good, "rows": []}))
    with pytest.raises(ToolError, match="no row in common"):
        use(file)


@pytest.mark.parametrize("part", ["rounds", "whole_ns", "parts", "name"])
def test_a_damaged_trace_is_refused_with_its_place(tmp_path: Path, part: str) -> None:
    whole = {"name": "map", "rounds": 1, "whole_ns": 5, "parts": [{"name": "pinning", "ns": 5, "calls": 1}]}
    file = tmp_path / "trace.json"
    file.write_text(json.dumps({"schema": breakdown.SCHEMA, "breakdowns": [whole]}))
    assert breakdown.load_breakdowns(file)[0].parts[0].name == "pinning"
    file.write_text(json.dumps({"schema": breakdown.SCHEMA, "breakdowns": [{**whole, part: None}]}))
    with pytest.raises(ToolError, match=f"damaged at breakdowns/0/{part}"):
        breakdown.load_breakdowns(file)
