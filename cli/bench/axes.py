# SPDX-License-Identifier: MIT
"""The options that choose the rows: a device, and a list of values for each axis."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Any
from uuid import UUID

import click

from iommufd_py import pci
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.pci_address import MOCK
from iommufd_py.base.units import parse_size
from iommufd_py.bench import workloads
from iommufd_py.bench.ioctl_rounds import alignment_problem
from iommufd_py.objects.buffer import Backing
from iommufd_py.results.model import Accounting, CacheState, IovaUse, Point, Workload

from ..output import note
from ..types import (
    BIND_OPTION,
    COHERENCY_OPTION,
    SIZES,
    VF_TOKEN_OPTION,
    ParamType,
    Values,
    Whole,
    device_option,
    options_together,
    refuse_for_mock,
    refuse_ignored,
)

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


# More CPUs or nodes than any kernel supports (CONFIG_NR_CPUS, CONFIG_NODES_SHIFT).
_MOST_NUMBER = 8191
# An upper limit for domains and threads.
_MOST_OBJECTS = 4096


class _CpuOrNode(ParamType[int | None]):
    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        return None if value == "any" else Whole(0, _MOST_NUMBER)(str(value), param, ctx)


class _OptionalSize(ParamType[int]):
    name = "size"

    def __init__(self, nothing: str) -> None:
        self._nothing = nothing

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == self._nothing:
            return 0
        try:
            return parse_size(str(value))
        except ValueError as failure:
            self.fail(str(failure), param, ctx)


def _names(name: str, kind: type[StrEnum], default: StrEnum, text: str, metavar: str = "") -> _Decorator:
    return click.option(
        name,
        type=Values(click.Choice([str(one) for one in kind])),
        default=str(default),
        metavar=metavar or f"[{'|'.join(kind)}],...",
        help=text,
    )


def _numbers(name: str, minimum: int, default: int, text: str) -> _Decorator:
    kind = Values(Whole(minimum, _MOST_OBJECTS))
    return click.option(name, type=kind, default=str(default), metavar="N,...", help=text)


def _cpus_or_nodes(name: str, text: str) -> _Decorator:
    return click.option(name, type=Values(_CpuOrNode()), default="any", metavar="N,...", help=text)


def _sizes(name: str, nothing: str, text: str) -> _Decorator:
    kind = Values(_OptionalSize(nothing))
    return click.option(name, type=kind, default=nothing, metavar="SIZE,...", help=text)


device_options = options_together(
    device_option(required=True),
    BIND_OPTION,
    VF_TOKEN_OPTION,
    COHERENCY_OPTION,
)

axis_options = options_together(
    _names("--operation", Workload, Workload.MAP, "Operations to time; each one is timed together with its opposite."),
    click.option(
        "--dma",
        is_flag=True,
        help="Time map, DMA by the device to the whole buffer, and unmap as one operation: --operation dma.",
    ),
    _names(
        "--backend",
        ContainerMode,
        ContainerMode.IOMMUFD,
        "Kernel interfaces to use, an axis of the results. --container of `dma coherency` names the same.",
    ),
    click.option(
        "--size",
        type=SIZES,
        default="4K,64K,2M,64M,256M",
        metavar="SIZE,...",
        help="Bytes mapped by one sample.",
    ),
    _sizes("--chunk", "whole", "Bytes mapped by one ioctl. whole: one ioctl maps all."),
    click.option("--bulk-unmap", is_flag=True, help="Unmap all chunks with one ioctl."),
    _names(
        "--backing", Backing, Backing.ANON_4K, f"Kinds of memory behind the buffer: {', '.join(Backing)}.", "KIND,..."
    ),
    _numbers("--hwpts", 0, 1, "Number of domains on the IOAS."),
    _names("--cache", CacheState, CacheState.DIRTY, "State of the buffer's CPU cache lines before each operation."),
    _names("--iova-use", IovaUse, IovaUse.REUSED, "Use the same IOVA in each round, or a new one without page tables."),
    _sizes(
        "--alignment",
        "natural",
        "Exact alignment: the IOVA is a multiple of this value, and not of twice this value. natural: like the size.",
    ),
    click.option(
        "--huge-pages",
        type=Values(click.Choice(["on", "off"])),
        default="on",
        metavar="[on|off],...",
        help="Whether the IOMMU may use large pages.",
    ),
    _names(
        "--accounting",
        Accounting,
        Accounting.NONE,
        "Account that is charged for pinned pages. none: no account, user: that of the user, mm: that of the process.",
    ),
    _numbers("--threads", 1, 1, "Number of threads that do the same operation at the same time."),
    click.option("--own-ioas", is_flag=True, help="Give each thread its own IOAS, instead of one for all."),
    _cpus_or_nodes("--cpu", "CPUs to run on."),
    _cpus_or_nodes("--node", "NUMA nodes of the buffer's memory."),
)


def bound(device: str, bind: bool, vf_token: UUID | None) -> AbstractContextManager[object]:
    """Return a context that binds *device* to vfio-pci if *bind* is true. A mock device has no token either."""
    refuse_for_mock(device, bind=bind, vf_token=vf_token)
    return pci.vfio_bound(device) if bind else nullcontext()


def refuse_ignored_axes(context: click.Context) -> None:
    """Refuse options of the rows that other options make ineffective or impossible.

    Raises:
        click.UsageError: there is such an option.
    """
    options = context.params
    refuse_ignored(context, "operation", options["dma"], "--dma is short for --operation dma; give one of them")
    refuse_ignored(context, "bulk_unmap", options["chunk"] == (0,), "without --chunk one ioctl maps everything")
    refuse_ignored(context, "own_ioas", options["threads"] == (1,), "--threads is 1")
    if options["device"] == MOCK and (options["dma"] or Workload.DMA in options["operation"]):
        raise click.UsageError("the mock driver has no DMA: name a device with --device")
    iova = options.get("iova")
    for alignment in options["alignment"]:
        problem = alignment_problem(iova, alignment)
        if problem:
            raise click.UsageError(problem)


def chosen_points(options: Mapping[str, Any], *, silent: bool = False) -> tuple[Point, ...]:
    """Return every possible combination; print the others and repeated values on stderr."""
    for name, values in options.items():
        if isinstance(values, tuple) and len(set(values)) < len(values) and not silent:
            note(f"iommufd: --{name.replace('_', '-')} names a value twice; it is measured once")
    points, left_out = workloads.points(
        workload=[Workload.DMA] if options["dma"] else map(Workload, options["operation"]),
        backend=map(ContainerMode, options["backend"]),
        backing=options["backing"],
        size_bytes=options["size"],
        chunk_bytes=options["chunk"],
        bulk_unmap=[options["bulk_unmap"]],
        hwpts=options["hwpts"],
        cache=map(CacheState, options["cache"]),
        iova_use=map(IovaUse, options["iova_use"]),
        alignment=options["alignment"],
        huge_pages=[choice == "on" for choice in options["huge_pages"]],
        accounting=map(Accounting, options["accounting"]),
        threads=options["threads"],
        own_ioas=[options["own_ioas"]],
        cpu=options["cpu"],
        node=options["node"],
    )
    if not points:
        raise click.UsageError("nothing to do: " + "; ".join(left_out))
    if left_out and not silent:
        note(f"iommufd: combinations left out: {'; '.join(left_out)}")
    return tuple(points)
