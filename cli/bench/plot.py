# SPDX-License-Identifier: MIT
"""`iommufd bench plot`: pictures of results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from iommufd_py.base.files import STDOUT, write_file
from iommufd_py.results import compare as comparing
from iommufd_py.results import document
from iommufd_py.results.cover_letter import doubts
from iommufd_py.results.model import BenchResult

from ..commands import command
from ..files import OUTPUT_FILE, RESULT_FILE, Directory, make_output_directory, refuse_input, refuse_second_stdin
from ..output import note
from ..types import refuse_ignored


@command()
@click.argument("files", nargs=-1, required=True, type=RESULT_FILE)
@click.option("--html", type=OUTPUT_FILE, help="Write one self-contained page with all tables and pictures.")
@click.option("--directory", type=Directory(), help="Write each picture to a file in this directory.")
@click.option("--format", "kind", type=click.Choice(["svg", "png"]), default="svg", help="Format of those files.")
@click.option("--trace", "traces", type=RESULT_FILE, multiple=True, help="A file that 'bench trace --json' printed.")
@click.option("--force", is_flag=True, help="Compare although the machines differ.")
@click.pass_context
def plot(
    context: click.Context,
    files: tuple[Path, ...],
    html: Path | None,
    directory: Path | None,
    kind: str,
    traces: tuple[Path, ...],
    force: bool,
) -> None:
    """Draw results: distribution of the times, time for each page by size, and the ratios to the first result.

    \b
    Examples:
      iommufd bench plot stock.json patched.json --html report.html
      iommufd bench plot run.json --directory pictures --format png
    """
    if html is None and directory is None:
        raise click.UsageError("name the output: --html FILE or --directory DIR")
    refuse_ignored(context, "kind", directory is None, "it sets the format of the files of --directory")
    refuse_ignored(context, "force", len(files) == 1, "a comparison needs two results")
    refuse_second_stdin([*files, *traces])
    if html is not None:
        refuse_input(html, (*files, *traces))
    from iommufd_py.results import breakdown
    from iommufd_py.results import plot as drawing

    results = document.load_all(files)
    comparisons = [comparing.compare(results[0], other, force=force) for other in results[1:]]
    breakdowns = [one for file in traces for one in breakdown.load_breakdowns(file)]
    if html is not None:
        write_html(html, results, comparisons, breakdowns)
    if directory is None:
        return
    figures: dict[str, tuple[Any, list[str]]] = {
        "distribution": (drawing.distribution_figure(results), doubts(results)),
        "page": (drawing.page_figure(results), doubts(results)),
    }
    for number, (result, one) in enumerate(zip(results[1:], comparisons, strict=True), 1):
        if not one.has_ratios:
            note(f"iommufd: no picture of {one.after} against {one.before}: all operations are too short to time")
            continue
        figures[f"change-{number}"] = drawing.change_figure(one, results), doubts([results[0], result], [one])
    if breakdowns:
        figures["shares"] = drawing.share_figure(breakdowns), []
    make_output_directory(directory)
    outputs = {name: directory / f"{name}.{kind}" for name in figures}
    for file in outputs.values():
        refuse_input(file, (*files, *traces))
    for name, (figure, limits) in figures.items():
        drawing.add_limits(figure, limits)
        _write(outputs[name], drawing.render(figure, kind))


def write_html(
    file: Path,
    results: Sequence[BenchResult],
    comparisons: Sequence[comparing.Comparison],
    breakdowns: Sequence[Any] = (),
    sentences: Sequence[str] = (),
) -> None:
    """Write the page with all tables and pictures; *sentences* are the finding, if another text has it, too."""
    from iommufd_py.results.html import page

    _write(file, page(results, comparisons, breakdowns, sentences).encode())


def _write(file: Path, content: bytes) -> None:
    write_file(file, content)
    if file != STDOUT:
        note(f"iommufd: {file}")
