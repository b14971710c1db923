# SPDX-License-Identifier: MIT
"""`iommufd map`: one experiment, told as it happens, and undone."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import format_ns, format_size
from iommufd_py.experiment.experiment import Experiment, Operation, OperationOutcome, parse_script
from iommufd_py.objects.buffer import Backing

from .output import emit_json, note
from .session import open_session
from .types import BIND_OPTION, DEVICE_OPTION, IOVA, JSON_OPTION, SIZE


@click.command("map")
@DEVICE_OPTION
@BIND_OPTION
@click.option("--size", type=SIZE, default="2M", help="Bytes to map.")
@click.option("--iova", type=IOVA, metavar="ADDRESS", help="Where to map.  [default: where the kernel likes]")
@click.option(
    "--backing", type=click.Choice([str(one) for one in Backing]), default=str(Backing.ANON_4K), help="Kind of memory."
)
@click.option(
    "--coherency",
    type=click.Choice([str(wish) for wish in Coherency]),
    default=str(Coherency.ANY),
    help="What the domain must be; refused when it is not.",
)
@click.option("--hold", is_flag=True, help="Keep it mapped until a key is pressed, or the standard input ends.")
@click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Do the steps of this TOML file instead, each of which may say which error it expects.",
)
@JSON_OPTION
@click.pass_context
def map(
    context: click.Context,
    device: str | None,
    bind: bool,
    size: int,
    iova: int | None,
    backing: str,
    coherency: str,
    hold: bool,
    script: Path | None,
    as_json: bool,
) -> None:
    """Map memory for a device once, and tell what happens: what is pinned, where, with which leaves and ioctls.

    With --script, any sequence of steps, so that a bug report can be replayed; the exit status is 1 when a step came
    out other than it said. What was made is undone in the end, whatever happens.

    \b
    Examples:
      iommufd map --device 0000:00:10.0 --bind --size 2M --backing thp --iova 0x100000000
      iommufd map --device mock --size 64K --json
      iommufd map --device 0000:00:10.0 --bind --script report.toml
    """
    if script is None and device is None:
        raise click.UsageError("say which device to map for, or give a --script")
    steps = parse_script(script.read_text()) if script else _single(size, iova, backing, coherency)
    outcomes: list[OperationOutcome] = []
    with open_session(device, bind, Coherency(coherency)) as (iommufd, bound):
        experiment = Experiment(iommufd, bound)
        try:
            for number, step in enumerate(steps, 1):
                outcomes.append(experiment.run(step))
                if not as_json:
                    _tell(number, outcomes[-1])
                if not outcomes[-1].as_expected:
                    break
            if hold and all(outcome.as_expected for outcome in outcomes):
                _hold()
        finally:
            experiment.close()
    failed = not all(outcome.as_expected for outcome in outcomes)
    if as_json:
        emit_json(
            {
                "schema": "iommufd-map/1",
                "device": device,
                "as_expected": not failed,
                "steps": [_document(outcome) for outcome in outcomes],
                "steps_left_out": len(steps) - len(outcomes),
            }
        )
    else:
        click.echo("everything is undone")
    context.exit(int(failed))


def _single(size: int, iova: int | None, backing: str, coherency: str) -> Sequence[Operation]:
    place = {} if iova is None else {"iova": iova}
    return (
        Operation("ioas", {"name": "ioas"}),
        Operation("hwpt", {"name": "hwpt", "ioas": "ioas", "coherency": coherency}),
        Operation("attach", {"to": "hwpt"}),
        Operation("buffer", {"name": "buffer", "size": size, "backing": backing}),
        Operation("map", {"name": "mapping", "ioas": "ioas", "buffer": "buffer", **place}),
    )


def _tell(number: int, outcome: OperationOutcome) -> None:
    click.echo(f"{number}. {outcome.step}")
    for name, value in outcome.facts.items():
        click.echo(f"     {name}: {_show(name, value)}")
    for one in outcome.ioctls:
        verdict = "" if one.result >= 0 else f", {outcome.error or 'failed, as it may'}"
        click.echo(f"     {one.ioctl}: {format_ns(one.nanoseconds)}{verdict}")
    if outcome.error and outcome.as_expected:
        click.echo(f"     {outcome.error}, as expected")
    elif outcome.error:
        click.echo(f"     failed: {outcome.message}")
    elif not outcome.as_expected:
        click.echo(f"     succeeded, but {outcome.step.expect} was expected")


def _show(name: str, value: Any) -> str:
    if name in ("iova", "user_va"):
        return hex(value)
    if name in ("length", "pinned_bytes", "unmapped_bytes"):
        return format_size(value)
    if name == "leaves":
        return ", ".join(f"{count}x{format_size(size)}" for size, count in value.items())
    return str(value)


def _hold() -> None:
    if sys.stdin.isatty():
        note("held; press a key to undo everything")
        click.getchar()
    else:
        note("held until the standard input ends")
        sys.stdin.read()


def _document(outcome: OperationOutcome) -> dict[str, Any]:
    return {
        "do": outcome.step.do,
        "fields": dict(outcome.step.fields),
        "expect": outcome.step.expect,
        "error": outcome.error,
        "message": outcome.message,
        "as_expected": outcome.as_expected,
        "facts": dict(outcome.facts),
        "ioctls": [asdict(one) for one in outcome.ioctls],
    }
