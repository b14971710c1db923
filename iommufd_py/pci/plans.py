# SPDX-License-Identifier: MIT
"""Plan the writes to sysfs that change the driver of a PCI function."""

import os

from iommufd_py.base.pci_address import PCI_DEVICES, normalize_bdf
from iommufd_py.base.sysfs import attribute_text
from iommufd_py.pci.functions import bound_driver
from iommufd_py.pci.state import Remembered
from iommufd_py.pci.sysfs_write import PCI_DRIVERS, PROBE, SysfsWrite, override_write

VFIO_PCI = "vfio-pci"
"""The driver that gives a PCI function to user space."""

# Drivers without a list of device ids: they take a function only by driver_override or new_id. VFIO's variant drivers
# (mlx5_vfio_pci) list ids, but these count only together with driver_override.
_WITHOUT_IDS = ("pci-stub", "uio_pci_generic", "igb_uio", "xen-pciback", "pciback")


def driver_of(address: str) -> str:
    """Return the name of the driver that a function is bound to, empty for none."""
    return bound_driver(PCI_DEVICES / address)


def override_of(address: str) -> str:
    """Return the driver_override of a function, empty for none."""
    text = attribute_text(PCI_DEVICES / address / "driver_override")
    return "" if text == "(null)" else text


def device_node(address: str) -> int:
    """Return the inode number of a function in sysfs, 0 for none. A function that is plugged in again has another."""
    try:
        return os.stat(PCI_DEVICES / address).st_ino
    except FileNotFoundError:
        return 0


def is_replugged(address: str, before: Remembered) -> bool:
    """Return whether the function was plugged in again after the record *before*: then the kernel chose its driver."""
    address = normalize_bdf(address)
    node = device_node(address)
    return bool(node and before.node and node != before.node)


def plan_bind(address: str) -> tuple[SysfsWrite, ...]:
    """Return the steps that bind a function to vfio-pci; none if it is bound already.

    The override comes first, so that no other driver can take the function between the unbind and the probe.
    driver_override affects one function. With new_id the driver would take every function with that id.
    """
    address = normalize_bdf(address)
    if driver_of(address) == VFIO_PCI:
        return ()
    return (override_write(address, VFIO_PCI), *plan_unbind(address), SysfsWrite(address, PROBE))


def plan_unbind(address: str) -> tuple[SysfsWrite, ...]:
    """Return the steps that take a function from its driver."""
    address = normalize_bdf(address)
    driver = driver_of(address)
    return (SysfsWrite(address, PCI_DRIVERS / driver / "unbind"),) if driver else ()


def plan_restore(address: str, before: Remembered) -> tuple[SysfsWrite, ...]:
    """Return the steps that give a function back to its driver *before*.

    There are no steps if the function has that driver already, was removed, or was plugged in again. A driver_override
    that another tool has set in between stays, and selects the driver.
    """
    address = normalize_bdf(address)
    if not device_node(address) or is_replugged(address, before):
        return ()
    driver, override = driver_of(address), override_of(address)
    if override not in ("", before.driver_override, before.override_set):
        ours = driver in ("", VFIO_PCI) and driver != override
        return (*plan_unbind(address), SysfsWrite(address, PROBE)) if ours else ()
    if driver == before.driver or not before.driver:
        unbind = () if driver == before.driver else plan_unbind(address)
        return (*unbind, *_override_change(address, override, before.driver_override))
    bind = SysfsWrite(address, PCI_DRIVERS / before.driver / "bind")
    # During the bind, the override must name the driver or be empty. It can change afterwards.
    matching = before.driver if _needs_override(before) else before.driver_override
    return (
        *plan_unbind(address),
        *_override_change(address, override, matching),
        bind,
        *_override_change(address, matching, before.driver_override),
    )


def plan_forced_bind(address: str, before: Remembered) -> tuple[SysfsWrite, ...]:
    """Return the steps that bind a function to its driver *before*, although that driver no longer lists its id."""
    bind = SysfsWrite(address, PCI_DRIVERS / before.driver / "bind")
    return (override_write(address, before.driver), bind, override_write(address, before.driver_override))


def _override_change(address: str, now: str, wanted: str) -> tuple[SysfsWrite, ...]:
    return () if now == wanted else (override_write(address, wanted),)


def _needs_override(before: Remembered) -> bool:
    if before.driver_override:
        return before.driver_override != before.driver
    return "vfio" in before.driver or before.driver in _WITHOUT_IDS
