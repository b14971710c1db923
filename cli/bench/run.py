# SPDX-License-Identifier: MIT
"""`iommufd bench run`: time operations and write the result."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.files import STDOUT, is_regular
from iommufd_py.bench import runner
from iommufd_py.bench.turns import Turn
from iommufd_py.results import document, report
from iommufd_py.results.model import BenchResult

from ..commands import command
from ..files import OUTPUT_FILE
from ..output import note
from ..types import IOVA, FiniteFloat, Whole
from .axes import axis_options, bound, chosen_points, device_options, refuse_ignored_axes
from .results import show_result

# Seconds between two progress lines in a log.
_LINE_EVERY = 10
# Time between two saves, as a multiple of the duration of a save.
_SAVE_PAUSE = 10
_DEFAULT_SECONDS = 0.25
_MOST_SECONDS, _MOST_PROCESSES, _MOST_VALUES = 3600, 10_000, 1_000_000
_MOST_LABEL_CHARACTERS = 1000


@command()
@device_options
@axis_options
@click.option("--iova", type=IOVA, metavar="ADDRESS", help="First IOVA.  [default: an aligned one above 4 GiB]")
@click.option(
    "--processes",
    type=Whole(1, _MOST_PROCESSES),
    default=5,
    help="Processes that measure all rows, one after the other, each with its own memory.",
)
@click.option(
    "--values",
    type=Whole(1, _MOST_VALUES),
    help="Samples for each row in each process.  [default: as many as fit into --seconds]",
)
@click.option(
    "--seconds",
    type=FiniteFloat(min=0.001, max=_MOST_SECONDS),
    help=f"Time for each row in each process.  [default: {_DEFAULT_SECONDS}]",
)
@click.option(
    "--label", default="", show_default=False, help="Name of this run in tables.  [default: kernel and coherency]"
)
@click.option("--retry/--no-retry", default=True, help="Measure a row again, at most twice, if the machine was busy.")
@click.option("--silent", is_flag=True, hidden=True, help="Print no remarks and no progress, for 'bench patch'.")
@click.option(
    "--turn",
    type=(click.Path(path_type=Path), int, int),
    hidden=True,
    help="Directory, number and count of the guests that measure in turns, for 'bench patch'.",
)
@click.option("--output", type=OUTPUT_FILE, help="Write the result with all samples, row by row; - is stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print the result with all samples as one JSON document.")
@click.pass_context
def run(
    context: click.Context,
    /,
    device: str,
    bind: bool,
    vf_token: UUID | None,
    coherency: str,
    silent: bool,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Time many maps and unmaps of one buffer, or other operations, each by itself.

    C code reads the clock immediately before and after the ioctls. Several processes, each with its own memory, measure
    all rows in turn.

    \b
    Examples:
      iommufd bench run --device 0000:3b:00.0 --bind --output run.json
      iommufd bench run --device mock --size 4K,2M --label baseline
    """
    refuse_ignored_axes(context)
    if options["values"] and options["seconds"]:
        raise click.UsageError("--values and --seconds contradict each other: give one")
    label = options["label"]
    if label and not label.strip():
        raise click.UsageError("--label is blank: give a name, or leave it out")
    if not label.isprintable():
        raise click.UsageError("--label contains a control character")
    if len(label) > _MOST_LABEL_CHARACTERS:
        raise click.UsageError(f"--label has {len(label)} characters: use up to {_MOST_LABEL_CHARACTERS}")
    to_stdout = as_json or output == STDOUT
    plan = runner.Plan(
        device=device,
        points=chosen_points(options, silent=silent),
        coherency=Coherency(coherency),
        iova=options["iova"],
        processes=options["processes"],
        values=options["values"],
        row_seconds=options["seconds"] or _DEFAULT_SECONDS,
        name=label,
        retry=options["retry"],
        vf_token=vf_token,
        turn=Turn(*options["turn"]) if options["turn"] else None,
    )
    file = None if output == STDOUT else output
    shown = contextlib.nullcontext(_show_nothing) if silent else _shown()
    result = None
    try:
        with bound(device, bind, vf_token), _saved(file) as save, shown as show_progress:
            result = runner.measure(plan, save, show_progress)
    finally:
        # If the file cannot be written in the end, the figures are not lost.
        if result is not None:
            if to_stdout:
                document.save(result, STDOUT)
            else:
                show_result(result)


@contextlib.contextmanager
def _saved(file: Path | None) -> Iterator[Callable[[BenchResult], None]]:
    """Save a result row by row, in at most a tenth of the time, and the whole result at the end of the run.

    A device or a pipe gets the result once, at the end.
    """
    result: BenchResult | None = None
    next_save, saved = 0.0, False
    by_row = file is not None and is_regular(file)

    def save(so_far: BenchResult) -> None:
        nonlocal result, next_save, saved
        result, saved = so_far, False
        start = time.monotonic()
        if file is not None and by_row and start >= next_save:
            document.save(so_far, file)
            saved = True
            next_save = start + _SAVE_PAUSE * (time.monotonic() - start)

    try:
        yield save
    except KeyboardInterrupt:
        if result is not None and file is not None:
            note(f"iommufd: interrupted; the rows measured so far are in {file}")
        raise
    finally:
        if result is not None and file is not None and not saved:
            document.save(result, file)


def _show_nothing(progress: runner.RowProgress) -> None:
    pass


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[runner.RowProgress], None]]:
    """Show progress on stderr: a bar on a terminal, else a line every few seconds."""
    if not sys.stderr.isatty():
        last = time.monotonic()

        def line(progress: runner.RowProgress) -> None:
            nonlocal last
            if time.monotonic() - last > _LINE_EVERY:
                last = time.monotonic()
                part = f" and {progress.part:.0%} of the next" if progress.part else ""
                note(f"{progress.done} of {progress.total} rows{part}{_left(progress)}")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    # update() draws. A thread that draws would disturb the measurement, and it could receive the signals.
    with Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("starting", total=None, left="")

        def update(progress: runner.RowProgress) -> None:
            bar.update(
                task,
                description=f"{progress.point.workload} {report.row_name(progress.point)}",
                total=progress.total,
                completed=progress.done + progress.part,
                left=_left(progress).removeprefix(", "),
                refresh=True,
            )

        yield update


def _left(progress: runner.RowProgress) -> str:
    return "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
