# SPDX-License-Identifier: MIT
"""`iommufd device`: see PCI functions, take one for VFIO, give it back."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from iommufd_py import pci
from iommufd_py.base.errors import DeviceError
from iommufd_py.host import Iommu, iommus
from iommufd_py.pci import IommuGroup, PciDevice

from .output import emit_facts, emit_json, emit_table, note
from .types import BDF, JSON_OPTION, TAKEN_BDF

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would be written to sysfs, and change nothing.")
_FORCE = click.option("--force", is_flag=True, help="Take it although it is in use; the reasons are shown.")


@click.group()
def device() -> None:
    """List PCI devices; bind one to vfio-pci and give it back."""


@device.command("list")
@click.option("--driver", metavar="NAME", help="Only those bound to this driver; 'none' for those bound to nothing.")
@click.option("--group", type=int, metavar="N", help="Only those of this IOMMU group.")
@click.option("--id", "ids", metavar="VENDOR[:DEVICE]", help="Only those with these ids, hexadecimal.")
@click.option(
    "--class", "class_code", metavar="CODE", help="Only those whose class starts so: 01 storage, 0200 Ethernet."
)
@click.option("--iommu", metavar="NAME", help="Only those behind this IOMMU, as dmar0.")
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
        wanted.append(lambda one: one.ids.startswith(ids.lower()))
    if class_code is not None:
        wanted.append(lambda one: one.class_code.startswith(class_code.lower()))
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
    """Show one function: its group and who is in the way, its IOMMU, resets, reserved IOVAs, who uses it.

    \b
    Examples:
      iommufd device show 00:1f.2
      iommufd device show 0000:00:10.0 --json
    """
    one = pci.pci_device(bdf)
    group = None if one.iommu_group is None else pci.iommu_group(one.iommu_group)
    unit = next((iommu for iommu in iommus() if iommu.name == one.iommu), None)
    uses, taken_from = pci.uses(one.bdf), pci.recall(one.bdf)
    if as_json:
        emit_json(
            {
                "schema": "iommufd-device/1",
                "device": asdict(one),
                "group": None if group is None else _group_document(group),
                "coherency": None if unit is None else unit.flushes().as_dict(),
                "uses": [asdict(use) for use in uses],
                "taken_from": None if taken_from is None else asdict(taken_from),
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
        facts.append(("taken from", taken_from.driver or "no driver"))
    facts += _group_facts(group) + _coherency_facts(unit)
    facts += [("in use", use.text) for use in uses] or [("in use", "no")]
    emit_facts(facts)


def _group_document(group: IommuGroup) -> dict[str, Any]:
    return {**asdict(group), "in_the_way": group.in_the_way, "viable": not group.in_the_way}


def _group_facts(group: IommuGroup | None) -> list[tuple[str, str]]:
    if group is None:
        return [("group", "none: no IOMMU is in front of it, or it is off")]
    members = ", ".join(f"{bdf} ({driver})" if driver else bdf for bdf, driver in group.drivers.items())
    blocked = ", ".join(f"{bdf} ({driver})" for bdf, driver in group.in_the_way.items())
    return [
        ("group", f"{group.number} of type {group.type}: {members}"),
        ("viable", f"no: VFIO opens it when these are free: {blocked}" if blocked else "yes"),
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
@click.option("--group", is_flag=True, help="Bind the other endpoints of its IOMMU group, too.")
@_FORCE
@_DRY_RUN
@JSON_OPTION
def bind(bdfs: Sequence[str], group: bool, force: bool, dry_run: bool, as_json: bool) -> None:
    """Bind functions to vfio-pci; `restore` gives them back to the drivers they had.

    Refuses a device that is in use: a mounted file system, swap, an interface with an address or a route, a console,
    the only display, enabled virtual functions, or a node that a process has open. When one of several cannot be
    bound, none is.

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
    forced = {address: pci.uses(address) if force and plan else () for address, plan in plans.items()}
    if not dry_run:
        with contextlib.ExitStack() as undo:
            for address, plan in plans.items():
                pci.bind_vfio(address, force=force)
                if plan:
                    undo.callback(pci.restore, address)
            undo.pop_all()
    for address, uses in forced.items():
        for use in uses:
            note(f"{address}: {'would be ' if dry_run else ''}taken although {use.text}")
    _report("bind", plans, dry_run, as_json)
    if not dry_run:
        _note_groups(addresses)


def _endpoints_of_group(address: str) -> list[str]:
    number = pci.pci_device(address).iommu_group
    if number is None:
        raise DeviceError(f"{address} is in no IOMMU group: no IOMMU is in front of it, or it is off (intel_iommu=on)")
    others = [pci.pci_device(bdf) for bdf in pci.iommu_group(number).drivers]
    # Base class 06 are bridges: of the machine, not of the device.
    return [one.bdf for one in others if one.bdf == address or not one.class_code.startswith("06")]


def _note_groups(addresses: Sequence[str]) -> None:
    numbers = {pci.pci_device(address).iommu_group for address in addresses} - {None}
    for number in sorted(one for one in numbers if one is not None):
        blocked = pci.iommu_group(number).in_the_way
        if blocked:
            them = ", ".join(f"{bdf} ({driver})" for bdf, driver in blocked.items())
            note(f"VFIO will not open group {number} before these are free, too: {them}; see --group")


@device.command()
@click.argument("bdfs", metavar="BDF...", nargs=-1, required=True, type=BDF)
@_FORCE
@_DRY_RUN
@JSON_OPTION
def unbind(bdfs: Sequence[str], force: bool, dry_run: bool, as_json: bool) -> None:
    """Leave functions without driver; `restore` gives them back to the drivers they had.

    \b
    Examples:
      iommufd device unbind 0000:00:1f.2
    """
    plans = {}
    for bdf in bdfs:
        address = pci.check_unbind(bdf, force=force)
        plans[address] = pci.plan_unbind(address)
        for use in pci.uses(address) if force and plans[address] else ():
            note(f"{address}: {'would be ' if dry_run else ''}taken although {use.text}")
        if not dry_run:
            pci.unbind(address, force=force)
    _report("unbind", plans, dry_run, as_json)


@device.command()
@click.argument("bdfs", metavar="[BDF...]", nargs=-1, type=TAKEN_BDF)
@click.option("--all", "everything", is_flag=True, help="Give back all that this tool took, as after a crash.")
@_DRY_RUN
@JSON_OPTION
def restore(bdfs: Sequence[str], everything: bool, dry_run: bool, as_json: bool) -> None:
    """Give functions back to the drivers they had before `bind` or `unbind`.

    What they had is kept in /run/iommufd-py until then, also when a process of this tool is killed.

    \b
    Examples:
      iommufd device restore 0000:00:10.0
      iommufd device restore --all
    """
    if everything == bool(bdfs):
        raise click.UsageError("name the devices to give back, or say --all")
    plans: dict[str, Sequence[pci.SysfsWrite]] = {}
    failures: list[DeviceError] = []
    for bdf in pci.remembered() if everything else bdfs:
        try:
            before = pci.check_restore(bdf)
            plans[bdf] = pci.plan_restore(bdf, before)
            if not dry_run:
                pci.restore(bdf)
        except DeviceError as problem:  # what stands in the way of one must not keep the others
            failures.append(problem)
    _report("restore", plans, dry_run, as_json)
    for failure in failures[1:]:
        note(str(failure))
    if failures:
        raise failures[0]


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
            note(f"{address} is gone, and forgotten")
