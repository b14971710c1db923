# SPDX-License-Identifier: MIT
"""Find the processes that have a node of a device open, without a request to any slow or remote file system."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.base.sysfs import attribute_text, entries, target_name
from iommufd_py.pci import storage
from iommufd_py.pci.use import Use, UseKind
from iommufd_py.vfio.sysfs import NOIOMMU_PREFIX

# NVIDIA's driver asks for this number; its nodes have no entry in /sys/dev/char.
_NVIDIA_MAJOR = 195
_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
# File systems in memory that can hold device nodes.
_MEMORY = frozenset({"devtmpfs", "tmpfs", "ramfs", "rootfs", "overlay"})


@dataclass(frozen=True, slots=True)
class NodeId:
    """The device behind a node: its kind, and its number as os.makedev() packs it."""

    block: bool
    number: int


def openers(bdf: str) -> tuple[Use, ...]:
    """Return the processes that have a node of the device open: of its disks, terminals, VFIO cdev or VFIO group.

    Nodes of block devices that are built on its disks (loop devices, RAID) count too, and the files of its BARs. A
    driver in user space can use these files without a driver of the kernel.
    """
    nodes = _nodes(PCI_DEVICES / bdf)
    device = (PCI_DEVICES / bdf).resolve()
    local = parse_local_file_systems(attribute_text(Path("/proc/filesystems")))
    # The node may be open through a mount of another namespace: a manager can open it and pass it on.
    mounts = frozenset(mount.id for mount in storage.mounts_everywhere() if mount.type in local)
    found = []
    for process in storage.processes():
        held = {nodes.get(node, "") for node in _open_nodes(process, mounts)} - {""} if nodes else set()
        held |= {f"its {bar}" for bar in open_bars(process, device)}
        if held:
            name = attribute_text(process / "comm")
            found += [Use(UseKind.PROCESS, f"{name} (process {process.name}) has {node} open") for node in sorted(held)]
    return tuple(found)


def open_bars(process: Path, device: Path) -> set[str]:
    """Return the names of the files of a device's BARs that a process has open."""
    bar = re.compile(re.escape(str(device)) + "/(resource[0-9](?:_wc)?)")
    return {match[1] for _, link in storage.open_links(process) if (match := bar.fullmatch(link))}


def parse_local_file_systems(filesystems: str) -> frozenset[str]:
    """Return the types of file system that need no server or process to answer, from /proc/filesystems.

    The kernel does not mark the types that need a server or a process. A type that needs a disk needs neither, except
    FUSE on a disk.
    """
    on_disk = {line.strip() for line in filesystems.splitlines() if not line.startswith("nodev")}
    return frozenset(one for one in on_disk if one and not one.startswith("fuse")) | _MEMORY


def _nodes(device: Path) -> dict[NodeId, str]:
    """Return the nodes of a device, of all block devices built on its disks, and of its VFIO group."""
    roots = [*storage.disk_roots(device.resolve())]
    roots += vfio_groups(device)
    found = {}
    for kind in ("char", "block"):
        for link in entries(Path("/sys/dev", kind)):
            target = link.resolve()
            if any(target.is_relative_to(root) for root in roots):
                found[NodeId(kind == "block", _packed(link.name))] = _node_of(target)
    minor = nvidia_minor(device.name)
    if minor is not None:
        found[NodeId(False, os.makedev(_NVIDIA_MAJOR, minor))] = f"/dev/nvidia{minor}"
    for number, disk in storage.disks_beneath(device.resolve()).items():
        found.setdefault(NodeId(True, _packed(number)), f"{disk}")
    return found


def vfio_groups(device: Path) -> list[Path]:
    """Return the places in sysfs of the VFIO group of a device, with an IOMMU and without."""
    group = target_name(device / "iommu_group")
    names = (group, f"{NOIOMMU_PREFIX}{group}") if group else ()
    return [Path("/sys/devices/virtual/vfio", name) for name in names]


def nvidia_minor(bdf: str, gpus: Path = _NVIDIA_GPUS) -> int | None:
    """Return the number of the node of a GPU on NVIDIA's own driver, which has no entry in sysfs; else None."""
    match = re.search(r"^Device Minor:\s*([0-9]{1,3})$", attribute_text(gpus / bdf / "information"), re.MULTILINE)
    return int(match[1]) if match else None


def _packed(number: str) -> int:
    major, minor = map(int, number.split(":"))
    return os.makedev(major, minor)


def _node_of(device: Path) -> str:
    for line in attribute_text(device / "uevent").splitlines():
        if line.startswith("DEVNAME="):
            return f"/dev/{line.removeprefix('DEVNAME=')}"
    return f"/dev/{device.name}"


def _open_nodes(process: Path, mounts: frozenset[str]) -> Iterator[NodeId]:
    """Yield the nodes on *mounts* that a process has open; none if it has ended or belongs to another user."""
    for descriptor, link in storage.open_links(process):
        # Reading a link of /proc asks no other file system. Only a path can be a device node, not "pipe:[1]".
        if not link.startswith("/"):
            continue
        # If the process closes the descriptor in between, these calls fail, and the node is not open.
        with contextlib.suppress(OSError):
            if _mount_id(process, descriptor) not in mounts:
                continue
            status = os.stat(process / "fd" / descriptor)
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                yield NodeId(stat.S_ISBLK(status.st_mode), status.st_rdev)


def _mount_id(process: Path, descriptor: str) -> str:
    for line in (process / "fdinfo" / descriptor).read_text(errors="replace").splitlines():
        if line.startswith("mnt_id:"):
            return line.split()[1]
    return ""
