# SPDX-License-Identifier: MIT
"""`iommufd bench patch`: compare kernels of the lab side by side."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.files import write_file
from iommufd_py.lab.cache import Variant as KernelVariant
from iommufd_py.lab.machine import TEST_DEVICES
from iommufd_py.lab.native import guest_cpu
from iommufd_py.lab.together import run_iommufd
from iommufd_py.results import compare as comparing
from iommufd_py.results import counts, cover_letter
from iommufd_py.results.finding import PRECISION, time_sentences
from iommufd_py.results.model import BenchResult

from ..commands import command
from ..files import Directory, make_output_directory
from ..lab_machine import check_kernel_name
from ..output import emit_json
from ..types import FiniteFloat, Whole, is_given, refuse_ignored
from .axes import chosen_points, refuse_ignored_axes
from .boots import Effort, RoundsOfBoots, Variant
from .plot import write_html
from .run import run

# The default rows: one page, and a size at which fixed costs are negligible; each in single pages, whose physical order
# depends on the kernel's history, and in huge pages, which are the same work in every boot.
_PROFILE = "--operation map,teardown --backend iommufd,vfio_type1v2 --size 4K,64M --backing 4k,hugetlb-2m"
# Fragmented memory of 1G would need more VMAs than a process of the host may have, and User-Mode Linux is such a
# process.
_NATIVE_PROFILE = "--operation map,attach,teardown --size 2M,64M --backing 4k,fragmented-1"
_NATIVE_MEMORY = "3G"
_ROUNDS, _NATIVE_ROUNDS = 3, 4
_SECONDS, _NATIVE_SECONDS = 0.05, 1.0
_MINUTES = 8
# Options of `bench run` that this command sets itself.
_OWN = ("--device", "--bind", "--coherency", "--output", "--json", "--processes", "--seconds", "--label")
_PARAMETERS = {"--json": "as_json"}


@command()
@click.option(
    "--native", is_flag=True, help="Use User-Mode Linux: native speed and real caches, but mock devices only."
)
@click.option(
    "--coherent", is_flag=True, help="Use an IOMMU that enforces snooping. The patches should change no count there."
)
@click.option(
    "--kernels",
    default=",".join(get_args(KernelVariant)),
    metavar="KERNEL,...",
    help="Kernels of the lab, the baseline first.",
)
@click.option(
    "--boots",
    type=Whole(1, 1000),
    help=f"Minimum boots of each kernel.  [default: {_NATIVE_ROUNDS} natively, {_ROUNDS} with --times, else 1]",
)
@click.option("--processes", type=Whole(1, 1000), default=1, help="Processes on each boot.")
@click.option(
    "--seconds",
    type=FiniteFloat(min=0.001, max=3600),
    help=f"Time for each row in each process.  [default: {_NATIVE_SECONDS} natively, else {_SECONDS}]",
)
@click.option(
    "--precision",
    type=FiniteFloat(min=0.1, max=100),
    default=PRECISION * 100,
    metavar="PERCENT",
    help="With --native: boot again until no interval is wider than this.",
)
@click.option(
    "--minutes",
    type=FiniteFloat(min=0.1, max=1440),
    default=_MINUTES,
    help="After the minimum boots, start no round that would end after this time.",
)
@click.option("--times", is_flag=True, help="Also show times of an emulated CPU. They say nothing about hardware.")
@click.option(
    "--results",
    type=Directory(),
    default="results",
    help="Directory for the samples, the table and the HTML page.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons as one JSON document.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- BENCH RUN OPTIONS...]")
@click.pass_context
def patch(
    context: click.Context,
    native: bool,
    coherent: bool,
    kernels: str,
    boots: int | None,
    processes: int,
    seconds: float | None,
    precision: float,
    minutes: float,
    times: bool,
    results: Path,
    as_json: bool,
    arguments: tuple[str, ...],
) -> None:
    """Compare the kernels of the lab, and print a table for the cover letter.

    Natively all kernels run at the same time on one CPU, and measure in turns of a tenth of a second. So all of them
    meet the same noise of the machine. Each boot counts as one independent figure, and is compared with the boots of
    its round. A timed round is repeated if other processes took the CPU, at most twice. The patched kernel also runs
    with a coherent domain, which should cost nothing. On the emulated machine the table has
    counts of flushes, pages and page-table leaves, which are exact. Options of `bench run` after `--` choose other
    rows.

    \b
    Examples:
      iommufd bench patch --native
      iommufd bench patch --native -- --size 4K,2M --operation map
    """
    if native and coherent:
        raise click.UsageError("--native measures a coherent and a non-coherent domain: leave out --coherent")
    refuse_ignored(context, "precision", not native, "only --native boots until intervals are narrow")
    refuse_ignored(context, "times", native, "--native always shows times")
    names = _kernel_names(kernels)
    rows = list(arguments) or shlex.split(_NATIVE_PROFILE if native else _PROFILE)
    has_values = is_given(_checked_rows(context, rows), "values")
    refuse_ignored(context, "seconds", has_values, "--values after -- gives the number of samples")
    make_output_directory(results)
    _build(names, native)
    prefix, variants = _variants(native, coherent, names)
    place = ["--native", "--memory", _NATIVE_MEMORY] if native else [f"--{prefix}"]
    device = ["mock"] if native else [TEST_DEVICES[0], "--bind"]
    default = _NATIVE_SECONDS if native else _SECONDS
    rows += ["--silent", "--processes", str(processes), *([] if has_values else ["--seconds", str(seconds or default)])]

    def boot_and_bench(variant: Variant) -> list[str]:
        boot = ["lab", "run", *place, "--kernel", variant.kernel, "--rw", str(results)]
        bench = ["bench", "run", "--device", *device, "--coherency", str(variant.coherency), "--label", variant.label]
        return [*boot, "--", "iommufd", *bench, *rows]

    effort = Effort(
        rounds=boots or (_NATIVE_ROUNDS if native else _ROUNDS if times else 1),
        precision=precision / 100 if native else None,
        seconds=minutes * 60,
    )
    cpus = {guest_cpu()} if native else os.sched_getaffinity(0) if times else ()
    measured = RoundsOfBoots(variants, boot_and_bench, results, prefix, cpus, together=native).measure(effort)
    _report(measured, results / prefix, precision / 100 if native or times else None, as_json)


def _build(kernels: Sequence[str], native: bool) -> None:
    """Build the kernels of the lab among *kernels*; the others are files."""
    for kernel in kernels:
        if kernel in get_args(KernelVariant):
            run_iommufd(["lab", "kernel", "build", kernel, *(["--arch", "um"] if native else [])])


def _report(measured: Sequence[BenchResult], stem: Path, precision: float | None, as_json: bool) -> None:
    """Print the comparison of each result with the first, and write it to STEM.txt and STEM.html.

    Without a *precision* the times mean nothing, and the text has counts only.
    """
    comparisons = [comparing.compare(measured[0], after) for after in measured[1:]]
    if precision is None:
        text, sentences = counts.count_letter(measured), counts.count_sentences(measured)
    else:
        text = cover_letter.cover_letter(measured, comparisons, precision)
        sentences = time_sentences(measured, comparisons, precision)
    if as_json:
        emit_json(comparing.comparison_document(comparisons, cover_letter.doubts(measured, comparisons)))
    else:
        click.echo(text)
    write_file(stem.with_name(f"{stem.name}.txt"), (text + "\n").encode())
    write_html(stem.with_name(f"{stem.name}.html"), measured, comparisons, sentences=sentences)


def _kernel_names(kernels: str) -> list[str]:
    """Return the names in the value of --kernels."""
    names = kernels.split(",")
    if not all(names):
        raise click.UsageError("--kernels has an empty name: give names with one comma between them")
    for name in names:
        check_kernel_name(name)
    if len(set(names)) < len(names):
        raise click.UsageError(
            "--kernels names a kernel twice: 'iommufd bench calibrate' compares a kernel with itself"
        )
    return names


def _checked_rows(context: click.Context, arguments: list[str]) -> click.Context:
    """Return the options of `bench run`, or refuse wrong ones before the first boot. List omitted combinations once."""
    for argument in arguments:
        if argument.partition("=")[0] in _OWN:
            raise click.UsageError(f"{argument} after -- is an option that this command sets itself")
    rows = run.make_context("run", ["--device", "mock", *arguments], parent=context.parent)
    for name in _OWN:
        # click also accepts the beginning of an option's name.
        if name != "--device" and is_given(rows, _PARAMETERS.get(name, name.removeprefix("--"))):
            raise click.UsageError(f"{name} after -- is an option that this command sets itself")
    refuse_ignored_axes(rows)
    chosen_points(rows.params)
    return rows


def _variants(native: bool, coherent: bool, kernels: list[str]) -> tuple[str, list[Variant]]:
    coherency = Coherency.COHERENT if coherent else Coherency.NON_COHERENT
    labels = _short_names(kernels)
    variants = [Variant(kernel, coherency, label) for kernel, label in zip(kernels, labels, strict=True)]
    if not native:
        return str(coherency), variants
    # Only a kernel with the series has coherent mock devices. A kernel that somebody else built may have no series.
    if len(kernels) > 1 and kernels[1] in get_args(KernelVariant)[1:]:
        variants.append(Variant(kernels[1], Coherency.COHERENT, f"{labels[1]} coherent"))
    return "native", variants


def _short_names(kernels: list[str]) -> list[str]:
    """Return the last part of each path, or as many last parts as tell all kernels apart."""
    for length in range(1, 100):
        names = ["/".join(Path(kernel).parts[-length:]) for kernel in kernels]
        if len(set(names)) == len(names):
            return names
    return kernels
