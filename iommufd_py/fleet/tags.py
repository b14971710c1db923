# SPDX-License-Identifier: MIT
"""The tags by which labgrid finds a machine, and the configuration of its exporter."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from iommufd_py.base.environment import Environment
from iommufd_py.base.errors import ToolError
from iommufd_py.host import Iommu
from iommufd_py.pci import PciDevice
from iommufd_py.vtd.coherency import IommuKind

_KINDS = {
    IommuKind.INTEL_VTD: "vtd",
    IommuKind.AMD_VI: "amd",
    IommuKind.VIRTIO: "virtio",
    IommuKind.OTHER: "other",
}
# PCI base class 06 is a bridge. Bridges are not lent.
_BRIDGE = "06"
# Value of a tag for a machine with IOMMU units of several kinds. A filter for one kind does not match this value.
_MIXED = "mixed"


def tag_value(text: object) -> str:
    """Return *text* as the value of a tag: lower case letters, digits and underscores (labgrid's TAG_VAL)."""
    return re.sub(r"[^a-z0-9]+", "_", str(text).lower()).strip("_")


def machine_tags(
    machine: Environment, iommus: Iterable[Iommu], devices: Iterable[PciDevice], lent: Sequence[str]
) -> dict[str, str]:
    """Return the tags of this machine.

    ``iommu`` is the kind of IOMMU, ``coherency`` the coherency of its domains, ``sc`` ECAP.SC, and ``scalable`` VT-d's
    scalable mode. The value is ``mixed`` if units differ. Each ``pci_VVVV_DDDD=1`` is a device behind an IOMMU.

    Args:
        machine: description of the machine.
        iommus: all IOMMUs.
        devices: all PCI functions.
        lent: PCI addresses that a run may use. If there are any, only their IOMMUs count, and ``bdf`` is the first one.

    Raises:
        ToolError: one of the lent devices does not exist, or has no IOMMU.
    """
    behind = {one.bdf: one for one in devices if one.iommu}
    for bdf in lent:
        if bdf not in behind:
            raise ToolError(
                f"{bdf} is not a PCI function behind an IOMMU: 'iommufd device list' shows the IOMMU of each"
            )
    units = {behind[bdf].iommu for bdf in lent or behind}
    found = [one for one in iommus if one.name in units and one.kind is not IommuKind.SELFTEST]
    tags = {
        "platform": machine.platform,
        "cpu": machine.cpu,
        "iommu": _common(_KINDS[one.kind] for one in found) or "none",
        "coherency": _common(str(one.flushes().coherency or "unknown") for one in found),
        "sc": _common(str(one.unit.capabilities["SC"]) for one in found if one.unit),
        "scalable": _common(str(int(one.unit.scalable)) for one in found if one.unit and one.unit.scalable is not None),
        "bdf": lent[0] if lent else "",
    }
    chosen = [
        one for one in behind.values() if not one.class_code.startswith(_BRIDGE) and (not lent or one.bdf in lent)
    ]
    tags |= {f"pci_{tag_value(one.ids)}": "1" for one in chosen}
    return {name: tag_value(value) for name, value in tags.items() if value}


def _common(values: Iterable[str]) -> str:
    found = set(values)
    return _MIXED if len(found) > 1 else "".join(found)


def bdf_of(tags: Mapping[str, str]) -> str | None:
    """Return the PCI address in the tag ``bdf``, spelled as in the kernel; None without such a tag."""
    parts = tags.get("bdf", "").split("_")
    return f"{parts[0]}:{parts[1]}:{parts[2]}.{parts[3]}" if len(parts) == 4 else None


def exporter_file(name: str, address: str) -> str:
    """Return the configuration of a labgrid exporter that offers this machine."""
    # Without quotation marks, YAML reads 123 as a number, and no as false.
    group, host = json.dumps(name), json.dumps(address)
    return f"""\
# For labgrid-exporter, on this machine or on one that reaches it: labgrid-exporter --name HOST exporter.yaml
{group}:
  location: {host}
  NetworkService:
    address: {host}
    username: root
  # The serial console, which shows the panic of a kernel:
  # NetworkSerialPort: {{host: CONSOLE-SERVER, port: 7001, speed: 115200}}
  # The power switch, which restarts a machine that hangs:
  # NetworkPowerPort: {{model: MODEL, host: SWITCH, index: 1}}
"""


def place_commands(name: str, tags: Mapping[str, str]) -> list[str]:
    """Return the commands that make the machine a place with its tags."""
    texts = " ".join(f"{key}={value}" for key, value in tags.items())
    return [
        f"labgrid-client -p {name} create",
        f"labgrid-client -p {name} add-match '*/{name}/*'",
        f"labgrid-client -p {name} set-tags {texts}",
    ]
