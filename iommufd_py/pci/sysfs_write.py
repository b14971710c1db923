# SPDX-License-Identifier: MIT
"""One write to an attribute of sysfs, printed as an equivalent shell command."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.pci_address import PCI_DEVICES

PCI_DRIVERS = Path("/sys/bus/pci/drivers")
"""Directory of the drivers of PCI functions."""

PROBE = Path("/sys/bus/pci/drivers_probe")
"""Attribute to which the address of a function is written: the kernel then searches a driver for it."""


@dataclass(frozen=True, slots=True)
class SysfsWrite:
    """One step of a change: a text, and the sysfs attribute to write it to."""

    text: str
    attribute: Path

    def __str__(self) -> str:
        return f"echo {shlex.quote(self.text)} > {shlex.quote(str(self.attribute))}"

    def apply(self) -> None:
        """Write the text to the attribute."""
        # One write() with a newline: sysfs accepts an empty override only in this form.
        descriptor = os.open(self.attribute, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{self.text}\n".encode())
        except OSError as failure:
            failure.filename = str(self.attribute)
            raise
        finally:
            os.close(descriptor)


def override_write(address: str, driver: str) -> SysfsWrite:
    """Return the write that sets a function's driver_override, or clears it with an empty *driver*."""
    return SysfsWrite(driver, PCI_DEVICES / address / "driver_override")


def steps_by_hand(address: str) -> str:
    """Return the shell commands that give a function to the driver that the kernel chooses."""
    unbind = SysfsWrite(address, PCI_DEVICES / address / "driver/unbind")
    return "; ".join(map(str, (override_write(address, ""), unbind, SysfsWrite(address, PROBE))))
