# SPDX-License-Identifier: MIT
"""`iommufd bench`: time DMA map and unmap, read and compare what was timed."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from iommufd_py import pci
from iommufd_py.base.coherency import Coherency
from iommufd_py.base.pci_address import MOCK
from iommufd_py.base.units import format_ns
from iommufd_py.bench import runner
from iommufd_py.bench import trace as tracing
from iommufd_py.results import breakdown, document, report
from iommufd_py.results.model import BenchResult

from ..output import emit_json, emit_table, note
from ..types import IOVA
from .axes import axis_options, chosen_points, device_options
from .patch import patch
from .plot import plot
from .results import compare, export, show, show_result

# A log gets a line so often, in seconds.
_LINE_EVERY = 10
# Time between two saves as a multiple of the time that one takes.
_SAVE_PAUSE = 10


@click.group()
def bench() -> None:
    """Time DMA map and unmap, and everything else that fills or empties a domain.

    Options that take a list (4K,2M) are axes: every combination of their values is a row.
    """


for command in (show, compare, plot, export, patch):
    bench.add_command(command)


@bench.command()
@device_options
@axis_options
@click.option("--iova", type=IOVA, metavar="ADDRESS", help="Where to map.  [default: an aligned place from 4 GiB on]")
@click.option("--processes", type=click.IntRange(min=1), default=5, help="How often to measure it all, each time anew.")
@click.option("--values", type=click.IntRange(min=1), help="Samples a row in each process.  [default: by --seconds]")
@click.option("--seconds", type=click.FloatRange(min=0.001), default=0.25, help="Time for a row in each process.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the run, samples and all, row by row.",
)
def run(device: str, bind: bool, coherency: str, json_file: Path | None, **options: Any) -> None:
    """Time IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP of one buffer, or other operations, each by itself, over and over.

    The clock is read in C around the ioctls alone. Processes with memory of their own go through all rows in turn.
    """
    plan = runner.Plan(
        device=device,
        points=chosen_points(options),
        coherency=Coherency(coherency),
        iova=options["iova"],
        processes=options["processes"],
        values=options["values"],
        row_seconds=options["seconds"],
    )
    with _bound(device, bind), _kept(json_file) as keep, _shown() as show_progress:
        result = runner.measure(plan, keep, show_progress)
    show_result(result)


def _bound(device: str, bind: bool) -> AbstractContextManager[object]:
    if bind and device == MOCK:
        raise click.UsageError("--bind needs a PCI device: give its address with --device")
    return pci.vfio_bound(device) if bind else contextlib.nullcontext()


@contextlib.contextmanager
def _kept(file: Path | None) -> Iterator[Callable[[BenchResult], None]]:
    """Save a result row by row, in a tenth of the time at most; whatever ends the run, save all of it."""
    result: BenchResult | None = None
    next_save, saved = 0.0, False

    def keep(so_far: BenchResult) -> None:
        nonlocal result, next_save, saved
        result, saved = so_far, False
        start = time.monotonic()
        if file is not None and start >= next_save:
            document.save(so_far, file)
            saved = True
            next_save = start + _SAVE_PAUSE * (time.monotonic() - start)

    try:
        yield keep
    except KeyboardInterrupt:
        if result is not None and file is not None:
            note(f"iommufd: interrupted; what was measured so far is in {file}")
        raise
    finally:
        if result is not None and file is not None and not saved:
            document.save(result, file)


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[runner.RowProgress], None]]:
    """Show progress on stderr: a bar on a terminal, elsewhere a line every few seconds."""
    if not sys.stderr.isatty():
        last = time.monotonic()

        def line(progress: runner.RowProgress) -> None:
            nonlocal last
            if time.monotonic() - last > _LINE_EVERY:
                last = time.monotonic()
                note(f"{progress.done} of {progress.total} rows, {progress.seconds_left:.0f} s left")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    # Drawn when there is news: a thread that draws would run beside what is timed, and would get the signals.
    with Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("starting", total=None, left="")

        def update(progress: runner.RowProgress) -> None:
            bar.update(
                task,
                description=f"{progress.point.workload} {report.row_name(progress.point)}",
                total=progress.total,
                completed=progress.done,
                left=f"{progress.seconds_left:.0f} s left",
                refresh=True,
            )

        yield update


@bench.command()
@device_options
@axis_options
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="How often to do each operation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for 'bench plot --trace'.")
def trace(device: str, bind: bool, coherency: str, rounds: int, as_json: bool, **options: Any) -> None:
    """Take operations apart: which part of the kernel's time is pinning, page tables, flushes, invalidation.

    Probes on the kernel's functions cost time themselves, more the more often a function is called: read shares, and
    take times from 'bench run'.
    """
    with _bound(device, bind):
        found = list(tracing.break_down(device, chosen_points(options), Coherency(coherency), rounds))
    if as_json:
        emit_json(breakdown.breakdowns_document(found))
        return
    rows = [
        (
            one.name,
            part.name,
            f"{part.calls / one.rounds:g}",
            format_ns(part.ns / one.rounds),
            f"{one.share(part.name):.1%}",
        )
        for one in found
        for part in one.parts
    ]
    emit_table(("operation", "part", "calls", "time, traced", "share"), rows)
