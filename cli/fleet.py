# SPDX-License-Identifier: MIT
"""`iommufd fleet`: run a plan on many machines that labgrid lends, and judge all results together."""

import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iommufd_py import pci
from iommufd_py.base.errors import ToolError
from iommufd_py.base.shown import shown

from .commands import group
from .files import Directory
from .output import emit_json, emit_table, note
from .types import BDF, JSON_OPTION, ParamType, Whole, chosen_format

if TYPE_CHECKING:
    from iommufd_py.fleet.verdict import Report


@group()
def fleet() -> None:
    """Run a plan on many machines that labgrid lends, and judge all results together."""


# A name that labgrid and a shell accept without quoting.
_PLACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class _PlaceName(ParamType[str]):
    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not _PLACE_NAME.fullmatch(text):
            self.fail(
                f"{shown(text)} is not the name of a place: use letters, digits, '_', '.' and '-' only", param, ctx
            )
        return text


@fleet.command()
@click.option("--name", type=_PlaceName(), help="Name of the place.  [default: the name of this machine]")
@click.option(
    "--device", "devices", type=BDF, multiple=True, metavar="BDF", help="PCI address of a device that a run may use."
)
@click.option("--exporter", is_flag=True, help="Print the exporter's configuration instead.")
@JSON_OPTION
def tags(name: str | None, devices: tuple[str, ...], exporter: bool, as_json: bool) -> None:
    """Print the commands that make this machine a place of labgrid, with the tags by which a plan finds it.

    Run this command on the machine itself. The tags come from the same facts as `iommufd info`.

    \b
    Examples:
      iommufd fleet tags --device 0000:3b:00.0
      iommufd fleet tags --exporter > exporter.yaml
    """
    from iommufd_py.fleet.tags import exporter_file, machine_tags, place_commands
    from iommufd_py.host import environment, iommus

    if exporter and (as_json or devices):
        raise click.UsageError("--exporter prints a configuration without tags: leave out --json and --device")
    host = platform.node()
    place = name or host.partition(".")[0]
    # The kernel accepts any bytes as the name of a machine.
    if not _PLACE_NAME.fullmatch(place):
        raise ToolError(f"labgrid cannot use the name of this machine, {shown(host)}: name the place with --name")
    if exporter:
        click.echo(exporter_file(place, host), nl=False)
        return
    found = machine_tags(environment(), iommus(), pci.list_devices(), devices)
    if as_json:
        emit_json({"schema": "iommufd-fleet-tags/1", "name": place, "tags": found})
        return
    for line in place_commands(place, found):
        click.echo(line)


@fleet.command()
@click.argument("plan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--output", "-o", required=True, type=Directory(), help="Directory for the results.")
@click.option(
    "--coordinator", metavar="HOST:PORT", help="labgrid's coordinator.  [default: LG_COORDINATOR, or this machine]"
)
def run(plan: Path, output: Path, coordinator: str | None) -> None:
    """Run PLAN on machines with the tags it names, and write their results for `iommufd fleet report`.

    labgrid reserves, lends and takes back the machines. Before its first step, each machine gives back the devices
    of an earlier run. Ctrl-C ends the steps, gives the devices back to their drivers, and releases the machines.

    Exit status: 0 every machine finished, whatever the verdicts of its steps are; 1 a machine did not finish.

    \b
    Examples:
      iommufd fleet run plan.toml --output results
      LG_COORDINATOR=lab:20408 iommufd fleet run plan.toml --output results
    """
    from iommufd_py.fleet import plan as plans
    from iommufd_py.fleet import record
    from iommufd_py.fleet.lending import DEFAULT_COORDINATOR, LendingError, coordinator_address
    from iommufd_py.fleet.run import run_plan

    from .fleet_progress import show_fleet_progress

    loaded = plans.load_plan(plan)
    try:
        # An empty option, such as "$LAB" without a value, is no wish for the default.
        chosen = (os.environ.get("LG_COORDINATOR") or DEFAULT_COORDINATOR) if coordinator is None else coordinator
        address = coordinator_address(chosen)
    except LendingError as failure:
        raise click.UsageError(str(failure)) from None
    with show_fleet_progress() as tell:
        run_plan(loaded, output, address, tell)
    records = [record.load_record(folder) for folder in record.folders(output)]
    sys.exit(any(one.state is not record.RunnerState.DONE for one in records))


_MOST_LOST = 1_000_000
_FORMATS = ("table", "json", "junit", "ktap", "kcidb", "html")


@fleet.command()
@click.argument("directory", type=Directory(exists=True))
@click.option(
    "--allow-lost",
    type=Whole(0, _MOST_LOST),
    default=0,
    metavar="N",
    help="Number of lost machines that the verdict accepts.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="table",
    help="Format of the report; kcidb-io checks the format kcidb.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as `--format json`.")
def report(directory: Path, allow_lost: int, form: str, as_json: bool) -> None:
    """Judge the results that `iommufd fleet run` wrote to DIRECTORY: the worst outcome of each check, and its machines.

    A machine that was lent and stopped answering is lost, and the report fails. A rule that one machine could not
    observe does not count as kept. The report never compares the times of two machines: it shows the ratio of each
    machine with its interval, and the random-effects mean of the ratios with its own interval.

    Exit status: 0 good, 1 violated, failed or lost, 4 something could not be observed.

    \b
    Examples:
      iommufd fleet report results
      iommufd fleet report results --format html > report.html
      iommufd fleet report results --allow-lost 1 --format junit > report.xml
    """
    from iommufd_py.fleet import formats, verdict

    form = chosen_format(as_json, form)
    found = verdict.judge_run(directory, allow_lost)
    if form == "json":
        emit_json(formats.fleet_document(found))
    elif form == "kcidb":
        from iommufd_py.fleet.kcidb import fleet_kcidb as kcidb_report

        emit_json(kcidb_report(found))
    elif form == "html":
        from iommufd_py.fleet.html import page_of

        click.echo(page_of(found), nl=False)
    elif form in ("junit", "ktap"):
        click.echo(formats.fleet_junit(found) if form == "junit" else formats.fleet_ktap(found))
    else:
        _show_report(found)
    sys.exit(found.exit_status)


def _show_report(found: "Report") -> None:
    from iommufd_py.fleet import formats
    from iommufd_py.fleet.html import CHECK_HEADINGS, EXPLANATIONS, RATIO_HEADINGS

    click.echo(formats.verdict_sentence(found))
    click.echo()
    emit_table(CHECK_HEADINGS, list(formats.check_rows(found)))
    if found.rows:
        click.echo()
        emit_table(RATIO_HEADINGS, list(formats.ratio_rows(found.rows)))
        for text in EXPLANATIONS:
            note(text)
    for text, names in found.cautions.items():
        note(f"{text} ({' '.join(names)})")


@fleet.command("tmt-files")
@click.argument("directory", type=Directory())
def tmt_files(directory: Path) -> None:
    """Write a plan and a test for tmt into DIRECTORY, for labs that lend through Beaker, Artemis or Testing Farm.

    The plan asks for a machine with an Intel IOMMU. The test runs `iommufd validate` and gives tmt a result for each
    scenario. It also fails if the kernel log reports a fault.

    \b
    Examples:
      iommufd fleet tmt-files tmt && cd tmt && tmt run --all
    """
    from iommufd_py.fleet.tmt_files import write_tmt_files

    for path in write_tmt_files(directory):
        click.echo(path)
