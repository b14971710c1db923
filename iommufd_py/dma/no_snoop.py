# SPDX-License-Identifier: MIT
"""Let a PCI Express device send requests that do not snoop the CPU caches, for as long as somebody looks.

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
    """Set Enable No Snoop for the time of the block and put it back; the value tells whether it is set meanwhile.

    A device may send snooped requests nevertheless. One of conventional PCI has no such bit: the value is True.
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
    """Return where the PCI Express capability is in configuration space."""
    if not config.read_int(_STATUS, 2) & _HAS_CAPABILITIES:
        return None
    at, left = config.read_int(_FIRST_CAPABILITY, 1) & ~3, 48
    while at and left:
        if config.read_int(at, 1) == _PCI_EXPRESS:
            return at
        at, left = config.read_int(at + 1, 1) & ~3, left - 1
    return None
