# SPDX-License-Identifier: MIT
"""`iommufd fleet`: run on many machines that labgrid lends, and give one verdict."""

import platform
import re

import click

from iommufd_py import pci

from .output import emit_json
from .types import BDF, JSON_OPTION, ParamType


@click.group()
def fleet() -> None:
    """Run on many machines that labgrid lends, and give one verdict."""


class _PlaceName(ParamType[str]):
    """A name that labgrid and a shell take as it is."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
            self.fail(f"{text!r} is no name of a place: letters, digits, '_', '.' and '-'", param, ctx)
        return text


@fleet.command()
@click.option("--name", type=_PlaceName(), help="Of the place.  [default: the name of this machine]")
@click.option("--device", "devices", type=BDF, multiple=True, metavar="BDF", help="A device that a run may take.")
@click.option("--exporter", is_flag=True, help="Print the exporter's configuration instead.")
@JSON_OPTION
def tags(name: str | None, devices: tuple[str, ...], exporter: bool, as_json: bool) -> None:
    """Print the commands that make this machine a place of labgrid, with the tags by which a plan finds it.

    Run it on the machine itself. The tags are what `iommufd info` sees.

    \b
    Examples:
      iommufd fleet tags --device 0000:3b:00.0
      iommufd fleet tags --exporter > exporter.yaml
    """
    from iommufd_py.fleet.tags import exporter_file, machine_tags, place_commands
    from iommufd_py.host import environment, iommus

    if exporter and (as_json or devices):
        raise click.UsageError("--exporter prints no tags: leave out --json and --device")
    host = platform.node()
    place = name or host.partition(".")[0]
    if exporter:
        click.echo(exporter_file(place, host), nl=False)
        return
    found = machine_tags(environment(), iommus(), pci.list_devices(), devices)
    if as_json:
        emit_json({"schema": "iommufd-fleet-tags/1", "name": place, "tags": found})
        return
    for line in place_commands(place, found):
        click.echo(line)
