# SPDX-License-Identifier: MIT
"""`iommufd bench history`: a directory of results over time."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import write_file
from iommufd_py.base.units import counted, format_ns
from iommufd_py.results import document, report
from iommufd_py.results import history as over
from iommufd_py.results.compare_text import floor_legend, net_text, ratio_text
from iommufd_py.results.model import BenchResult, Point
from iommufd_py.results.tables import Table

from ..commands import command
from ..files import OUTPUT_FILE, Directory, refuse_input
from ..output import emit_json
from ..types import JSON_OPTION
from .page import emit_folded, emit_lines

_PICTURES = (".svg", ".png")


@command()
@click.argument("directory", type=Directory(exists=True))
@JSON_OPTION
@click.option("--output", type=OUTPUT_FILE, help="Draw the times to this file; its name ends in .svg or .png.")
def history(directory: Path, as_json: bool, output: Path | None) -> None:
    """Find the results of a directory at which an operation became slower or faster.

    The results are the files of 'bench run --output' whose names end in .json, in the order of their start. The search
    needs at least four results. The exit status is 1 if the last change of an operation made it slower.
    """
    if output is not None and output.suffix not in _PICTURES:
        raise click.UsageError(f"the name {output} must end in {' or '.join(_PICTURES)}")
    files = _by_start(directory)
    if output is not None:
        refuse_input(output, list(files))
    copies = over.copies(list(files.values()))
    counting = {file: result for at, (file, result) in enumerate(files.items()) if at not in copies}
    ordered, results = list(counting), list(counting.values())
    names = [_named(file, result) for file, result in counting.items()]
    over.check_comparable(names, results)
    every = [_named(file, result) for file, result in files.items()]
    remarks = [
        *(f"{every[at]} is left out: it has the measurements of {every[first]}" for at, first in copies.items()),
        *over.remarks(names, results),
    ]
    lines = over.over_time(results)
    if not lines:
        raise ToolError(f"{directory} has no history: its results have no operation with a time above 0 ns")
    found = over.change_points(lines)
    if output is not None:
        from iommufd_py.results.plot import add_limits, history_figure, render

        figure = history_figure(lines, results, found)
        add_limits(figure, remarks)
        write_file(output, render(figure, output.suffix.removeprefix(".")))
    if as_json:
        emit_json(_document(ordered, results, remarks, found))
    else:
        emit_folded(_table(names, lines, found))
        floors = " and ".join(f"{format_ns(results[at].floors[1])} in {names[at]}" for at in (0, -1))
        emit_lines(
            [
                f"{counted(len(results), 'result')}, {names[0]} to {names[-1]}",
                f"floor: an ioctl that does nothing takes {floors}; every time contains it",
                *floor_legend(found),
                *remarks,
            ]
        )
    last = {(one.point, one.operation): one for one in found}
    if any(one.ratio > 1 for one in last.values()):
        sys.exit(1)


def _named(file: Path, result: BenchResult) -> str:
    """Return the name of a file, with that of the result if the user gave one."""
    return f"{file.name} ({result.name})" if result.name else file.name


def _by_start(directory: Path) -> dict[Path, BenchResult]:
    """Return the results of a directory by file, in the order of their start.

    Raises:
        ToolError: a file is no result, or there is none.
    """
    # A link to a file that is gone must not shorten the series without a word.
    paths = [file for file in sorted(directory.glob("*.json")) if file.is_file() or not file.exists()]
    files = {file: document.load_result(file) for file in paths}
    if not files:
        file = shlex.quote(str(directory / "1.json"))
        raise ToolError(f'{directory} has no result: write one with "iommufd bench run --device mock --output {file}"')
    return dict(sorted(files.items(), key=lambda one: one[1].started))


def _document(
    files: Sequence[Path], results: Sequence[BenchResult], remarks: Sequence[str], found: Sequence[over.ChangePoint]
) -> dict[str, Any]:
    return {
        "schema": "iommufd-bench-history/1",
        "results": [
            {"file": str(file), "started": result.started, "label": result.label}
            for file, result in zip(files, results, strict=True)
        ],
        "remarks": list(remarks),
        "changes": [
            {
                "operation": one.operation,
                "row": report.row_name(one.point),
                "file": str(files[one.at]),
                "ratio": one.ratio,
                "on_floor": one.on_floor,
                "net": None if one.net is None else one.net.value,
            }
            for one in found
        ],
    }


def _table(names: Sequence[str], lines: Sequence[over.OperationHistory], found: Sequence[over.ChangePoint]) -> Table:
    """Return a row for each operation over time, with its changes."""
    changes: dict[tuple[Point, str], list[str]] = {}
    for one in found:
        changes.setdefault((one.point, one.operation), []).append(f"{_ratio(one)} at {names[one.at]}")
    axes = report.axes([line.point for line in lines])
    rows = tuple(
        (
            *report.axis_values(line.point, axes),
            line.operation,
            str(len(line.ns)),
            format_ns(line.ns[0]),
            format_ns(line.ns[-1]),
            "; ".join(changes.get((line.point, line.operation), ("none",))),
        )
        for line in lines
    )
    headings = (*report.axis_headings(axes), "operation", "results", "first", "last", "changes")
    return Table(headings, rows, len(axes) + 1)


def _ratio(one: over.ChangePoint) -> str:
    return f"{ratio_text(one)} (net {net_text(one)})" if one.on_floor else ratio_text(one)
