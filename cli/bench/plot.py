# SPDX-License-Identifier: MIT
"""`iommufd bench plot|trace`: pictures, and where the kernel's time goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from iommufd_py.base.errors import ToolError
from iommufd_py.results import compare as comparing
from iommufd_py.results import document
from iommufd_py.results.model import BenchResult

from ..output import note

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--html", type=_FILE, help="Write one self-contained page with all tables and pictures.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each picture to a file here.",
)
@click.option("--format", "kind", type=click.Choice(["svg", "png"]), default="svg", help="Of those files.")
@click.option("--trace", "traces", type=_FILE, multiple=True, help="What 'bench trace --json' printed.")
@click.option("--force", is_flag=True, help="Compare although the machines differ in what matters.")
def plot(
    files: tuple[Path, ...], html: Path | None, directory: Path | None, kind: str, traces: tuple[Path, ...], force: bool
) -> None:
    """Draw kept runs: how times are distributed, time for each page against size, the others against the first."""
    if html is None and directory is None:
        raise click.UsageError("say where to: --html FILE or --directory DIR")
    from iommufd_py.results import breakdown
    from iommufd_py.results import plot as drawing

    results = [document.load(file) for file in files]
    comparisons = [comparing.compare(results[0], other, force=force) for other in results[1:]]
    breakdowns = [one for file in traces for one in breakdown.load_breakdowns(file)]
    if html is not None:
        write_html(html, results, comparisons, breakdowns)
    if directory is None:
        return
    figures: dict[str, Any] = {
        "distribution": drawing.distribution_figure(results),
        "page": drawing.page_figure(results),
    }
    figures |= {f"change-{number}": drawing.change_figure(one) for number, one in enumerate(comparisons, 1)}
    if breakdowns:
        figures["shares"] = drawing.share_figure(breakdowns)
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        _write(directory / f"{name}.{kind}", drawing.render(figure, kind))


def write_html(
    file: Path,
    results: Sequence[BenchResult],
    comparisons: Sequence[comparing.Comparison],
    breakdowns: Sequence[Any] = (),
) -> None:
    """Write the page of all tables and pictures."""
    from iommufd_py.results.html import page

    _write(file, page(results, comparisons, breakdowns).encode())


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as failure:
        raise ToolError(f"{file} cannot be written: {failure.strerror}; choose another file") from failure
    note(f"iommufd: {file}")
