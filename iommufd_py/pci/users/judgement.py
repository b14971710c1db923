# SPDX-License-Identifier: MIT
"""Decide whether a device can be taken from its driver, by a list of all its users."""

from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.base.sysfs import attribute_number, entries
from iommufd_py.base.units import counted
from iommufd_py.pci.functions import PciDevice, bound_driver, list_devices, pci_device
from iommufd_py.pci.users.display import console_uses, debugger_uses, keyboard_uses
from iommufd_py.pci.users.driver import crypto_uses, display_uses, guest_uses, unknown_uses
from iommufd_py.pci.users.memory import memory_uses
from iommufd_py.pci.users.network import network_uses
from iommufd_py.pci.users.openers import hidden_users, openers
from iommufd_py.pci.users.parts import consumer_uses, part_uses, remote_uses
from iommufd_py.pci.users.storage import storage_uses
from iommufd_py.pci.users.use import Use, UseKind
from iommufd_py.pci.users.vsock import vsock_uses

# They have the header type of an endpoint, but the machine needs them.
_PLATFORM_CLASSES = {
    "0600": "the host bridge",
    "0601": "the bridge to the firmware's devices (ISA, LPC)",
    "0800": "an interrupt controller",
    "0807": "the event collector of a root complex",
}

_IOMMUS = Path("/sys/class/iommu")


def uses(bdf: str) -> tuple[Use, ...]:
    """Return the users of a function; none if it can be taken.

    Bind, unbind, restore and the device pool of the tests call this. Only root sees all users: processes with an open
    node, claims of the kernel, and mounts and interfaces of other namespaces.

    Raises:
        DeviceError: there is no such function.
    """
    device = pci_device(bdf)
    path = (PCI_DEVICES / device.bdf).resolve()
    named = (
        *storage_uses(path),
        *network_uses(path),
        *vsock_uses(path),
        *console_uses(path),
        *debugger_uses(path),
        *keyboard_uses(path),
        *memory_uses(path),
        *part_uses(path),
        *remote_uses(path),
        *consumer_uses(path),
        *crypto_uses(path),
        *guest_uses(path),
        *display_uses(path),
        *_other_uses(device, path),
        *openers(device.bdf),
        *hidden_users(),
    )
    return named or tuple(unknown_uses(path))


def _other_uses(device: PciDevice, path: Path) -> Iterator[Use]:
    if _is_display(device) and not any(map(_is_display, _others(device))):
        yield Use(UseKind.DISPLAY, "it is the only display")
    functions = path / "sriov_numvfs"
    count = attribute_number(functions)
    if count:
        drivers = {one.resolve().name: bound_driver(one) for one in entries(path, "virtfn*")}
        taken = ", ".join(f"{bdf} is on {driver}" for bdf, driver in drivers.items() if driver)
        text = f"{counted(count, 'enabled virtual function')} of it (echo 0 > {functions})"
        yield Use(UseKind.VIRTUAL_FUNCTIONS, f"{text}: {taken}" if taken else text)
    part = _PLATFORM_CLASSES.get(device.class_code[:4])
    if part:
        yield Use(UseKind.PLATFORM, f"it is {part} of this machine")
    for iommu in entries(_IOMMUS):
        if iommu.resolve().is_relative_to(path):
            yield Use(UseKind.PLATFORM, f"it is the IOMMU {iommu.name} of this machine")


def _is_display(device: PciDevice) -> bool:
    return device.class_code.startswith("03") and "vfio" not in device.driver


def _others(device: PciDevice) -> Iterator[PciDevice]:
    return (one for one in list_devices() if one.bdf != device.bdf)
