# SPDX-License-Identifier: MIT
"""`iommufd lab up|down|list`: warm guests, and their use by `lab run`."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from iommufd_py.base.shown import shown
from iommufd_py.lab.machine import Machine, NativeMachine
from iommufd_py.lab.runs import RunResult

from .commands import command
from .lab_machine import NATIVE, machine_and_kernel, machine_options
from .output import emit_json, emit_table, note
from .types import JSON_OPTION


@command()
@machine_options
@NATIVE
@click.option("--stay", is_flag=True, help="Keep the guest until `lab down`, even after the shell ends.")
def up(
    kernel: str, series: str | None, debug: bool, rw: tuple[Path, ...], native: bool, stay: bool, **properties: Any
) -> None:
    """Boot a warm guest, which stays up, and print its name.

    `iommufd lab run` with the same kernel and machine, from this directory, runs its command in the warm guest instead
    of booting one. The guest ends with the shell or script that started it, or with `iommufd lab down`.
    """
    from iommufd_py.lab.warm.keeper import start_guest

    machine, image, name = machine_and_kernel(kernel, series, debug, native, **properties)
    guest = start_guest(image, machine, kernel_name=name, rw=rw, stay=stay)
    click.echo(guest.name)
    if guest.owner:
        note(f"it ends with process {guest.owner}, which started it; with --stay it ends with 'iommufd lab down' only")


@command()
@click.argument("names", nargs=-1)
@click.option("--all", "all_guests", is_flag=True, help="End every warm guest.")
def down(names: tuple[str, ...], all_guests: bool) -> None:
    """End the guests NAMES that `iommufd lab up` booted. Without a name, end the only guest."""
    from iommufd_py.lab.warm.guests import warm_guests

    if names and all_guests:
        raise click.UsageError("--all ends every guest: name guests or say --all, not both")
    guests = {guest.name: guest for guest in warm_guests()}
    unknown = [name for name in names if name not in guests]
    if unknown:
        raise click.UsageError(f"there is no warm guest {shown(unknown[0])}; 'iommufd lab list' shows all")
    if not names and not all_guests and len(guests) > 1:
        raise click.UsageError(f"{len(guests)} warm guests run: {', '.join(guests)}; give a name, or --all")
    if not guests:
        note("no warm guest runs")
    for name in guests if all_guests or not names else dict.fromkeys(names):
        guests[name].end()


@command("list")
@JSON_OPTION
def list_guests(as_json: bool) -> None:
    """List the warm guests, which `iommufd lab up` booted."""
    from iommufd_py.lab.warm.guests import warm_guests

    guests = warm_guests()
    _name_damaged_records()
    if as_json:
        emit_json({"schema": "iommufd-lab-guests/1", "guests": [asdict(guest) for guest in guests]})
        return
    rows = [
        (one.name, one.kernel_name, one.machine_name, "until lab down" if not one.owner else f"process {one.owner}")
        for one in guests
    ]
    emit_table(("guest", "kernel", "machine", "ends with"), rows)


def _name_damaged_records() -> None:
    from iommufd_py.lab.warm.guests import damaged_records, keeper_of

    for directory in damaged_records():
        keeper = keeper_of(directory)
        end_it = "" if keeper is None else f'end it with "kill {keeper}", then '
        note(
            f"the record of the guest {directory.name} is damaged: {end_it}remove its files with "
            f'"rm -r {shlex.quote(str(directory))}"'
        )


def run_warm(
    image: Path, machine: Machine | NativeMachine, command: Sequence[str], *, rw: Sequence[Path], timeout: float
) -> RunResult | None:
    """Run *command* in a warm guest with this kernel and machine; return None if there is no such guest."""
    from iommufd_py.lab.runs import shared_directories
    from iommufd_py.lab.warm.guests import warm_guests
    from iommufd_py.lab.warm.jobs import run_in_guest

    directories = shared_directories([Path.cwd(), *rw])
    fitting = (one for one in warm_guests() if one.ready and one.fits(image, repr(machine), sys.prefix, directories))
    guest = next(fitting, None)
    if guest is None:
        return None
    busy = f"iommufd: guest {guest.name} runs another command; waiting for its end"
    return run_in_guest(guest, command, timeout=timeout, waiting=lambda: note(busy))


def run_fresh(
    image: Path,
    machine: Machine | NativeMachine,
    command: Sequence[str],
    *,
    kernel_name: str,
    rw: Sequence[Path],
    timeout: float,
) -> RunResult:
    """Boot a guest only for *command*.

    Raises:
        LabError: the guest could not be started.
    """
    if isinstance(machine, NativeMachine):
        from iommufd_py.lab.native import run_natively

        return run_natively(image, command, machine, kernel_name=kernel_name, rw=rw, timeout=timeout)
    from iommufd_py.lab.vm import run_in_vm

    return run_in_vm(image, command, machine, kernel_name=kernel_name, rw=rw, timeout=timeout)
