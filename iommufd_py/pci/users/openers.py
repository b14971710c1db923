# SPDX-License-Identifier: MIT
"""Find the processes that have a node of a device open, without a request to any slow or remote file system."""

import contextlib
import ctypes
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.base.sysfs import attribute_text, entries, kernel_text, target_name
from iommufd_py.pci.users import storage
from iommufd_py.pci.users.mounts import mounts_everywhere
from iommufd_py.pci.users.processes import (
    PHYSICAL_MEMORY,
    MappedFile,
    OpenedFile,
    mapped_files,
    opened_files,
    process_title,
    processes,
    registered_files,
    sees_all_files,
)
from iommufd_py.pci.users.use import Use, UseKind
from iommufd_py.vfio.sysfs import NOIOMMU_PREFIX

# NVIDIA's driver asks for this number; its nodes have no entry in /sys/dev/char.
_NVIDIA_MAJOR = 195
_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
_BARS, _IORESOURCE_MEM = 6, 0x200  # include/linux/ioport.h
_VFIO_DEVICE = "anon_inode:[vfio-device]"
_STATX = struct.Struct("=28xH98xII120x")
_DONT_SYNC, _TYPE = 0x4000, 0x1  # AT_STATX_DONT_SYNC, STATX_TYPE
_HIDDEN = (
    "its users cannot be seen: root has no CAP_SYS_PTRACE here (a container, a service?), so the open files of other "
    "processes are hidden"
)
# File systems in memory that can hold device nodes.
_MEMORY = frozenset({"devtmpfs", "tmpfs", "ramfs", "rootfs", "overlay"})


@dataclass(frozen=True, slots=True)
class NodeId:
    """The device behind a node: its kind, and its number as os.makedev() packs it."""

    block: bool
    number: int


@dataclass(frozen=True, slots=True)
class LocalMounts:
    """The mounts whose files can be asked for their type without a request to a server or another process.

    Attributes:
        ids: numbers of these mounts, in all mount namespaces.
        remote: numbers of all other mounts.
        file_systems: device numbers of their file systems.
    """

    ids: frozenset[str]
    remote: frozenset[str]
    file_systems: frozenset[str]


def local_mounts() -> LocalMounts:
    """Return the mounts of now.

    A node may be open through a mount of another namespace: a manager can open it and pass it on.
    """
    local = parse_local_file_systems(attribute_text(Path("/proc/filesystems")))
    mounts = mounts_everywhere()
    near = [mount for mount in mounts if mount.type in local]
    return LocalMounts(
        ids=frozenset(mount.id for mount in near),
        remote=frozenset(mount.id for mount in mounts if mount.type not in local),
        file_systems=frozenset(mount.number for mount in near),
    )


def openers(bdf: str) -> tuple[Use, ...]:
    """Return the processes that have a node of the device open: of its disks, terminals, VFIO cdev or VFIO group.

    Nodes of block devices that are built on its disks (loop devices, RAID) count too, and the files of its BARs. A
    driver in user space can use these files without a driver of the kernel. A file that a process has mapped is in
    use without a descriptor, and so is a node that it gave to io_uring.
    """
    nodes = _nodes(PCI_DEVICES / bdf)
    device = (PCI_DEVICES / bdf).resolve()
    mounts = local_mounts()
    mapped: dict[tuple[str, str], NodeId | None] = {}
    found = []
    for process in processes():
        files, memory = list(opened_files(process)), list(mapped_files(process))
        opened = open_bars(files, device) | ({"its VFIO device"} if has_vfio_device(files, device) else set())
        held = mapped_bars(memory, device)
        if nodes:
            opened |= {nodes[node] for node in open_nodes(files, mounts, nodes.values()) if node in nodes}
            opened |= nodes_in_rings(files, nodes.values())
            held |= {nodes[node] for node in mapped_nodes(memory, mounts, mapped) if node in nodes}
        for node in sorted(opened | held):
            how = "open" if node in opened else "in its memory (mmap)"
            found.append(Use(UseKind.PROCESS, f"{process_title(process)} has {node} {how}"))
    return tuple(found)


def hidden_users() -> tuple[Use, ...]:
    """Return a use if :func:`openers` does not see all processes, although root asks.

    A user other than root cannot take a device, and gets a list without the processes of other users.
    """
    return (Use(UseKind.PROCESS, _HIDDEN),) if os.geteuid() == 0 and not sees_all_files() else ()


def open_bars(files: Iterable[OpenedFile], device: Path) -> set[str]:
    """Return the files of a device's BARs among the open files of a process."""
    return _bars((file.path for file in files), device)


def mapped_bars(files: Iterable[MappedFile], device: Path) -> set[str]:
    """Return the files of a device's BARs among the mapped files of a process: of sysfs, of procfs, and /dev/mem.

    Source: proc_bus_pci_mmap() in drivers/pci/proc.c. The file of procfs is also that of the configuration space, so it
    is no use if it is only open.
    """
    files = list(files)
    paths = [file.path for file in files]
    memory = [file for file in files if file.path == PHYSICAL_MEMORY]
    domain, bus, function = device.name.split(":")
    name = f"/proc/bus/pci/{'' if domain == '0000' else f'{domain}:'}{bus}/{function}"
    found = _bars(paths, device) | ({f"its {name}"} if name in paths else set())
    # Few programs map physical memory. For all others, the addresses of the BARs are not needed.
    for number, (start, last) in _bar_addresses(device).items() if memory else ():
        if any(part.start <= last and start < part.start + part.length for part in memory):
            found.add(f"its resource{number}, through {PHYSICAL_MEMORY},")
    return found


def _bar_addresses(device: Path) -> dict[int, tuple[int, int]]:
    """Return the first and the last physical address of each BAR of memory, by the number of the BAR."""
    lines = attribute_text(device / "resource").splitlines()[:_BARS]
    resources = [[int(word, 16) for word in line.split()] for line in lines]
    return {number: (start, last) for number, (start, last, flags) in enumerate(resources) if flags & _IORESOURCE_MEM}


def _bars(paths: Iterable[str], device: Path) -> set[str]:
    # A program gets memory of the device for DMA between devices by a map of "allocate".
    bar = re.compile(re.escape(str(device)) + "/(resource[0-9](?:_wc)?|p2pmem/allocate)")
    return {f"its {match[1]}" for path in paths if (match := bar.fullmatch(path))}


def has_vfio_device(files: Iterable[OpenedFile], device: Path) -> bool:
    """Return whether a process has a device open that it got through a VFIO group, which need not be open any more.

    Source: vfio_device_show_fdinfo() in drivers/vfio/vfio_main.c. Older kernels do not name the device.
    """
    wanted = f"vfio-device-syspath: {device}"
    return any(wanted in attribute_text(file.details).split("\n") for file in files if file.path == _VFIO_DEVICE)


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


def open_nodes(files: Iterable[OpenedFile], mounts: LocalMounts, titles: Iterable[str]) -> Iterator[NodeId]:
    """Yield the nodes among the open files of a process.

    Args:
        files: open files of the process.
        mounts: the mounts of now. A file of another mount, whose namespace has no process any more, is asked only if it
            has the name of one of the nodes.
        titles: the nodes to look for, as paths in /dev.
    """
    names = tuple({_name_in_dev(title) for title in titles})
    for file in files:
        # Only a path can be a device node, not "pipe:[1]".
        if not file.path.startswith("/"):
            continue
        # If the process closes the descriptor in between, these calls fail, and the node is not open.
        with contextlib.suppress(OSError):
            mount = _mount_id(file)
            if mount in mounts.ids or (mount not in mounts.remote and file.path.endswith(names)):
                node = _node_behind(file.link)
                if node is not None:
                    yield node


def nodes_in_rings(files: Iterable[OpenedFile], titles: Iterable[str]) -> set[str]:
    """Return those of the nodes *titles* that a process gave to io_uring.

    The kernel shows only their paths, and 6.12 only the last part of each. The path of another mount namespace can
    begin at the root of its /dev.
    """
    registered = {path.removeprefix("/dev") for path in registered_files(files)}
    return {title for title in titles if {name := _name_in_dev(title), name.rpartition("/")[2]} & registered}


def _name_in_dev(title: str) -> str:
    return title.partition(",")[0].removeprefix("/dev")


def mapped_nodes(
    files: Iterable[MappedFile], mounts: LocalMounts, known: dict[tuple[str, str], NodeId | None]
) -> Iterator[NodeId]:
    """Yield the nodes among the mapped files of a process. *known* keeps the answers for all processes."""
    for file in files:
        if file.file_system not in mounts.file_systems:
            continue
        key = file.file_system, file.inode
        with contextlib.suppress(OSError):  # The process has ended, or unmapped it in between.
            if key not in known:
                known[key] = _node_behind(file.link)
            node = known[key]
            if node is not None:
                yield node


def _node_behind(file: Path) -> NodeId | None:
    """Return the device behind a file in /proc; None for another file. No server is asked for it, as stat(2) would.

    Source: statx(2), and struct statx in include/uapi/linux/stat.h.
    """
    answer = ctypes.create_string_buffer(_STATX.size)
    if ctypes.CDLL(None, use_errno=True).statx(-1, os.fsencode(file), _DONT_SYNC, _TYPE, answer):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(file))
    mode, major, minor = _STATX.unpack(answer.raw)
    if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
        return None
    return NodeId(stat.S_ISBLK(mode), os.makedev(major, minor))


def _mount_id(file: OpenedFile) -> str:
    for line in kernel_text(file.details).splitlines():
        if line.startswith("mnt_id:"):
            return line.split()[1]
    return ""
