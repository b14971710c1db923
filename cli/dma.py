# SPDX-License-Identifier: MIT
"""`iommufd dma`: make a device do DMA through a mapping, and see where it goes."""

import contextlib
import random
from dataclasses import asdict

import click

from iommufd_py import Coherency, ContainerMode, Iommufd, SkipError, VfioDevice, open_container, pci
from iommufd_py.dma import AddressSpace, DmaEngine, FaultLog, engine_for, open_engine
from iommufd_py.dma.checks import ANY_SPACE, IOAS_ONLY, STOPPING, CaseOutcome, CaseResult, run_case, run_storm
from iommufd_py.dma.coherency import RULES, StoryResult, StoryVerdict
from iommufd_py.dma.coherency_scene import Scene
from iommufd_py.dma.coherency_stories import STORIES, tell
from iommufd_py.dma.harness import Harness
from iommufd_py.dma.no_snoop import no_snoop_enabled

from .output import emit_json, emit_table, note
from .types import BDF, BIND_OPTION, JSON_OPTION, device_option

_FAILED, _SKIPPED = 1, 4
_HEADINGS = ("case", "result", "what was seen", "stopped by the IOMMU")


@click.group()
def dma() -> None:
    """Make a device read and write memory through a mapping."""


@dma.command()
@device_option(
    required=True, type=BDF, metavar="BDF", help="PCI device on vfio-pci: an NVMe controller, or QEMU's edu."
)
@BIND_OPTION
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


@dma.command()
@click.option("--device", required=True, type=BDF, help="PCI device on vfio-pci: QEMU's edu, or an NVMe controller.")
@click.option("--bind", is_flag=True, help="Bind the device to vfio-pci first, give it back to its driver afterwards.")
@click.option(
    "--container",
    type=click.Choice([str(mode) for mode in ContainerMode]),
    default=str(ContainerMode.IOMMUFD),
    help="The interface of the kernel; the other ones have no IOASes and HWPTs, and fewer stories.",
)
@JSON_OPTION
def coherency(device: str, bind: bool, container: str, as_json: bool) -> None:
    """Tell whose bytes a device and the CPU read where DMA does not snoop the CPU caches.

    First a proof that it does not: where the device finds what is in the caches alone, nothing can be said of the
    kernel, and the exit status is 4. Then the stories: each does what a program may do and looks at what device and CPU
    read. A kernel that does not flush the pages shows the device, or the next owner of a page, old contents of memory.
    Exit status 1 when a story goes wrong.

    A PCI Express device gets Enable No Snoop for the time of it. Many send snooped requests nevertheless.
    """
    with contextlib.ExitStack() as stack:
        if bind:
            stack.enter_context(pci.vfio_bound(device))
        engine, space = _engine(stack, device, ContainerMode(container))
        scene = Scene(engine, space)
        no_snoop = stack.enter_context(no_snoop_enabled(engine.device))
        if scene.snoops():
            why = "" if no_snoop else ", and its bit Enable No Snoop cannot be set"
            where = "the domain enforces it" if space.dma_cc() else f"though the domain does not enforce it{why}"
            raise SkipError(
                f"the device finds what is in the CPU's caches alone: its DMA snoops ({where}). Nothing can be said of "
                "the kernel's flushes here; the machine of 'iommufd lab run --incoherent' shows them"
            )
        facts = {"device": device, "engine": type(engine).__name__, "container": container, "snoops": False}
        stories = [tell(story, scene) for story in STORIES]
    if as_json:
        document = {"schema": "iommufd-dma-coherency/1", **facts, "stories": [one.as_dict() for one in stories]}
        emit_json(document)
    else:
        _print_stories(facts, stories)
    verdicts = {one.verdict for one in stories}
    if StoryVerdict.WRONG in verdicts:
        raise SystemExit(_FAILED)
    if StoryVerdict.RIGHT not in verdicts:
        raise SystemExit(_SKIPPED)


def _engine(stack: contextlib.ExitStack, device: str, mode: ContainerMode) -> tuple[DmaEngine, AddressSpace]:
    """Open a device in an address space and start its engine there."""
    if mode is not ContainerMode.IOMMUFD:
        container = stack.enter_context(open_container(mode, device))
        return open_engine(container.device, container), container
    iommufd = stack.enter_context(Iommufd())
    vfio = VfioDevice(iommufd, device)
    ioas = iommufd.alloc_ioas()
    vfio.attach(vfio.alloc_hwpt(ioas))
    return open_engine(vfio, ioas), ioas


def _print_stories(facts: dict[str, object], stories: list[StoryResult]) -> None:
    click.echo(f"{facts['device']}, {facts['engine']}, {facts['container']}: DMA does not snoop the CPU caches\n")
    rows = [
        (one.story, str(one.verdict).upper() if one.verdict is StoryVerdict.WRONG else str(one.verdict), str(one))
        for one in stories
    ]
    emit_table(("story", "result", "what was seen"), rows)
    broken = sorted({one.rule for one in stories if one.verdict is StoryVerdict.WRONG})
    for rule in broken:
        click.echo(f"\nrule {rule} is broken: {RULES[rule]}")
