# SPDX-License-Identifier: MIT
"""Find the users of parts of a device that are neither disks nor interfaces, and that nobody needs to hold open.

Sources: Documentation/driver-api/vfio-mediated-device.rst; Documentation/ABI/testing/sysfs-class-watchdog;
Documentation/ABI/stable/sysfs-driver-dma-idxd; drivers/dma/dmaengine.c;
Documentation/ABI/testing/sysfs-bus-thunderbolt; Documentation/networking/devlink/devlink-port.rst (subfunctions);
Documentation/ABI/stable/sysfs-class-udc; drivers/usb/usbip/stub_dev.c; net/bluetooth/hci_sysfs.c;
Documentation/ABI/testing/sysfs-class-devlink; Documentation/driver-api/device_link.rst.
"""

from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.sysfs import attribute_number, attribute_text, entries
from iommufd_py.base.units import counted
from iommufd_py.pci.users.use import Use, UseKind

_WATCHDOGS = Path("/sys/class/watchdog")
_DMA_CHANNELS = Path("/sys/class/dma")
_VDPA = Path("/sys/bus/vdpa/devices")
_DEVICE_LINKS = Path("/sys/class/devlink")
_CLASSES = Path("/sys/class")
_USB_EXPORTED = Path("/sys/bus/usb/drivers/usbip-host")
_IN_USE_BY_ANOTHER_MACHINE = "2"  # SDEV_ST_USED in drivers/usb/usbip/usbip_common.h


def remote_uses(device: Path, classes: Path = _CLASSES, exported: Path = _USB_EXPORTED) -> Iterator[Use]:
    """Return the uses of a device by other devices and machines, and by the machine itself.

    A use is a connected Bluetooth device, a machine that uses a USB device of the controller, a machine to which the
    controller is a USB device, or a TPM.
    """
    for connection in entries(classes, "bluetooth/hci*:*"):
        if connection.resolve().is_relative_to(device):
            adapter = connection.name.partition(":")[0]
            yield Use(UseKind.NETWORK, f"a Bluetooth device is connected to its adapter {adapter}")
    for status in entries(exported, "*/usbip_status"):
        if attribute_text(status) == _IN_USE_BY_ANOTHER_MACHINE and status.resolve().is_relative_to(device):
            yield Use(UseKind.NETWORK, f"another machine uses its USB device {status.parent.name} (usbip)")
    for controller in entries(classes, "udc/*"):
        gadget = attribute_text(controller / "function")
        if gadget and controller.resolve().is_relative_to(device):
            yield Use(UseKind.NETWORK, f"this machine is a USB device through it (gadget {gadget})")
    for tpm in entries(classes, "tpm/tpm*"):
        if tpm.resolve().is_relative_to(device):
            yield Use(UseKind.PLATFORM, f"the TPM of this machine is behind it ({tpm.name})")


def consumer_uses(device: Path, links: Path = _DEVICE_LINKS) -> Iterator[Use]:
    """Yield the devices elsewhere that depend on a device: the kernel takes their drivers away before its own.

    For example, the PCIe ports that Thunderbolt tunnels depend on the host controller of Thunderbolt.
    """
    for one in entries(links):
        supplier, consumer = (one / "supplier").resolve(), (one / "consumer").resolve()
        ours = supplier.is_relative_to(device) and not consumer.is_relative_to(device)
        # The kernel also makes links that only delay sync_state() of the supplier. They take no driver away.
        if ours and attribute_text(one / "status") == "active" and attribute_text(one / "sync_state_only") != "1":
            yield Use(UseKind.PLATFORM, f"the device {consumer.name} depends on it, and would lose its driver with it")


def part_uses(
    device: Path, watchdogs: Path = _WATCHDOGS, channels: Path = _DMA_CHANNELS, vdpas: Path = _VDPA
) -> Iterator[Use]:
    """Return the users of a device's parts.

    A user is a mediated device, a vDPA device or a subfunction on the device, a running watchdog, a program with a work
    queue or a DMA channel of the device, or a device on one of its Thunderbolt ports.
    """
    for kind in entries(device, "*/mdev_type"):
        # A virtual machine has the VFIO group of the mediated device open, which is not below the device.
        yield Use(UseKind.VIRTUAL_FUNCTIONS, f"the mediated device {kind.parent.name} is on it")
    for watchdog in entries(watchdogs):
        if watchdog.resolve().is_relative_to(device) and attribute_text(watchdog / "state") == "active":
            yield Use(UseKind.PLATFORM, f"its watchdog {watchdog.name} is running, and would reset this machine")
    for clients in entries(device, "*/wq*/clients"):
        if attribute_number(clients):
            yield Use(UseKind.PROCESS, f"its work queue {clients.parent.name} has users")
    for vdpa in entries(vdpas):
        # The one that made it must make it again after an unbind.
        if vdpa.resolve().is_relative_to(device):
            yield Use(UseKind.VIRTUAL_FUNCTIONS, f"the vDPA device {vdpa.name} is on it")
    for subfunction in entries(device, "*.sf.[0-9]*"):
        yield Use(UseKind.VIRTUAL_FUNCTIONS, f"the subfunction {subfunction.name} is on it")
    for channel in entries(channels):
        # RAID and others of the kernel copy with these channels.
        users = attribute_number(channel / "in_use")
        if users and channel.resolve().is_relative_to(device):
            yield Use(UseKind.PLATFORM, f"its DMA channel {channel.name} has {counted(users, 'user')} in the kernel")
    # The host's own router is 0-0 in domain0. Devices behind the ports are below that router, and have a driver of
    # their own elsewhere in the tree of PCI.
    for authorized in entries(device, "domain*/*-0/*-*/authorized"):
        if attribute_text(authorized) in ("1", "2"):
            router = authorized.parent
            name = attribute_text(router / "device_name") or "a device"
            yield Use(UseKind.PLATFORM, f"{name} is connected by Thunderbolt through it ({router.name})")
