# SPDX-License-Identifier: MIT
"""The VFIO driver, the cdev and the IOMMU group of a device, read from sysfs."""

from pathlib import Path
from uuid import UUID

from iommufd_py.base.errors import DeviceError
from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.base.sysfs import entries, target_name

MEDIATED_DEVICES = Path("/sys/bus/mdev/devices")
"""The mediated devices, by their UUIDs."""

NOIOMMU_PREFIX = "noiommu-"
"""Prefix of the cdev's name of a device without an IOMMU: ``noiommu-vfio0``."""

CDEV_NAMES = "*vfio[0-9]*"
"""The names of cdevs, with an IOMMU and without: vfio_device_set_noiommu_and_name() in drivers/vfio/vfio_main.c."""

# Drivers other than VFIO's that leave DMA to user space: those with driver_managed_dma in the kernel.
_HARMLESS = ("pci-stub", "pcieport")


def find_cdev(bdf: str) -> Path:
    """Return the VFIO cdev of the PCI device at the normalized address *bdf*.

    Raises:
        DeviceError: the device does not exist or is not bound to vfio-pci, or the kernel has no VFIO cdevs.
    """
    driver = vfio_driver(bdf)
    cdev = _cdev_of(PCI_DEVICES / bdf)
    if cdev is not None:
        return cdev
    raise DeviceError(
        f"{bdf} is bound to {driver}, but this kernel gives it no cdev: it needs CONFIG_VFIO_DEVICE_CDEV, and either "
        "an IOMMU that is on (intel_iommu=on) or CONFIG_IOMMUFD_NOIOMMU"
    )


def find_mediated_cdev(uuid: UUID) -> Path:
    """Return the VFIO cdev of a mediated device.

    Raises:
        DeviceError: the device does not exist, or the kernel has no VFIO cdevs.
    """
    device = MEDIATED_DEVICES / str(uuid)
    if not device.exists():
        raise DeviceError(
            f"there is no mediated device {uuid} in {MEDIATED_DEVICES}: its parent device makes one when you write a "
            "UUID to mdev_supported_types/TYPE/create"
        )
    cdev = _cdev_of(device)
    if cdev is None:
        raise DeviceError(f"this kernel gives the mediated device {uuid} no cdev: it needs CONFIG_VFIO_DEVICE_CDEV")
    return cdev


def _cdev_of(device: Path) -> Path | None:
    nodes = entries(device / "vfio-dev", CDEV_NAMES)
    return Path("/dev/vfio/devices") / nodes[0].name if nodes else None


def vfio_driver(bdf: str) -> str:
    """Return the name of the VFIO driver that the PCI device at the normalized address *bdf* is bound to.

    Raises:
        DeviceError: the device does not exist, or is not bound to a VFIO driver.
    """
    device = PCI_DEVICES / bdf
    if not device.exists():
        raise DeviceError(f"there is no PCI device {bdf}: 'iommufd device list' shows all")
    name = target_name(device / "driver")
    if not name:
        raise DeviceError(f"{bdf} is bound to no driver instead of vfio-pci: 'iommufd device bind {bdf}' binds it")
    if not name.startswith("vfio") and not (device / "vfio-dev").exists():
        raise DeviceError(
            f"{bdf} is bound to {name} instead of vfio-pci: 'iommufd device bind {bdf}' takes it from that driver"
        )
    return name


def leaves_dma(driver: str) -> bool:
    """Return whether a driver leaves DMA to user space, so that VFIO opens the other devices of the group."""
    return "vfio" in driver or driver in _HARMLESS


def iommu_group_number(bdf: str) -> int:
    """Return the number of the IOMMU group of the device at the normalized address *bdf*.

    Raises:
        DeviceError: the device does not exist, is not bound to vfio-pci, or has no group.
    """
    driver = vfio_driver(bdf)
    number = target_name(PCI_DEVICES / bdf / "iommu_group")
    if not number:
        raise DeviceError(f"{bdf} is bound to {driver} but has no IOMMU group: switch the IOMMU on (intel_iommu=on)")
    return int(number)
