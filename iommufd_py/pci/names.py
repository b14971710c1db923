# SPDX-License-Identifier: MIT
"""Names of PCI vendors, devices and classes from an installed pci.ids, for functions without a name in udev."""

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# Paths of pci.ids in the packages hwdata and pci.ids of the distributions.
_FILES = (Path("/usr/share/hwdata/pci.ids"), Path("/usr/share/misc/pci.ids"), Path("/usr/share/pci.ids"))
_LINE = re.compile(r"(\t?)(C )?([0-9a-f]{2,4}) {2}(.*)")


@dataclass(frozen=True, slots=True)
class PciNames:
    """Names by identifier: vendors by ``1234``, devices by ``1234:11e8``, classes by ``01`` and ``0108``."""

    devices: Mapping[str, str]
    classes: Mapping[str, str]

    def of_device(self, vendor: str, device: str) -> str:
        """Return vendor and model, as far as known."""
        return " ".join(filter(None, (self.devices.get(vendor), self.devices.get(f"{vendor}:{device}"))))

    def of_class(self, code: str) -> str:
        """Return the name of the subclass, or else of the base class; empty if neither is known."""
        return self.classes.get(code[:4]) or self.classes.get(code[:2]) or ""


def parse_pci_ids(lines: Iterable[str]) -> PciNames:
    """Read the format of https://pci-ids.ucw.cz: a tab a level, classes after a ``C``; subsystems are left out."""
    devices: dict[str, str] = {}
    classes: dict[str, str] = {}
    upper, names, joint = "", devices, ""
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        nested, of_class, identifier, name = match.groups()
        if not nested:
            upper, names, joint = identifier, classes if of_class else devices, "" if of_class else ":"
            names[identifier] = name
        else:
            names[f"{upper}{joint}{identifier}"] = name
    return PciNames(devices, classes)


@functools.cache
def installed_names() -> PciNames:
    """Return the names of the first installed pci.ids; no names without one."""
    for file in _FILES:
        if file.exists():
            with file.open(encoding="utf-8", errors="replace") as lines:
                return parse_pci_ids(lines)
    return PciNames({}, {})
