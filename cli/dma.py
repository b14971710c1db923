# SPDX-License-Identifier: MIT
"""`iommufd dma`: let a device do DMA through a mapping, and check the bytes."""

import contextlib
import random
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict
from enum import StrEnum
from uuid import UUID

import click

from iommufd_py import Coherency, ContainerMode, Iommufd, SkipError, VfioDevice, open_container, pci
from iommufd_py.base.coherency import FLUSH_RULES
from iommufd_py.dma import AddressSpace, DmaEngine, FaultLog, engine_for, open_engine
from iommufd_py.dma.checks import ANY_SPACE, IOAS_ONLY, CaseOutcome, CaseResult, run_case
from iommufd_py.dma.coherency.cases import COHERENCY_CASES, run_coherency_case
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.dma.coherency.readings import CoherencyResult, CoherencyVerdict
from iommufd_py.dma.engine import MOST_PASID
from iommufd_py.dma.harness import Harness
from iommufd_py.dma.pasid import attach_for_dma
from iommufd_py.dma.peer import PeerCheck
from iommufd_py.dma.storm import run_storm

from .commands import group
from .exit_status import FAILED, NOT_OBSERVED
from .output import emit_json, emit_table, note
from .types import BDF, BIND_OPTION, COHERENCY_OPTION, JSON_OPTION, VF_TOKEN_OPTION, Whole, device_option

_MOST_ROUNDS, _MOST_SEED = 1_000_000_000, (1 << 64) - 1
_ENGINE_DEVICE_OPTION = device_option(
    required=True,
    type=BDF,
    metavar="BDF",
    help="PCI device on vfio-pci: an NVMe controller, an Intel 82574L or 82576 Ethernet controller, an Intel DSA, or "
    "QEMU's edu.",
)
_HEADINGS = ("case", "result", "what was seen", "stopped by the IOMMU")


@group()
def dma() -> None:
    """Let a device read and write memory through a mapping, and check the bytes."""


@dma.command()
@_ENGINE_DEVICE_OPTION
@BIND_OPTION
@VF_TOKEN_OPTION
@COHERENCY_OPTION
@click.option("--interrupt", is_flag=True, help="Wait for completions by MSI or MSI-X instead of polling.")
@click.option(
    "--storm",
    type=Whole(1, _MOST_ROUNDS),
    metavar="ROUNDS",
    help="After the checks, run this number of rounds of map, DMA, verify and unmap, with random sizes and places.",
)
@click.option(
    "--p2p",
    type=BDF,
    metavar="BDF",
    help="Also let the device reach the memory BAR of this device, which must be on vfio-pci unless --bind is given.",
)
@click.option("--seed", type=Whole(0, _MOST_SEED), help="Seed of all random choices.  [default: a new one, printed]")
@JSON_OPTION
def check(
    device: str,
    bind: bool,
    vf_token: UUID | None,
    coherency: str,
    interrupt: bool,
    storm: int | None,
    p2p: str | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Check byte by byte that a device's DMA reaches the memory of its IOVA, and that the IOMMU stops it elsewhere.

    The check writes nothing to the namespaces of an NVMe controller, refuses a controller in use, and gives it back to
    its driver after a reset. An Ethernet controller loops its frames back, and none leaves it. An edu device takes
    0.1 s for a transfer.

    With --p2p the device writes to and reads from the largest prefetchable BAR of another device, through a dma-buf of
    VFIO in its IOAS. The check restores the contents. The kernel must unmap the BAR when memory decoding of that device
    is switched off, and when the device is reset.
    """
    if p2p == device:
        raise click.UsageError("--p2p names the device itself: give another one")
    seed = random.randrange(1 << 32) if seed is None else seed
    driver = engine_for(device)
    with contextlib.ExitStack() as stack:
        if bind:
            stack.enter_context(pci.vfio_bound(device))
        log = stack.enter_context(FaultLog())
        if bind and p2p:
            stack.enter_context(pci.vfio_bound(p2p))
        iommufd = stack.enter_context(Iommufd())
        vfio = VfioDevice(iommufd, device, vf_token=vf_token)
        ioas = iommufd.alloc_ioas()
        hwpt = vfio.alloc_hwpt(ioas, coherency=Coherency(coherency))
        vfio.attach(hwpt)
        harness = Harness(driver(vfio, ioas, interrupt=interrupt), ioas, log, seed)
        facts = {"device": device, "engine": driver.__name__, "coherency": str(hwpt.evidence), "seed": seed}
        results = [run_case(case, harness) for case in (*ANY_SPACE, *IOAS_ONLY)]
        if p2p:
            results += PeerCheck(harness, VfioDevice(iommufd, p2p)).run()
        if storm:
            note(f"storm of {storm} rounds ...")
            results.append(run_storm(harness, storm))
    if as_json:
        emit_json({"schema": "iommufd-dma-check/1", **facts, "cases": [asdict(result) for result in results]})
    else:
        for name, value in facts.items():
            click.echo(f"{name + ':':11}{value}")
        click.echo()
        emit_table(_HEADINGS, [_row(result) for result in results])
    _exit_by({result.verdict for result in results}, bad=CaseOutcome.FAIL, good=CaseOutcome.PASS)


def _exit_by(verdicts: Collection[StrEnum], *, bad: StrEnum, good: StrEnum) -> None:
    """Exit with the status of the worst verdict. Without a good one, nothing was observed."""
    if bad in verdicts:
        sys.exit(FAILED)
    sys.exit(0 if good in verdicts else NOT_OBSERVED)


def _row(result: CaseResult) -> tuple[str, str, str, str]:
    first, more = (str(result.faults[0]), len(result.faults) - 1) if result.faults else ("", 0)
    return result.name, str(result.verdict), result.remark, f"{first} (and {more} more)" if more else first


@dma.command()
@_ENGINE_DEVICE_OPTION
@BIND_OPTION
@VF_TOKEN_OPTION
@click.option(
    "--container",
    type=click.Choice([str(mode) for mode in ContainerMode]),
    default=str(ContainerMode.IOMMUFD),
    help="Interface of the kernel. Only iommufd has IOASes and HWPTs; the others skip the cases that need them.",
)
@click.option(
    "--pasid",
    type=Whole(1, MOST_PASID),
    help="Let all DMA carry this PASID. The PASID is attached to the IOAS; the device itself reaches no memory.",
)
@JSON_OPTION
def coherency(device: str, bind: bool, vf_token: UUID | None, container: str, pasid: int | None, as_json: bool) -> None:
    """Show the origin of the bytes that a device and the CPU read on a machine whose DMA does not snoop the caches.

    The command first proves that DMA does not snoop: the device must miss data that is only in the CPU caches. If DMA
    snoops, the kernel's flushes cannot be observed, and the exit status is 4. Then the cases run. Each case uses the
    device like a normal program, and records the bytes that the device and the CPU read. If the kernel does not flush
    the pages, the device or the next owner of a page reads old contents of memory. A wrong case gives exit status 1.

    The command sets Enable No Snoop in a PCI Express device and restores the bit at the end. Many devices send snooped
    requests even then.
    """
    if pasid is not None and container != ContainerMode.IOMMUFD:
        raise click.UsageError("--pasid needs --container iommufd: no other container has PASIDs")
    with contextlib.ExitStack() as stack:
        if bind:
            stack.enter_context(pci.vfio_bound(device))
        engine, space = _engine(stack, device, ContainerMode(container), vf_token, pasid)
        harness = stack.enter_context(CoherencyHarness(engine, space))
        if harness.snoops():
            why = "" if harness.no_snoop else ", and its bit Enable No Snoop cannot be set"
            where = "the domain enforces it" if space.dma_cc() else f"although the domain does not enforce it{why}"
            raise SkipError(
                f"the device reads data that is only in the CPU caches: its DMA snoops ({where}). The kernel's "
                "flushes cannot be observed here; use the machine of 'iommufd lab run --incoherent'"
            )
        facts = {
            "device": device,
            "engine": type(engine).__name__,
            "container": container,
            "pasid": pasid,
            "snoops": False,
        }
        results = [run_coherency_case(case, harness) for case in COHERENCY_CASES]
    if as_json:
        document = {"schema": "iommufd-dma-coherency/1", **facts, "cases": [result.as_dict() for result in results]}
        emit_json(document)
    else:
        _print_coherency(facts, results)
    _exit_by({result.verdict for result in results}, bad=CoherencyVerdict.WRONG, good=CoherencyVerdict.RIGHT)


def _engine(
    stack: contextlib.ExitStack, device: str, mode: ContainerMode, vf_token: UUID | None, pasid: int | None
) -> tuple[DmaEngine, AddressSpace]:
    """Open a device in an address space and start its DMA engine there."""
    if mode is not ContainerMode.IOMMUFD:
        container = stack.enter_context(open_container(mode, device, vf_token=vf_token))
        return open_engine(container.device, container), container
    iommufd = stack.enter_context(Iommufd())
    vfio = VfioDevice(iommufd, device, vf_token=vf_token)
    ioas = iommufd.alloc_ioas()
    attach_for_dma(vfio, ioas, pasid)
    return open_engine(vfio, ioas, pasid=pasid), ioas


def _print_coherency(facts: Mapping[str, object], results: list[CoherencyResult]) -> None:
    by = "" if facts["pasid"] is None else f" with PASID {facts['pasid']}"
    click.echo(f"{facts['device']}, {facts['engine']}, {facts['container']}: DMA{by} does not snoop the CPU caches\n")
    rows = [
        (one.case, str(one.verdict).upper() if one.verdict is CoherencyVerdict.WRONG else str(one.verdict), str(one))
        for one in results
    ]
    emit_table(("case", "result", "what was read"), rows)
    broken = sorted(frozenset[int]().union(*(one.broken for one in results)))
    for rule in broken:
        click.echo(f"\nrule {rule} is broken: {FLUSH_RULES[rule]}")
