# SPDX-License-Identifier: MIT
"""`iommufd bench patch`: the stock kernel of the lab against the patched one, boot by boot in turn."""

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import ToolError
from iommufd_py.lab.machine import TEST_DEVICES
from iommufd_py.results import compare as comparing
from iommufd_py.results import compare_text, document, model

from ..output import note
from .plot import write_html


@dataclass(frozen=True, slots=True)
class _Variant:
    """What is booted, and what its domains are to be."""

    kernel: str
    coherency: Coherency

    @property
    def name(self) -> str:
        return f"{self.kernel}-{self.coherency}"


# What is timed if nobody says what: one page, and a size at which all fixed costs vanish; as scattered as the kernel
# gives it, and in huge pages, which are the same work on every boot.
_PROFILE = "--operation map,teardown --backend iommufd,vfio_type1v2 --size 4K,64M --backing 4k,hugetlb-2m"
_NATIVE_PROFILE = "--operation map,attach,teardown --size 2M,64M,1G --backing 4k"
_NATIVE_MEMORY = "3G"
_BOOTS, _NATIVE_BOOTS = 3, 6


@click.command()
@click.option("--native", is_flag=True, help="On User-Mode Linux: native speed and real caches, mock devices only.")
@click.option("--coherent", is_flag=True, help="Behind an IOMMU that forces snooping, where nothing should change.")
@click.option(
    "--boots",
    type=click.IntRange(min=1),
    help=f"Of each kernel, in turn.  [default: {_BOOTS}, natively {_NATIVE_BOOTS}]",
)
@click.option("--processes", type=click.IntRange(min=1), default=1, help="On each boot.")
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
    boots: int | None,
    processes: int,
    seconds: float,
    results: Path,
    arguments: tuple[str, ...],
) -> None:
    """Compare the lab's stock kernel with the patched one, and print the table for the cover letter.

    The boots alternate, so that what drifts on this machine hits all kernels alike, and each boot counts as one
    independent figure. Natively the patched kernel also runs with a coherent domain, which should cost nothing. What is
    timed stands behind `--` as for `bench run`.
    """
    if native and coherent:
        raise click.UsageError("--native times both a coherent and a non-coherent domain")
    results.mkdir(parents=True, exist_ok=True)
    for kernel in ("stock", "patched"):
        _iommufd("lab", "kernel", "build", kernel, *(["--arch", "um"] if native else []))
    name, variants = _variants(native, coherent)
    place = ["--native", "--memory", _NATIVE_MEMORY] if native else [f"--{name}"]
    device = ["mock"] if native else [TEST_DEVICES[0], "--bind"]
    what = list(arguments) or shlex.split(_NATIVE_PROFILE if native else _PROFILE)
    what += ["--processes", str(processes), "--seconds", str(seconds)]
    runs: dict[_Variant, list[model.BenchResult]] = {variant: [] for variant in variants}
    order = [variant for _ in range(boots or (_NATIVE_BOOTS if native else _BOOTS)) for variant in variants]
    start = time.monotonic()
    for done, variant in enumerate(order):
        left = f", {(time.monotonic() - start) / done * (len(order) - done):.0f} s left" if done else ""
        note(f"boot {done + 1} of {len(order)}: {variant.kernel}, {variant.coherency}{left}")
        file = results / f"{name}-{variant.name}.json"
        command = ["bench", "run", "--device", *device, "--coherency", str(variant.coherency), *what]
        boot = ["lab", "run", *place, "--kernel", variant.kernel, "--rw", str(results)]
        _iommufd(*boot, "--", "iommufd", *command, "--json", str(file))
        runs[variant].append(document.load(file))
        document.save(model.merge(runs[variant]), file)
    before, *others = (model.merge(runs[variant]) for variant in variants)
    comparisons = [comparing.compare(before, after) for after in others]
    letters = [compare_text.cover_letter(before, *one) for one in zip(others, comparisons, strict=True)]
    text = "\n\n\n".join(letters)
    click.echo(text)
    (results / f"{name}.txt").write_text(text + "\n")
    write_html(results / f"{name}.html", [before, *others], comparisons)


def _variants(native: bool, coherent: bool) -> tuple[str, list[_Variant]]:
    if native:
        # Only a kernel with the series knows coherent mock devices. Stock flushes for neither.
        return "native", [
            _Variant("stock", Coherency.NON_COHERENT),
            _Variant("patched", Coherency.NON_COHERENT),
            _Variant("patched", Coherency.COHERENT),
        ]
    coherency = Coherency.COHERENT if coherent else Coherency.NON_COHERENT
    return str(coherency), [_Variant("stock", coherency), _Variant("patched", coherency)]


def _iommufd(*arguments: str) -> None:
    """Run this tool as its users do, in a process of its own, without what it prints; its errors are shown."""
    command = [str(Path(sys.executable).parent / "iommufd"), *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise ToolError(f"'{shlex.join(['iommufd', *arguments])}' failed with status {done.returncode}; see above")
