# SPDX-License-Identifier: MIT
"""IOMMU groups: their devices, the drivers that block VFIO, and the reserved IOVAs."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.arguments import check_integer
from iommufd_py.base.errors import DeviceError
from iommufd_py.base.iova import IovaRange
from iommufd_py.base.shown import shown
from iommufd_py.base.sysfs import attribute_text, entries
from iommufd_py.pci.functions import bound_driver
from iommufd_py.vfio.sysfs import leaves_dma

_GROUPS = Path("/sys/kernel/iommu_groups")
MOST_GROUP = (1 << 31) - 1
"""The highest number of an IOMMU group: an int of the kernel."""
_REGION = re.compile(r"(0x[0-9a-f]{1,16})\s+(0x[0-9a-f]{1,16})\s+(\S+)")


@dataclass(frozen=True, slots=True)
class ReservedRegion:
    """A range of IOVAs that a group may not map, and the reason (``direct``, ``msi``, ``reserved``, ...)."""

    range: IovaRange
    type: str


@dataclass(frozen=True, slots=True)
class IommuGroup:
    """Devices that the IOMMU cannot isolate from one another.

    Attributes:
        number: number in /sys/kernel/iommu_groups.
        type: type of its default domain: ``DMA``, ``DMA-FQ``, ``identity``.
        drivers: driver of each device, empty for none.
        reserved: IOVA ranges that cannot be mapped.
    """

    number: int
    type: str
    drivers: dict[str, str]
    reserved: tuple[ReservedRegion, ...]

    @property
    def in_the_way(self) -> dict[str, str]:
        """Devices with a driver that uses DMA. Until they are free, VFIO opens no device of the group."""
        return {device: driver for device, driver in self.drivers.items() if driver and not leaves_dma(driver)}

    @property
    def firmware_regions(self) -> tuple[ReservedRegion, ...]:
        """Regions that the firmware wants mapped 1:1. With one, the kernel gives no device of the group to user space.

        Source: dev->iommu->require_direct in drivers/iommu/iommu.c. Regions of type ``direct-relaxable`` do no harm.
        """
        return tuple(region for region in self.reserved if region.type == "direct")

    @property
    def problem(self) -> str:
        """The reason why VFIO opens no device of the group, with the remedy; empty if it opens them."""
        if self.firmware_regions:
            regions = ", ".join(str(region.range) for region in self.firmware_regions)
            return (
                f"the firmware reserves {regions} for it 1:1 (direct), so the kernel refuses it to user space: ask "
                "the vendor for a firmware without that region"
            )
        if self.in_the_way:
            blocked = ", ".join(f"{bdf} ({driver})" for bdf, driver in self.in_the_way.items())
            return f"VFIO opens it when these are free: {blocked}"
        return ""


def iommu_group(number: int) -> IommuGroup:
    """Return the present state of a group; one that does not exist has no devices.

    Raises:
        ArgumentTypeError: *number* is not an integer.
        ArgumentValueError: no group has such a number.
    """
    directory = _GROUPS / str(check_integer("iommu_group(): number", number, highest=MOST_GROUP))
    return IommuGroup(
        number=number,
        type=attribute_text(directory / "type"),
        drivers={device.name: bound_driver(device) for device in entries(directory / "devices")},
        reserved=parse_reserved_regions(attribute_text(directory / "reserved_regions")),
    )


def parse_reserved_regions(text: str) -> tuple[ReservedRegion, ...]:
    """Read a group's ``reserved_regions``: first IOVA, last IOVA and type on each line.

    Raises:
        DeviceError: a line has an unknown form.
    """
    return tuple(map(_reserved_region, text.splitlines()))


def _reserved_region(line: str) -> ReservedRegion:
    match = _REGION.fullmatch(line)
    if match is None:
        raise DeviceError(f"the kernel's table of reserved regions has a line of unknown form: {shown(line)}")
    return ReservedRegion(IovaRange(int(match[1], 16), int(match[2], 16)), match[3])


def group_types() -> Counter[str]:
    """Count the groups by the type of their default domain."""
    return Counter(filter(None, map(attribute_text, entries(_GROUPS, "*/type"))))
