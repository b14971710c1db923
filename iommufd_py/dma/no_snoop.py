# SPDX-License-Identifier: MIT
"""Permit a PCI Express device, for a block of code, to send requests that do not snoop the CPU caches.

Source: PCI Express Base Specification, 7.5.3.4 (Device Control), 2.2.6.5 (the attribute No Snoop).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from iommufd_py.vfio.pci_device import VfioPciDevice
from iommufd_py.vfio.region import Region

_STATUS, _HAS_CAPABILITIES, _FIRST_CAPABILITY = 0x06, 1 << 4, 0x34
_PCI_EXPRESS, _DEVICE_CONTROL, _ENABLE_NO_SNOOP = 0x10, 0x08, 1 << 11


@contextmanager
def no_snoop_enabled(device: VfioPciDevice) -> Iterator[bool]:
    """Set Enable No Snoop during the block and restore it; yield whether the bit could be set.

    A device may send snooped requests even then. A conventional PCI device has no such bit: the value is True.
    """
    at = _pci_express(device.config)
    if at is None:
        yield True
        return
    control = at + _DEVICE_CONTROL
    before = device.config.read_int(control, 2)
    device.config.write_int(control, before | _ENABLE_NO_SNOOP, 2)
    try:
        yield bool(device.config.read_int(control, 2) & _ENABLE_NO_SNOOP)
    finally:
        device.config.write_int(control, before, 2)


def _pci_express(config: Region) -> int | None:
    """Return the offset of the PCI Express capability in configuration space; None without one."""
    if not config.read_int(_STATUS, 2) & _HAS_CAPABILITIES:
        return None
    at, left = config.read_int(_FIRST_CAPABILITY, 1) & ~3, 48
    while at and left:
        if config.read_int(at, 1) == _PCI_EXPRESS:
            return at
        at, left = config.read_int(at + 1, 1) & ~3, left - 1
    return None
