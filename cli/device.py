# SPDX-License-Identifier: MIT
"""`iommufd device`: see PCI functions, take one for VFIO, give it back."""

from dataclasses import asdict

import click

from iommufd_py import pci

from .output import emit_json, emit_table, note

__all__ = ["device"]


@click.group()
def device() -> None:
    """List PCI devices; bind one to vfio-pci and give it back."""


@device.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_devices(as_json: bool) -> None:
    """List PCI functions with their IOMMU group and driver."""
    found = pci.list_devices()
    if as_json:
        emit_json({"schema": "iommufd-devices/1", "devices": [asdict(one) for one in found]})
        return
    rows = [
        (
            one.bdf,
            one.ids,
            "-" if one.iommu_group is None else str(one.iommu_group),
            one.driver or "-",
            one.cdev,
            one.name,
        )
        for one in found
    ]
    emit_table(("address", "ids", "group", "driver", "cdev", "name"), rows)


@device.command()
@click.argument("bdf")
def bind(bdf: str) -> None:
    """Bind a function to vfio-pci; `restore` gives it back."""
    pci.bind_vfio(bdf)
    one = pci.pci_device(bdf)
    note(f"{one.bdf} is bound to {one.driver}, /dev/vfio/devices/{one.cdev}")


@device.command()
@click.argument("bdf")
def restore(bdf: str) -> None:
    """Give a function back to the driver it had before `bind`."""
    pci.restore(bdf)
    one = pci.pci_device(bdf)
    note(f"{one.bdf} is bound to {one.driver or 'no driver'}")
