# SPDX-License-Identifier: MIT
"""`iommufd bench`: time DMA map and unmap, read and compare what was timed."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import click

from iommufd_py import pci
from iommufd_py.bench import document, report, runner, workloads
from iommufd_py.bench.model import Backend, BenchResult, CacheState, IovaUse, Workload
from iommufd_py.hwpt import Coherency
from iommufd_py.memory import Backing
from iommufd_py.units import parse_size

from .bench_results import compare, export, show, show_result
from .output import note
from .types import IOVA, SIZES, Values

__all__ = ["bench"]

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def bench() -> None:
    """Time DMA map and unmap, and everything else that fills or empties a domain.

    Options that take a list (4K,2M) are axes: every combination is a row.
    """


class _Chunk(click.ParamType[int]):
    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "whole":
            return 0
        try:
            return parse_size(str(value))
        except ValueError as failure:
            self.fail(str(failure), param, ctx)


def _names(kind: type[StrEnum]) -> Values:
    return Values(click.Choice([str(one) for one in kind]))


def _axis(
    name: str, kind: type[StrEnum], default: StrEnum, text: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--{name}",
        type=_names(kind),
        default=(str(default),),
        show_default=str(default),
        metavar=f"[{'|'.join(kind)}],...",
        help=text,
    )


@bench.command()
@click.option(
    "--device", required=True, metavar="BDF|mock", help="PCI device on vfio-pci, or the kernel's mock driver."
)
@click.option("--bind", is_flag=True, help="Bind the device to vfio-pci first, give it back to its driver afterwards.")
@click.option(
    "--coherency",
    type=click.Choice([str(wish) for wish in Coherency]),
    default=str(Coherency.ANY),
    help="What the domain must be; refused when it is not.",
)
@_axis("operation", Workload, Workload.MAP, "What to time; each with its opposite.")
@_axis("backend", Backend, Backend.IOMMUFD, "Interface to map through.")
@click.option(
    "--size", type=SIZES, default=runner.DEFAULT_SIZES, show_default="4K,64K,2M,64M,256M", help="Bytes of one map."
)
@click.option(
    "--chunk",
    type=Values(_Chunk()),
    default=(0,),
    show_default="whole",
    help="Bytes of one ioctl; 'whole' for one ioctl.",
)
@click.option("--bulk-unmap", is_flag=True, help="Unmap all chunks with one ioctl.")
@_axis("backing", Backing, Backing.ANON_4K, "What stands behind the buffer.")
@click.option(
    "--hwpts", type=Values(click.IntRange(min=0)), default=(1,), show_default="1", help="Domains on the IOAS."
)
@_axis("cache", CacheState, CacheState.DIRTY, "The buffer's cache lines before each operation.")
@_axis("iova-use", IovaUse, IovaUse.REUSED, "The same IOVA each round, or one with page tables still to be made.")
@click.option(
    "--alignment", type=Values(_Chunk()), default=(0,), show_default="as the size", help="Exact alignment of the IOVA."
)
@click.option("--iova", type=IOVA, metavar="ADDRESS", help="Where to map.  [default: an aligned place from 4 GiB on]")
@click.option(
    "--huge-pages",
    type=Values(click.Choice(["on", "off"])),
    default=("on",),
    show_default="on",
    help="May the IOMMU use large pages?",
)
@click.option(
    "--accounting",
    type=Values(click.Choice(["none", "user", "mm"])),
    default=("none",),
    show_default="none",
    help="How pinned pages are charged.",
)
@click.option("--threads", type=Values(click.IntRange(min=1)), default=(1,), show_default="1", help="At the same time.")
@click.option("--own-ioas", is_flag=True, help="Each thread on an IOAS of its own, instead of all on one.")
@click.option("--processes", type=click.IntRange(min=1), default=5, help="How often to measure it all, each time anew.")
@click.option("--values", type=click.IntRange(min=1), help="Samples a row in each process.  [default: by --seconds]")
@click.option("--seconds", type=click.FloatRange(min=0.001), default=0.25, help="Time for a row in each process.")
@click.option("--cpu", type=click.IntRange(min=0), help="CPU to run on.")
@click.option("--json", "json_file", type=_FILE, help="Keep the run, samples and all, row by row.")
def run(device: str, bind: bool, coherency: str, json_file: Path | None, **options: Any) -> None:
    """Time IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP of one buffer, or other operations, each by itself, over and over.

    The clock is read in C around the ioctls alone. Processes with memory of their own go through all rows in turn.
    """
    points, left_out = workloads.points(
        workload=map(Workload, options["operation"]),
        backend=map(Backend, options["backend"]),
        backing=options["backing"],
        size_bytes=options["size"],
        chunk_bytes=options["chunk"],
        bulk_unmap=[options["bulk_unmap"]],
        hwpts=options["hwpts"],
        cache=map(CacheState, options["cache"]),
        iova_use=map(IovaUse, options["iova_use"]),
        alignment=options["alignment"],
        huge_pages=[choice == "on" for choice in options["huge_pages"]],
        accounting=options["accounting"],
        threads=options["threads"],
        own_ioas=[options["own_ioas"]],
    )
    if not points:
        raise click.UsageError("nothing to time: " + "; ".join(left_out))
    for problem in left_out:
        note(f"iommufd: left out: {problem}")
    plan = runner.Plan(
        device=device,
        points=tuple(points),
        coherency=Coherency(coherency),
        iova=options["iova"],
        processes=options["processes"],
        values=options["values"],
        row_seconds=options["seconds"],
        cpu=options["cpu"],
    )
    result: BenchResult | None = None

    def keep(so_far: BenchResult) -> None:
        nonlocal result
        result = so_far
        if json_file is not None:
            document.save(so_far, json_file)

    with pci.vfio_bound(device) if bind and device != runner.MOCK else contextlib.nullcontext():
        try:
            with _shown() as show_progress:
                runner.run(plan, keep, show_progress)
        except KeyboardInterrupt:
            if result is not None and json_file is not None:
                note(f"iommufd: interrupted; what was measured so far is in {json_file}")
            raise
    assert result is not None
    show_result(result)


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[runner.Progress], None]]:
    """Show progress on stderr: a bar on a terminal, elsewhere a line every few seconds."""
    if not sys.stderr.isatty():
        last = time.monotonic()

        def line(progress: runner.Progress) -> None:
            nonlocal last
            if time.monotonic() - last > 10:
                last = time.monotonic()
                note(f"{progress.done} of {progress.total} rows, {progress.seconds_left:.0f} s left")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None, left="")

        def update(progress: runner.Progress) -> None:
            bar.update(
                task,
                description=f"{progress.point.workload} {report.row_name(progress.point)}",
                total=progress.total,
                completed=progress.done,
                left=f"{progress.seconds_left:.0f} s left",
            )

        yield update


for command in (show, compare, export):
    bench.add_command(command)
