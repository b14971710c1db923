# SPDX-License-Identifier: MIT
"""`iommufd map`: map memory once, report each step, and undo everything."""

import sys
from dataclasses import asdict
from typing import Any
from uuid import UUID

import click

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.files import read_pieces
from iommufd_py.base.units import format_ns, format_size
from iommufd_py.experiment.map_once import STEPS, MapOnce, MapStep
from iommufd_py.objects.buffer import Backing
from iommufd_py.vtd.leaves import MAX_BYTES

from .commands import command
from .output import emit_json, note
from .session import open_session
from .types import BIND_OPTION, COHERENCY_OPTION, DEVICE_OPTION, IOVA, JSON_OPTION, SIZE, VF_TOKEN_OPTION


@command("map")
@DEVICE_OPTION
@BIND_OPTION
@VF_TOKEN_OPTION
@click.option("--size", type=SIZE, default="2M", help="Bytes to map.")
@click.option("--iova", type=IOVA, metavar="ADDRESS", help="IOVA to map at.  [default: the kernel chooses]")
@click.option(
    "--backing",
    type=click.Choice([str(one) for one in Backing]),
    default=str(Backing.ANON_4K),
    metavar="KIND",
    help=f"Kind of memory: {', '.join(Backing)}.",
)
@COHERENCY_OPTION
@click.option("--hold", is_flag=True, help="Keep the memory mapped until a key is pressed or the standard input ends.")
@JSON_OPTION
@click.pass_context
def map(
    context: click.Context,
    device: str | None,
    bind: bool,
    vf_token: UUID | None,
    size: int,
    iova: int | None,
    backing: str,
    coherency: str,
    hold: bool,
    as_json: bool,
) -> None:
    """Map memory for a device once, and report each step: pinned bytes, addresses, leaf sizes, ioctls and their times.

    The command undoes everything at the end, also after an error. For another sequence of operations, such as that of a
    bug report, write a few lines of Python and run them with 'iommufd shell FILE'.

    \b
    Examples:
      iommufd map --device 0000:00:10.0 --bind --size 2M --backing thp
      iommufd map --device mock --size 64K --json
    """
    if device is None:
        raise click.UsageError("name the device with --device")
    unit = Backing(backing).page_bytes
    if size % unit:
        raise click.UsageError(f"{format_size(size)} is not a multiple of the {format_size(unit)} pages of {backing}")
    steps: list[MapStep] = []
    with open_session(device, bind, Coherency(coherency), vf_token) as (iommufd, bound):
        assert bound is not None
        once = MapOnce(iommufd, bound, size=size, iova=iova, backing=Backing(backing), coherency=Coherency(coherency))
        with once:
            for number, step in enumerate(once.steps(), 1):
                steps.append(step)
                if not as_json:
                    _tell(number, step)
            if hold and not steps[-1].error:
                _hold()
    failed = bool(steps[-1].error)
    if as_json:
        emit_json(
            {
                "schema": "iommufd-map/1",
                "device": device,
                "succeeded": not failed,
                "steps": [_document(step) for step in steps],
                "steps_left_out": STEPS - len(steps),
            }
        )
    else:
        click.echo("everything is undone")
    context.exit(int(failed))


def _tell(number: int, step: MapStep) -> None:
    click.echo(" ".join((f"{number}. {step.do}", *(f"{name}={_show(name, one)}" for name, one in step.fields.items()))))
    for name, value in step.facts.items():
        click.echo(f"     {name}: {_show(name, value)}")
    if step.facts.get("length", 0) > MAX_BYTES and step.do == "map":
        click.echo(f"     leaves: not read, because the mapping is larger than {format_size(MAX_BYTES)}")
    for one in step.ioctls:
        verdict = "" if one.result >= 0 else f", {step.error or 'failed; the step continued without it'}"
        click.echo(f"     {one.ioctl}: {format_ns(one.nanoseconds)}{verdict}")
    if step.error:
        click.echo(f"     failed: {step.message}")


def _show(name: str, value: Any) -> str:
    if name in ("iova", "user_va"):
        return hex(value)
    if name in ("size", "length", "pinned_bytes"):
        return format_size(value)
    if name == "leaves":
        return ", ".join(f"{count}x{format_size(size)}" for size, count in value.items())
    return str(value)


def _hold() -> None:
    if sys.stdin.isatty():
        note("mapped; press a key to undo everything")
        click.getchar()
    else:
        note("mapped until the standard input ends")
        for _ in read_pieces(sys.stdin.fileno()):
            pass  # The input can be endless.


def _document(step: MapStep) -> dict[str, Any]:
    return {
        "do": step.do,
        "fields": dict(step.fields),
        "error": step.error,
        "message": step.message,
        "facts": dict(step.facts),
        "ioctls": [asdict(one) for one in step.ioctls],
    }
