# SPDX-License-Identifier: MIT
"""`iommufd dma`: make a device do DMA through a mapping, and see where it goes."""

import contextlib
import random
from dataclasses import asdict

import click

from iommufd_py import Coherency, Iommufd, VfioDevice, pci
from iommufd_py.dma import FaultLog, engine_for
from iommufd_py.dma.checks import ANY_SPACE, IOAS_ONLY, STOPPING, CaseOutcome, CaseResult, run_case, run_storm
from iommufd_py.dma.harness import Harness

from .output import emit_json, emit_table, note
from .types import BDF, JSON_OPTION

_FAILED, _SKIPPED = 1, 4
_HEADINGS = ("case", "result", "what was seen", "stopped by the IOMMU")


@click.group()
def dma() -> None:
    """Make a device read and write memory through a mapping."""


@dma.command()
@click.option("--device", required=True, type=BDF, help="PCI device on vfio-pci: an NVMe controller, or QEMU's edu.")
@click.option("--bind", is_flag=True, help="Bind the device to vfio-pci first, give it back to its driver afterwards.")
@click.option(
    "--coherency",
    type=click.Choice([str(wish) for wish in Coherency]),
    default=str(Coherency.ANY),
    help="What the domain must be; refused when it is not.",
)
@click.option("--interrupt", is_flag=True, help="Learn of completions by MSI or MSI-X instead of polling.")
@click.option(
    "--storm", type=click.IntRange(min=1), metavar="CYCLES", help="Map, DMA, verify, unmap at random as well."
)
@click.option("--seed", type=int, help="Of all that is random.  [default: a new one, which is printed]")
@JSON_OPTION
def check(
    device: str, bind: bool, coherency: str, interrupt: bool, storm: int | None, seed: int | None, as_json: bool
) -> None:
    """Check that a device's DMA lands where its IOVA says, byte for byte, and is stopped where nothing is mapped.

    Nothing is written to an NVMe controller's namespaces, and none that is in use is bound. Its driver gets the
    controller back reset. An edu device takes 0.1 s for a transfer.
    """
    seed = random.randrange(1 << 32) if seed is None else seed
    driver = engine_for(device)
    with contextlib.ExitStack() as stack:
        if bind:
            stack.enter_context(pci.vfio_bound(device))
        log = stack.enter_context(FaultLog())
        iommufd = stack.enter_context(Iommufd())
        vfio = VfioDevice(iommufd, device)
        ioas = iommufd.alloc_ioas()
        hwpt = vfio.alloc_hwpt(ioas, coherency=Coherency(coherency))
        vfio.attach(hwpt)
        harness = Harness(driver(vfio, ioas, interrupt=interrupt), ioas, log, seed)
        facts = {"device": device, "engine": driver.__name__, "coherency": str(hwpt.evidence), "seed": seed}
        results = []
        for case in (*ANY_SPACE, *IOAS_ONLY):
            if case in STOPPING:
                log.await_room()
            results.append(run_case(case, harness))
        if storm:
            note(f"storm of {storm} cycles ...")
            results.append(run_storm(harness, storm))
    if as_json:
        emit_json({"schema": "iommufd-dma-check/1", **facts, "cases": [asdict(result) for result in results]})
    else:
        for name, value in facts.items():
            click.echo(f"{name + ':':11}{value}")
        click.echo()
        emit_table(_HEADINGS, [_row(result) for result in results])
    verdicts = {result.verdict for result in results}
    if CaseOutcome.FAIL in verdicts:
        raise SystemExit(_FAILED)
    if CaseOutcome.PASS not in verdicts:
        raise SystemExit(_SKIPPED)


def _row(result: CaseResult) -> tuple[str, str, str, str]:
    first, more = (str(result.faults[0]), len(result.faults) - 1) if result.faults else ("", 0)
    return result.name, str(result.verdict), result.remark, f"{first} (and {more} more)" if more else first
