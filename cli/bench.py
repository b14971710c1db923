# SPDX-License-Identifier: MIT
"""`iommufd bench`: time DMA map and unmap, show and compare what was timed."""

import contextlib
from pathlib import Path

import click

from iommufd_py import pci
from iommufd_py.bench import model, report, runner
from iommufd_py.hwpt import Coherency
from iommufd_py.memory import Backing

from .output import emit_json, emit_table
from .types import IOVA, SIZES

__all__ = ["bench"]


@click.group()
def bench() -> None:
    """Time DMA map and unmap."""


@bench.command()
@click.option(
    "--device", required=True, metavar="BDF|mock", help="PCI device on vfio-pci, or the kernel's mock driver."
)
@click.option("--bind", is_flag=True, help="Bind the device to vfio-pci first, give it back to its driver afterwards.")
@click.option("--size", "sizes", type=SIZES, default=runner.DEFAULT_SIZES, metavar="SIZE,...", help="Bytes of one map.")
@click.option(
    "--coherency",
    type=click.Choice([str(wish) for wish in Coherency]),
    default=str(Coherency.ANY),
    help="What the domain must be; refused when it is not.",
)
@click.option(
    "--backing",
    type=click.Choice([str(backing) for backing in Backing]),
    default=str(Backing.ANON_4K),
    help="What stands behind the buffer.",
)
@click.option("--iova", type=IOVA, metavar="ADDRESS", help="Where to map.  [default: an aligned place from 4 GiB on]")
@click.option("--rounds", type=click.IntRange(min=1), help="Samples a row.  [default: a second or two of them]")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Keep the run, samples and all."
)
def run(
    device: str,
    bind: bool,
    sizes: tuple[int, ...],
    coherency: str,
    backing: str,
    iova: int | None,
    rounds: int | None,
    json_file: Path | None,
) -> None:
    """Time IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP of one buffer, each by itself, over and over.

    The buffer is present and its cache lines are dirty before each map. The clock is read in C around the ioctl alone.
    """
    plan = runner.Plan(device, sizes, Coherency(coherency), Backing(backing), iova, rounds)

    def keep(so_far: model.BenchResult) -> None:
        if json_file is not None:
            model.save(so_far, json_file)

    with pci.vfio_bound(device) if bind and device != runner.MOCK else contextlib.nullcontext():
        result = runner.run(plan, keep)
    _show(result)


@bench.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the summaries as one JSON document.")
def show(files: tuple[Path, ...], as_json: bool) -> None:
    """Show one kept run, or the medians of several side by side."""
    results = [model.load(file) for file in files]
    if as_json:
        emit_json(report.document(results))
        return
    if len(results) == 1:
        _show(results[0])
        return
    for result in results:
        click.echo(f"{result.label}: {result.target.evidence}, kernel {result.environment.kernel_release}")
    click.echo()
    emit_table(*report.comparison(results))
    _caution(results, *report.comparison_warnings(results))


def _show(result: model.BenchResult) -> None:
    for name, value in report.facts(result):
        click.echo(f"{name + ':':11}{value}")
    click.echo()
    emit_table(report.HEADINGS, report.table(result))
    _caution([result])


def _caution(results: list[model.BenchResult], *further: str) -> None:
    """Print what limits the figures, on stdout: whoever copies the table copies that too."""
    warnings = [*(text for result in results for text in report.warnings(result)), *further]
    if warnings:
        click.echo()
    for warning in dict.fromkeys(warnings):
        click.echo(warning)
