# SPDX-License-Identifier: MIT
"""PCI functions as sysfs and the hardware database describe them."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iommufd_py.base.errors import DeviceError
from iommufd_py.base.pci_address import normalize_bdf
from iommufd_py.base.sysfs import attribute_text, entries, target_name
from iommufd_py.pci.names import installed_names
from iommufd_py.vfio.sysfs import CDEV_NAMES


@dataclass(frozen=True, slots=True)
class PciDevice:
    """The present state of one PCI function.

    Attributes:
        bdf: ``domain:bus:device.function``.
        ids: ``vendor:device``, hexadecimal.
        class_code: base class, subclass and programming interface, hexadecimal: ``010802``.
        driver: bound driver, empty for none.
        iommu_group: number of the group, None without an IOMMU.
        iommu: the kernel's name of the IOMMU in front of it; empty without one.
        cdev: name of the VFIO cdev, empty unless bound to vfio-pci.
        numa_node: NUMA node; None if the firmware gives none.
        reset_methods: the kernel's methods to reset it, in the order of their use.
        name: vendor and model, if udev or an installed pci.ids has them.
        class_name: name of the class, from the same source.
    """

    bdf: str
    ids: str
    class_code: str
    driver: str
    iommu_group: int | None
    iommu: str
    cdev: str
    numa_node: int | None
    reset_methods: tuple[str, ...]
    # udev drops the names at an unbind until its next event, so they do not identify a function.
    name: str = field(compare=False)
    class_name: str = field(compare=False)


def list_devices() -> tuple[PciDevice, ...]:
    """Return all PCI functions, by address."""
    import pyudev  # Imported here, because only listing needs it.

    found = (_describe(device) for device in pyudev.Context().list_devices(subsystem="pci"))
    return tuple(sorted(filter(None, found), key=lambda device: device.bdf))


def pci_device(bdf: str) -> PciDevice:
    """Return the function at *bdf*.

    Raises:
        DeviceError: there is no such function.
    """
    import pyudev

    address = normalize_bdf(bdf)
    with contextlib.suppress(pyudev.DeviceNotFoundError):
        found = _describe(pyudev.Devices.from_name(pyudev.Context(), "pci", address))
        if found is not None:
            return found
    raise DeviceError(f"there is no PCI device {address}: 'iommufd device list' shows all")


def bound_driver(device: Path) -> str:
    """Return the name of the driver that a device in sysfs is bound to, empty for none."""
    return target_name(device / "driver")


def _describe(device: Any) -> PciDevice | None:
    """Describe a function of udev's list; None if it no longer exists."""
    path = Path(device.sys_path)
    group, unit = target_name(path / "iommu_group"), path / "iommu"
    cdevs = entries(path / "vfio-dev", CDEV_NAMES)
    vendor, model, code = (attribute_text(path / name).removeprefix("0x") for name in ("vendor", "device", "class"))
    node = attribute_text(path / "numa_node")
    properties: Mapping[str, str] = device.properties
    if not path.exists():
        return None
    return PciDevice(
        bdf=path.name,
        ids=f"{vendor}:{model}",
        class_code=code,
        driver=bound_driver(path),
        iommu_group=int(group) if group else None,
        # An IOMMU that is itself a PCI function has a directory of that name.
        iommu=target_name(unit) if unit.is_symlink() else "",
        cdev=cdevs[0].name if cdevs else "",
        numa_node=int(node) if node and int(node) >= 0 else None,
        reset_methods=tuple(attribute_text(path / "reset_method").split()),
        name=_name(properties, vendor, model),
        class_name=_class_name(properties, code),
    )


def _name(properties: Mapping[str, str], vendor: str, model: str) -> str:
    known = [properties.get(f"ID_{what}_FROM_DATABASE", "") for what in ("VENDOR", "MODEL")]
    return " ".join(filter(None, known)) or installed_names().of_device(vendor, model)


def _class_name(properties: Mapping[str, str], code: str) -> str:
    levels = ("ID_PCI_SUBCLASS_FROM_DATABASE", "ID_PCI_CLASS_FROM_DATABASE")
    known = next(filter(None, (properties.get(level, "") for level in levels)), "")
    return known or installed_names().of_class(code)
