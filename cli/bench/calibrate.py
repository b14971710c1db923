# SPDX-License-Identifier: MIT
"""`iommufd bench calibrate`: measure the difference between two kernels that should not differ."""

import shlex
from pathlib import Path

import click

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import format_percent
from iommufd_py.lab.native import guest_cpu
from iommufd_py.results import compare as comparing
from iommufd_py.results.model import BenchResult

from ..commands import command
from ..files import Directory, make_output_directory
from ..lab_machine import check_kernel_name
from ..types import FiniteFloat, Whole
from .boots import Effort, RoundsOfBoots, Variant
from .page import emit_lines
from .results import show_changes

_ROWS = "--silent --operation map,attach,teardown --size 2M,64M,1G --backing 4k --processes 1 --seconds 1"
_MEMORY = "3G"


def margin_sentence(distance: float, end: float | None) -> str:
    """Return whether the margin of equivalence holds on this machine.

    Args:
        distance: largest distance of a ratio from 1.
        end: largest distance of an end of an interval from 1; None without an interval.
    """
    if distance > comparing.MARGIN:
        return "it is too small here (bench compare --margin)."
    if end is None or end > comparing.MARGIN:
        return "no ratio exceeds it, but an interval does: take more boots to be sure that it holds here."
    return "it holds here."


@command()
@click.option("--kernel", default="stock", metavar="KERNEL", help="User-Mode Linux kernel of the lab, or a path.")
@click.option(
    "--other",
    metavar="KERNEL",
    help="A kernel of the same source, built or linked in another way.  [default: the same kernel again]",
)
@click.option("--boots", type=Whole(3, 1000), default=6, help="Boots of each kernel.")
@click.option(
    "--minutes",
    type=FiniteFloat(min=0.1, max=1440),
    default=15,
    help="Repeat no disturbed round after this time.",
)
@click.option("--results", type=Directory(), default="results", help="Directory for the samples.")
def calibrate(kernel: str, other: str | None, boots: int, minutes: float, results: Path) -> None:
    """Compare a kernel with itself, or with a differently linked one, natively.

    The largest distance of a ratio from 1 is the error of this machine and of the placement of code and data. The
    margin of equivalence of 'bench compare' must not be smaller.
    """
    names = [kernel, kernel if other is None else other]
    for name in names:
        check_kernel_name(name)
    make_output_directory(results)
    variants = [
        Variant(name, Coherency.NON_COHERENT, f"{which} {Path(name).name}")
        for name, which in zip(names, ("first", "second"), strict=True)
    ]

    def boot_and_bench(variant: Variant) -> list[str]:
        boot = ["lab", "run", "--native", "--memory", _MEMORY, "--kernel", variant.kernel, "--rw", str(results)]
        bench = ["bench", "run", "--device", "mock", "--coherency", str(variant.coherency), "--label", variant.label]
        return [*boot, "--", "iommufd", *bench, *shlex.split(_ROWS)]

    series = RoundsOfBoots(variants, boot_and_bench, results, "calibrate", {guest_cpu()}, together=True)
    _show(*series.measure(Effort(boots, None, minutes * 60)))


def _show(before: BenchResult, after: BenchResult) -> None:
    """Print the comparison with its doubts, and the answer to the question whether the margin holds."""
    comparison = comparing.compare(before, after)
    show_changes(before, after, comparison)
    distances = [abs(change.ratio - 1) for change in comparison.changes if change.ratio is not None]
    ends = [max(abs(one.low - 1), abs(one.high - 1)) for one in comparison.changes if one.low and one.high]
    emit_lines(
        [
            f"The largest distance of a ratio from 1 is {max(distances, default=0):.1%}; the largest distance of an "
            f"end of an interval is {max(ends, default=0):.1%}.",
            f"The margin of equivalence is {format_percent(comparing.MARGIN)}: "
            + margin_sentence(max(distances, default=0), max(ends, default=None)),
        ]
    )
