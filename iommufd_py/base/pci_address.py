# SPDX-License-Identifier: MIT
"""The names of devices: PCI addresses, `mock`, and the place of PCI devices in sysfs."""

import re
from pathlib import Path

from iommufd_py.base.errors import ArgumentTypeError, DeviceError
from iommufd_py.base.shown import shown

PCI_DEVICES = Path("/sys/bus/pci/devices")

MOCK = "mock"
"""Names the kernel's mock driver where the address of a PCI device could stand."""

_BDF = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])", re.IGNORECASE | re.ASCII)


def normalize_bdf(text: str) -> str:
    """Return a PCI address as sysfs writes it: ``3b:00.0`` and ``00000000:3B:00.0`` become ``0000:3b:00.0``.

    The domain is a number, of which sysfs writes at least four digits; other tools write eight.

    Raises:
        DeviceError: *text* is not a PCI address.
        ArgumentTypeError: it is not a text.
    """
    if not isinstance(text, str):
        raise ArgumentTypeError(f"a PCI address must be a string, not {shown(text)}")
    match = _BDF.fullmatch(text)
    if match is None:
        raise DeviceError(f"{shown(text)} is not a PCI address: write domain:bus:device.function, as in 0000:3b:00.0")
    domain, bus, slot, function = match.groups()
    return f"{int(domain or '0', 16):04x}:{bus}:{slot}.{function}".lower()


def is_bdf(text: str) -> bool:
    """Return whether *text* is a PCI address as sysfs writes it."""
    return _BDF.fullmatch(text) is not None and normalize_bdf(text) == text
