# SPDX-License-Identifier: MIT
"""`iommufd bench trace`: measure which parts of the kernel take the time of an operation."""

from typing import Any
from uuid import UUID

import click

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import format_ns
from iommufd_py.bench import trace as tracing
from iommufd_py.results import breakdown

from ..commands import command
from ..output import emit_json, emit_table
from ..types import Whole
from .axes import axis_options, bound, chosen_points, device_options, refuse_ignored_axes

_MOST_ROUNDS = 1_000_000


@command()
@device_options
@axis_options
@click.option("--rounds", type=Whole(1, _MOST_ROUNDS), default=5, help="Number of times to do each operation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for 'bench plot --trace'.")
@click.pass_context
def trace(
    context: click.Context,
    /,
    device: str,
    bind: bool,
    vf_token: UUID | None,
    coherency: str,
    rounds: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Divide the kernel's time into pinning, page tables, flushes and invalidation.

    Probes on the kernel's functions cost time at each call. Read the shares here, and take times from 'bench run'.
    """
    refuse_ignored_axes(context)
    with bound(device, bind, vf_token):
        points = chosen_points(options)
        found = list(tracing.break_down(device, points, Coherency(coherency), rounds, vf_token))
    if as_json:
        emit_json(breakdown.breakdowns_document(found))
        return
    rows = [
        (
            one.name,
            part.name,
            f"{part.calls / one.rounds:g}",
            format_ns(part.ns / one.rounds),
            f"{one.share(part.name):.1%}",
        )
        for one in found
        for part in one.parts
    ]
    emit_table(("operation", "part", "calls", "time, traced", "share"), rows)
