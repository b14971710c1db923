# SPDX-License-Identifier: MIT
"""Why a device must not be taken from its driver: who uses it, and for what."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.base.sysfs import attribute_text, entries, target_name
from iommufd_py.pci import storage
from iommufd_py.pci.functions import PciDevice, list_devices, pci_device
from iommufd_py.pci.network import interfaces_in_use


class UseKind(StrEnum):
    """What a device is used for."""

    FILE_SYSTEM = "file system"
    SWAP = "swap"
    STORAGE = "storage"
    """Claimed inside the kernel: RAID, LVM, a file system mounted elsewhere."""
    NETWORK = "network"
    CONSOLE = "console"
    DISPLAY = "display"
    VIRTUAL_FUNCTIONS = "virtual functions"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Use:
    """One reason to leave a device alone, as a clause: ``/dev/nvme0n1p2 is mounted on /``."""

    kind: UseKind
    text: str


def uses(bdf: str) -> tuple[Use, ...]:
    """Return what uses a function, as far as this process may see; nothing for one that can be taken.

    Root sees all: which processes have its nodes open, and what the kernel has claimed.

    Raises:
        DeviceError: there is no such function.
    """
    device = pci_device(bdf)
    path = (PCI_DEVICES / device.bdf).resolve()
    return (*_storage_uses(path), *_network_uses(path), *_other_uses(device, path), *openers(device.bdf))


def _storage_uses(path: Path) -> Iterator[Use]:
    disks = storage.disks_beneath(path)
    mounts = storage.parse_mounts(Path("/proc/self/mountinfo").read_text())
    tags = {attribute_text(tag).rstrip("\n\0") for tag in entries(path, "virtio*/mount_tag")}
    explained = set()
    for mount in mounts:
        disk = disks.get(mount.number) or disks.get(storage.number_of_node(mount.source))
        if disk:
            explained.add(disk)
            yield Use(UseKind.FILE_SYSTEM, f"/dev/{disk} is mounted on {mount.target}")
        elif mount.type == "9p" and mount.source in tags:
            yield Use(UseKind.FILE_SYSTEM, f"the share {mount.source} is mounted on {mount.target}")
    for node in storage.swaps():
        disk = disks.get(storage.number_of_node(node))
        if disk:
            explained.add(disk)
            yield Use(UseKind.SWAP, f"/dev/{disk} is swap space")
    for disk in sorted(set(disks.values()) - explained):
        if storage.is_claimed(disk) and not storage.partitions(disk) & explained:
            yield Use(UseKind.STORAGE, f"/dev/{disk} is claimed: by RAID, LVM or a file system mounted elsewhere")


def _network_uses(path: Path) -> Iterator[Use]:
    for text in interfaces_in_use(path):
        yield Use(UseKind.NETWORK, text)


def _other_uses(device: PciDevice, path: Path) -> Iterator[Use]:
    for line in Path("/proc/consoles").read_text().splitlines():
        name, number = line.split()[0], line.split()[-1]
        if Path("/sys/dev/char", number).resolve().is_relative_to(path):
            yield Use(UseKind.CONSOLE, f"{name} is a console of the kernel")
    if _is_display(device) and not any(map(_is_display, _others(device))):
        yield Use(UseKind.DISPLAY, "it is the only display")
    functions = path / "sriov_numvfs"
    count = int(attribute_text(functions) or 0)
    if count:
        yield Use(UseKind.VIRTUAL_FUNCTIONS, f"{count} virtual functions of it are enabled (echo 0 > {functions})")


def _is_display(device: PciDevice) -> bool:
    return device.class_code.startswith("03") and "vfio" not in device.driver


def _others(device: PciDevice) -> Iterator[PciDevice]:
    return (one for one in list_devices() if one.bdf != device.bdf)


def openers(bdf: str) -> tuple[Use, ...]:
    """Return which processes have a node of the device open: its disks, terminals, VFIO cdev or VFIO group."""
    nodes = _nodes(PCI_DEVICES / bdf)
    if not nodes:
        return ()
    found = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            held = {nodes.get(number, "") for number in _open_nodes(process)} - {""}
            name = (process / "comm").read_text().strip()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # it ended meanwhile, or is another user's
        found += [Use(UseKind.PROCESS, f"{name} (process {process.name}) has {node} open") for node in sorted(held)]
    return tuple(found)


def _nodes(device: Path) -> dict[tuple[bool, int], str]:
    """Return the device nodes beneath a device and of its VFIO group, by kind (is it a block device?) and number."""
    roots = [device.resolve(), *storage.nvme_subsystems(device.resolve())]
    group = target_name(device / "iommu_group")
    if group:
        roots.append(Path("/sys/devices/virtual/vfio", group))
    found = {}
    for kind in ("char", "block"):
        for link in entries(Path("/sys/dev", kind)):
            target = link.resolve()
            if any(target.is_relative_to(root) for root in roots):
                major, minor = map(int, link.name.split(":"))
                found[kind == "block", os.makedev(major, minor)] = _node_of(target)
    return found


def _node_of(device: Path) -> str:
    for line in attribute_text(device / "uevent").splitlines():
        if line.startswith("DEVNAME="):
            return f"/dev/{line.removeprefix('DEVNAME=')}"
    return f"/dev/{device.name}"


def _open_nodes(process: Path) -> Iterator[tuple[bool, int]]:
    for descriptor in (process / "fd").iterdir():
        try:
            status = descriptor.stat()
        except FileNotFoundError:
            continue  # closed meanwhile
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            yield stat.S_ISBLK(status.st_mode), status.st_rdev
