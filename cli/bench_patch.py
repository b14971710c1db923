# SPDX-License-Identifier: MIT
"""`iommufd bench patch`: the stock kernel of the lab against the patched one, boot by boot in turn."""

import shlex
import subprocess
import sys
import time
from pathlib import Path

import click

from iommufd_py.bench import compare as comparing
from iommufd_py.bench import compare_text, document, model
from iommufd_py.errors import ToolError
from iommufd_py.lab.machine import TEST_DEVICES

from .bench_plot import write_html
from .output import note

__all__ = ["patch"]

_KERNELS = ("stock", "patched")
# What is timed if nobody says what: one page, and a size at which all fixed costs vanish; as scattered as the kernel
# gives it, and in huge pages, which are the same work on every boot.
_PROFILE = "--operation map,teardown --backend iommufd,vfio_type1v2 --size 4K,64M --backing 4k,hugetlb-2m"
_NATIVE_PROFILE = "--operation map,teardown --size 2M,256M --backing 4k"


@click.command()
@click.option("--native", is_flag=True, help="On User-Mode Linux: native speed and real caches, mock devices only.")
@click.option("--coherent", is_flag=True, help="Behind an IOMMU that forces snooping, where nothing should change.")
@click.option("--boots", type=click.IntRange(min=1), default=3, help="Of each kernel, stock and patched in turn.")
@click.option("--processes", type=click.IntRange(min=1), default=2, help="On each boot.")
@click.option("--seconds", type=click.FloatRange(min=0.001), default=0.05, help="Time for a row in each process.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    help="Where to put the samples, the table and the page.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- BENCH RUN OPTIONS...]")
def patch(
    native: bool,
    coherent: bool,
    boots: int,
    processes: int,
    seconds: float,
    results: Path,
    arguments: tuple[str, ...],
) -> None:
    """Compare the lab's stock kernel with the patched one, and print the table for the cover letter.

    The boots alternate, so that what drifts on this machine hits both kernels alike, and each boot counts as one
    independent figure. What is timed stands behind `--` as for `bench run`.
    """
    if native and coherent:
        raise click.UsageError("--native has no VT-d; its mock device is non-coherent")
    results.mkdir(parents=True, exist_ok=True)
    for kernel in _KERNELS:
        _iommufd("lab", "kernel", "build", kernel, *(["--arch", "um"] if native else []))
    place = ["--native"] if native else ["--coherent" if coherent else "--non-coherent"]
    device = ["mock"] if native else [TEST_DEVICES[0], "--bind", "--coherency", place[0].removeprefix("--")]
    what = list(arguments) or shlex.split(_NATIVE_PROFILE if native else _PROFILE)
    what += ["--processes", str(processes), "--seconds", str(seconds)]
    name = "native" if native else place[0].removeprefix("--")
    runs: dict[str, list[model.BenchResult]] = {kernel: [] for kernel in _KERNELS}
    start = time.monotonic()
    for boot in range(boots):
        for number, kernel in enumerate(_KERNELS):
            done = boot * len(_KERNELS) + number
            left = (time.monotonic() - start) / done * (boots * len(_KERNELS) - done) if done else None
            note(f"boot {done + 1} of {boots * len(_KERNELS)}: {kernel}" + (f", {left:.0f} s left" if left else ""))
            file = results / f"{name}-{kernel}.json"
            command = ["iommufd", "bench", "run", "--device", *device, *what, "--json", str(file)]
            _iommufd("lab", "run", *place, "--kernel", kernel, "--rw", str(results), "--", *command)
            runs[kernel].append(document.load(file))
            document.save(model.merge(runs[kernel]), file)
    before, after = (model.merge(runs[kernel]) for kernel in _KERNELS)
    comparison = comparing.compare(before, after)
    text = compare_text.cover_letter(before, after, comparison)
    click.echo(text)
    (results / f"{name}.txt").write_text(text + "\n")
    write_html(results / f"{name}.html", [before, after], [comparison])


def _iommufd(*arguments: str) -> None:
    """Run this tool as its users do, in a process of its own, without what it prints; its errors are shown."""
    command = [str(Path(sys.executable).parent / "iommufd"), *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise ToolError(f"'{shlex.join(['iommufd', *arguments])}' failed with status {done.returncode}; see above")
