# SPDX-License-Identifier: MIT
"""`iommufd device`: list PCI functions, take one for VFIO, give it back."""

import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from iommufd_py import pci
from iommufd_py.base.errors import DeviceError
from iommufd_py.base.shown import shown
from iommufd_py.base.signals import held_signals
from iommufd_py.host import Iommu, iommus
from iommufd_py.pci import IommuGroup, PciDevice, Remembered
from iommufd_py.pci.groups import MOST_GROUP

from .commands import group
from .output import emit_facts, emit_json, emit_table, note
from .types import BDF, JSON_OPTION, TAKEN_BDF, Name, ParamType, Whole

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the writes to sysfs instead of doing them.")
_FORCE = click.option("--force", is_flag=True, help="Take the device although it is in use, and print the reasons.")


class _Hexadecimal(ParamType[str]):
    """The first digits of a hexadecimal number in sysfs."""

    def __init__(self, name: str, pattern: str) -> None:
        self.name = name
        self._pattern = re.compile(pattern)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).lower()
        if not self._pattern.fullmatch(text):
            self.fail(f"{shown(value)} is not a hexadecimal {self.name}", param, ctx)
        return text


@group()
def device() -> None:
    """List PCI devices; bind one to vfio-pci and give it back."""


@device.command("list")
@click.option(
    "--driver",
    type=Name(),
    metavar="NAME",
    help="Only functions bound to this driver; 'none' means no driver.",
)
@click.option("--group", type=Whole(0, MOST_GROUP), metavar="N", help="Only functions of this IOMMU group.")
@click.option(
    "--id",
    "ids",
    type=_Hexadecimal("VENDOR[:DEVICE]", r"[0-9a-f]{1,4}|[0-9a-f]{4}:[0-9a-f]{0,4}"),
    metavar="VENDOR[:DEVICE]",
    help="Only functions with these ids, hexadecimal.",
)
@click.option(
    "--class",
    "class_code",
    type=_Hexadecimal("CODE", "[0-9a-f]{1,6}"),
    metavar="CODE",
    help="Only functions whose class starts with this: 01 storage, 0200 Ethernet.",
)
@click.option("--iommu", type=Name(), metavar="NAME", help="Only functions behind this IOMMU, for example dmar0.")
@JSON_OPTION
def list_devices(
    driver: str | None, group: int | None, ids: str | None, class_code: str | None, iommu: str | None, as_json: bool
) -> None:
    """List PCI functions with their IOMMU group and driver.

    \b
    Examples:
      iommufd device list
      iommufd device list --driver vfio-pci --json
      iommufd device list --class 0108
    """
    wanted: list[Callable[[PciDevice], bool]] = []
    if driver is not None:
        wanted.append(lambda one: (one.driver or "none") == driver)
    if group is not None:
        wanted.append(lambda one: one.iommu_group == group)
    if ids is not None:
        wanted.append(lambda one: one.ids.startswith(ids))
    if class_code is not None:
        wanted.append(lambda one: one.class_code.startswith(class_code))
    if iommu is not None:
        wanted.append(lambda one: one.iommu == iommu)
    found = [one for one in pci.list_devices() if all(fits(one) for fits in wanted)]
    if as_json:
        emit_json({"schema": "iommufd-devices/1", "devices": [asdict(one) for one in found]})
        return
    rows = [
        (
            one.bdf,
            one.ids,
            one.class_code,
            "-" if one.iommu_group is None else str(one.iommu_group),
            one.iommu or "-",
            one.driver or "-",
            one.cdev or "-",
            one.name or one.class_name,
        )
        for one in found
    ]
    emit_table(("address", "ids", "class", "group", "iommu", "driver", "cdev", "name"), rows)


@device.command()
@click.argument("bdf", type=BDF)
@JSON_OPTION
def show(bdf: str, as_json: bool) -> None:
    """Show one function: group, devices of the group that block VFIO, IOMMU, reset methods, reserved IOVAs, users.

    \b
    Examples:
      iommufd device show 00:1f.2
      iommufd device show 0000:00:10.0 --json
    """
    one = pci.pci_device(bdf)
    group = None if one.iommu_group is None else pci.iommu_group(one.iommu_group)
    unit = next((iommu for iommu in iommus() if iommu.name == one.iommu), None)
    uses = pci.uses(one.bdf)
    taken_from, problem = _taken_from(one.bdf)
    if as_json:
        emit_json(
            {
                "schema": "iommufd-device/1",
                "device": asdict(one),
                "group": None if group is None else _group_document(group),
                "coherency": None if unit is None else unit.flushes().as_dict(),
                "uses": [asdict(use) for use in uses],
                "taken_from": None if taken_from is None else asdict(taken_from),
                "taken_from_problem": problem,
            }
        )
        return
    facts = [
        ("device", f"{one.bdf} {one.ids} {one.name}".strip()),
        ("class", f"{one.class_code} {one.class_name}".strip()),
        ("driver", one.driver or "none"),
        ("NUMA node", "unknown" if one.numa_node is None else str(one.numa_node)),
        ("resets", " ".join(one.reset_methods) or "none"),
    ]
    if one.cdev:
        facts.append(("cdev", f"/dev/vfio/devices/{one.cdev}"))
    if taken_from is not None:
        facts.append(("taken from", _taken_text(taken_from, one.driver)))
    if problem:
        facts.append(("taken from", f"not known: {problem}"))
    facts += _group_facts(group) + _coherency_facts(unit)
    facts += [("in use", use.text) for use in uses] or [("in use", "no")]
    emit_facts(facts)


def _taken_from(address: str) -> tuple[Remembered | None, str]:
    """Return the record of a device, and the reason if it cannot be read."""
    try:
        return pci.recall(address), ""
    except DeviceError as failure:
        return None, str(failure)


def _taken_text(before: Remembered, driver: str) -> str:
    """Return the text about a record. *driver* is the present driver of the device."""
    text = f"{before.driver or 'no driver'}{_by_whom(before)}"
    if driver and "vfio" not in driver:
        text += f"; another tool has given it to {driver} since, and 'iommufd device restore' removes the record"
    return text


def _by_whom(before: Remembered) -> str:
    when = f" since {_local_time(before.since)}" if before.since else ""
    who = f", by {before.user}: {before.command} (process {before.pid})" if before.pid else ""
    return f"{when}{who}"


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _group_document(group: IommuGroup) -> dict[str, Any]:
    return {
        **asdict(group),
        "in_the_way": group.in_the_way,
        "firmware_regions": [asdict(region) for region in group.firmware_regions],
        "viable": not group.problem,
    }


def _group_facts(group: IommuGroup | None) -> list[tuple[str, str]]:
    if group is None:
        return [("group", f"none: it is behind no IOMMU, or the IOMMU is off; {pci.iommu_remedy()}")]
    members = ", ".join(f"{bdf} ({driver})" if driver else bdf for bdf, driver in group.drivers.items())
    return [
        ("group", f"{group.number} of type {group.type}: {members}"),
        ("viable", f"no: {group.problem}" if group.problem else "yes"),
        *(("reserved", f"{region.range} {region.type}") for region in group.reserved),
    ]


def _coherency_facts(unit: Iommu | None) -> list[tuple[str, str]]:
    if unit is None:
        return []
    flushes = unit.flushes()
    return [
        ("IOMMU", f"{unit.name}, {unit.kind}"),
        ("HWPT", f"{flushes.coherency or 'unknown'}: {flushes.coherency_evidence}"),
    ]


@device.command()
@click.argument("bdfs", metavar="BDF...", nargs=-1, required=True, type=BDF)
@click.option("--group", is_flag=True, help="Also bind the other endpoints of the IOMMU group.")
@_FORCE
@_DRY_RUN
@JSON_OPTION
def bind(bdfs: Sequence[str], group: bool, force: bool, dry_run: bool, as_json: bool) -> None:
    """Bind functions to vfio-pci; `restore` gives them back to their former drivers.

    The command refuses a device that is in use. If one of several functions cannot be bound, none is.

    \b
    These are uses:
      - a file system, swap or RAID on a disk of the device, through any layer
      - a network interface that has an address or a route, is part of a
        bridge or a bond, or is in another network namespace
      - a console, or the only display
      - enabled virtual functions
      - memory of this machine, or another part that the machine needs
      - a device node that a process has open

    \b
    Examples:
      iommufd device bind --dry-run 0000:00:10.0
      iommufd device bind 0000:00:10.0
      iommufd device bind --group 00:1f.2
    """
    addresses = [pci.pci_device(bdf).bdf for bdf in bdfs]
    if group:
        addresses = list(dict.fromkeys(one for address in addresses for one in _endpoints_of_group(address)))
    plans = {pci.check_bind(address, force=force): pci.plan_bind(address) for address in addresses}
    foreign = [address for address, plan in plans.items() if not plan and _taken_from(address) == (None, "")]
    forced = _forced_uses(plans, force)
    if not dry_run:
        _take_all(plans, pci.bind_vfio, force)
    _note_uses(forced, dry_run)
    _report("bind", plans, dry_run, as_json)
    for address in foreign:
        note(f"{address} is on vfio-pci already: another tool put it there, so 'restore' will not give it back")
    if not dry_run:
        _note_groups(addresses)


def _take_all(plans: Mapping[str, Sequence[pci.SysfsWrite]], take: Callable[..., None], force: bool) -> None:
    """Take all functions or none: an error or a signal gives back those that are taken."""
    undo = contextlib.ExitStack()
    try:
        for address, plan in plans.items():
            if plan:
                # Before the call: a signal can arrive after the function is taken and before the call returns.
                undo.callback(_give_back, address)
            take(address, force=force)
    except BaseException:
        with held_signals(), undo:
            raise


def _give_back(address: str) -> None:
    if pci.recall(address) is not None:
        pci.restore(address)


def _forced_uses(plans: Mapping[str, Sequence[pci.SysfsWrite]], force: bool) -> dict[str, tuple[pci.Use, ...]]:
    """Return the uses of the functions that --force takes nevertheless. After the change their users are gone."""
    return {address: pci.uses(address) for address, plan in plans.items() if force and plan}


def _note_uses(forced: Mapping[str, Sequence[pci.Use]], dry_run: bool) -> None:
    for address, uses in forced.items():
        for use in uses:
            note(f"{address}: {'would be ' if dry_run else ''}taken although {use.text}")


def _endpoints_of_group(address: str) -> list[str]:
    number = pci.pci_device(address).iommu_group
    if number is None:
        raise DeviceError(
            f"{address} is in no IOMMU group: it is behind no IOMMU, or the IOMMU is off; {pci.iommu_remedy()}"
        )
    others = [pci.pci_device(bdf) for bdf in pci.iommu_group(number).drivers]
    # Base class 06 is a bridge: it belongs to the machine, not to the device.
    return [one.bdf for one in others if one.bdf == address or not one.class_code.startswith("06")]


def _note_groups(addresses: Sequence[str]) -> None:
    numbers = {pci.pci_device(address).iommu_group: address for address in reversed(addresses)}
    for number, address in sorted((one, bdf) for one, bdf in numbers.items() if one is not None):
        group = pci.iommu_group(number)
        if group.problem:
            remedy = "" if group.firmware_regions else f"; 'iommufd device bind --group {address}' takes them too"
            note(f"group {number} is not viable: {group.problem}{remedy}")


@device.command()
@click.argument("bdfs", metavar="BDF...", nargs=-1, required=True, type=BDF)
@_FORCE
@_DRY_RUN
@JSON_OPTION
def unbind(bdfs: Sequence[str], force: bool, dry_run: bool, as_json: bool) -> None:
    """Take functions from their drivers; `restore` gives them back.

    If one of several functions is in use, the command takes none.

    \b
    Examples:
      iommufd device unbind 0000:00:1f.2
    """
    addresses = [pci.check_unbind(bdf, force=force) for bdf in bdfs]
    plans = {address: pci.plan_unbind(address) for address in addresses}
    forced = _forced_uses(plans, force)
    if not dry_run:
        _take_all(plans, pci.unbind, force)
    _note_uses(forced, dry_run)
    _report("unbind", plans, dry_run, as_json)


@device.command()
@click.argument("bdfs", metavar="[BDF...]", nargs=-1, type=TAKEN_BDF)
@click.option(
    "--all", "everything", is_flag=True, help="Give back all functions that this tool took, for example after a crash."
)
@_DRY_RUN
@JSON_OPTION
def restore(bdfs: Sequence[str], everything: bool, dry_run: bool, as_json: bool) -> None:
    """Give functions back to the drivers that they had before `bind` or `unbind`.

    Until then the record of a device stays in /run/iommufd-py, even if the process that took the device is killed.

    \b
    Examples:
      iommufd device restore 0000:00:10.0
      iommufd device restore --all
    """
    if everything == bool(bdfs):
        raise click.UsageError(
            "name devices or say --all, not both" if everything else "name the devices to give back, or say --all"
        )
    plans: dict[str, Sequence[pci.SysfsWrite]] = {}
    failures: list[DeviceError | OSError] = []
    for bdf in pci.remembered() if everything else bdfs:
        try:
            before = pci.check_restore(bdf)
            plan = pci.plan_restore(bdf, before)
            if pci.is_replugged(bdf, before):
                note(f"{bdf} was plugged in again after it was taken: there is nothing to give back")
            if not dry_run:
                pci.restore(bdf)
            plans[bdf] = plan
        except (DeviceError, OSError) as problem:  # A failure for one function must not stop the others.
            failures.append(problem)
    _report("restore", plans, dry_run, as_json)
    for failure in failures[1:]:
        note(str(failure))
    if failures:
        raise failures[0]


@device.command()
@JSON_OPTION
def taken(as_json: bool) -> None:
    """List the devices that this tool took and has not given back, with driver, user, command and time.

    \b
    Examples:
      iommufd device taken
      iommufd device taken --json
    """
    drivers = {one.bdf: one.driver for one in pci.list_devices()}
    rows, documents = [], []
    for address in pci.remembered():
        before, problem = _taken_from(address)
        driver = drivers.get(address)
        documents.append(
            {"bdf": address, "driver": driver, "from": None if before is None else asdict(before), "problem": problem}
        )
        now = "gone" if driver is None else driver or "-"
        if before is None:
            rows.append((address, now, "not known", "-", "-", problem))
        else:
            since = _local_time(before.since) if before.since else "-"
            command = f"{before.command} (process {before.pid})" if before.pid else "-"
            rows.append((address, now, before.driver or "-", since, before.user or "-", command))
    if as_json:
        emit_json({"schema": "iommufd-devices-taken/1", "devices": documents})
        return
    emit_table(("address", "driver", "taken from", "since", "by", "command"), rows)


def _report(change: str, plans: Mapping[str, Sequence[pci.SysfsWrite]], dry_run: bool, as_json: bool) -> None:
    present = {one.bdf: one for one in pci.list_devices()}
    if as_json:
        devices = [
            {
                "bdf": address,
                "steps": [{"attribute": str(step.attribute), "text": step.text} for step in plan],
                "driver": present[address].driver if address in present else None,
                "cdev": present[address].cdev if address in present else None,
            }
            for address, plan in plans.items()
        ]
        emit_json({"schema": "iommufd-device-change/1", "change": change, "dry_run": dry_run, "devices": devices})
        return
    for address, plan in plans.items():
        if dry_run:
            for step in plan:
                click.echo(str(step))
        elif address in present:
            one = present[address]
            where = f", /dev/vfio/devices/{one.cdev}" if one.cdev else ""
            note(f"{address} is bound to {one.driver or 'no driver'}{where}")
        else:
            note(f"{address} does not exist any more; its record is removed")
