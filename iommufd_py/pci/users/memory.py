# SPDX-License-Identifier: MIT
"""Find the memory of this machine that a device provides. Without the device's driver its contents would be lost.

Sources: Documentation/ABI/testing/sysfs-bus-cxl; drivers/virtio/virtio_mem.c, which names its memory in /proc/iomem.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.sysfs import attribute_number, attribute_text, entries, target_name
from iommufd_py.pci.users.use import Use, UseKind

_CXL = Path("/sys/bus/cxl/devices")
_IOMEM = Path("/proc/iomem")
_DAX = Path("/sys/bus/dax/devices")
_HOT_PLUGGED = "System RAM (virtio_mem)"
_VIRTIO_MEMORY = "virtio_mem"


def memory_uses(device: Path, cxl: Path = _CXL, iomem: Path = _IOMEM, dax: Path = _DAX) -> Iterator[Use]:
    """Return the uses of the memory that *device* provides.

    These are regions of CXL memory, hot-plugged memory of virtio, and persistent memory that serves as system memory.
    """
    regions = list(_cxl_regions(device, cxl))
    for region in regions:
        yield Use(UseKind.MEMORY, f"the memory region {region.name} is on it{_given_to(region)}")
    if not regions and _is_mapped_by_others(device, cxl):
        yield Use(UseKind.MEMORY, "its memory is mapped into this machine (CXL)")
    for child in entries(device, "virtio*"):
        inner = parse_resources(attribute_text(iomem)).get(child.name, ())
        if target_name(child / "driver") == _VIRTIO_MEMORY and _HOT_PLUGGED in inner:
            yield Use(UseKind.MEMORY, f"memory of {child.name} is system memory")
    for one in entries(dax):
        if target_name(one / "driver") == "kmem" and one.resolve().is_relative_to(device):
            yield Use(UseKind.MEMORY, f"memory of {one.name} is system memory")


def _cxl_regions(device: Path, cxl: Path) -> Iterator[Path]:
    """Yield the committed regions of CXL memory of which a part is on *device*."""
    for region in entries(cxl, "region*"):
        decoders = {attribute_text(target) for target in entries(region, "target[0-9]*")} - {""}
        # The parent directory of a decoder is that of its endpoint.
        endpoints = ((cxl / one).resolve().parent for one in decoders)
        if attribute_text(region / "commit") == "1" and any(_is_on(one, device) for one in endpoints):
            yield region


def _is_mapped_by_others(device: Path, cxl: Path) -> bool:
    """Return whether the firmware, or a kernel before kexec, mapped CXL memory of *device*. This kernel has no region
    of such memory."""
    endpoints = (one for one in entries(cxl, "endpoint*") if _is_on(one, device))
    return any(attribute_number(one / "decoders_committed") for one in endpoints)


def _is_on(endpoint: Path, device: Path) -> bool:
    """Return whether the memory device of an endpoint is on *device*."""
    return (endpoint / "uport").resolve().is_relative_to(device)


def _given_to(region: Path) -> str:
    drivers = {target_name(one) for one in entries(region, "dax_region*/dax*/driver")}
    return ", as system memory" if "kmem" in drivers else ""


def parse_resources(text: str) -> dict[str, tuple[str, ...]]:
    """Return the names of all resources in /proc/iomem, each with the names of the resources in it."""
    found: dict[str, list[str]] = {}
    above: list[tuple[int, str]] = []
    for line in text.split("\n"):
        match = re.fullmatch(r"( *)[0-9a-f]+-[0-9a-f]+ : (.*)", line)
        if match is None:
            continue
        depth, name = len(match[1]), match[2]
        above = [one for one in above if one[0] < depth]
        for _, outer in above:
            found[outer].append(name)
        found.setdefault(name, [])
        above.append((depth, name))
    return {name: tuple(inner) for name, inner in found.items()}
