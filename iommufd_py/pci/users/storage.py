# SPDX-License-Identifier: MIT
"""Find the disks of a device, the block devices built on them, and the users of both."""

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.signals import held_signals
from iommufd_py.base.sysfs import attribute_text, entries, limit_named
from iommufd_py.pci.users.mounts import Mount, mounts_everywhere, parse_swaps
from iommufd_py.pci.users.targets import (
    FC_HOSTS,
    exports,
    fabric_targets,
    fibre_channel_ports,
    heartbeats,
    passed_through,
    rdma_ports,
    scsi_passed_through,
    xen_disks,
)
from iommufd_py.pci.users.use import Use, UseKind

_BLOCK = Path("/sys/class/block")
_VIRTIOFS = Path("/sys/fs/virtiofs")
_NVME = Path("/sys/class/nvme")
_SWAPS = Path("/proc/swaps")
_FILE_SYSTEMS = Path("/sys/fs")
_JOURNALS = Path("/proc/fs/jbd2")
# include/uapi/linux/loop.h: lo_device, lo_inode and lo_rdevice are the first three of struct loop_info64.
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO = struct.Struct("QQQ208x")


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk or partition of a device, or something built on one.

    Attributes:
        name: the kernel's name, for example ``nvme0n1p2``.
        over: block device that it is built on; empty for a disk or partition.
        label: another name of it, such as that of a mapping or of an array.
    """

    name: str
    over: str = ""
    label: str = ""

    def __str__(self) -> str:
        return f"/dev/{self.name}, over {self.over}," if self.over else f"/dev/{self.name}"

    @property
    def title(self) -> str:
        """The node with its label."""
        return f"/dev/{self.name} ({self.label})" if self.label else f"/dev/{self.name}"


def number_of_node(path: str) -> str:
    """Return ``major:minor`` of a block device's node; empty for anything else."""
    # A path outside /dev may be on a file system that does not answer.
    if not path.startswith("/dev/"):
        return ""
    try:
        status = os.stat(path)
    except FileNotFoundError:  # The /dev of a container can lack nodes.
        return attribute_text(_BLOCK / path.removeprefix("/dev/").replace("/", "!") / "dev")
    except (OSError, ValueError):
        return ""
    if not stat.S_ISBLK(status.st_mode):
        return ""
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def fibre_channel_controllers(device: Path, nvme: Path = _NVME, hosts: Path = FC_HOSTS) -> tuple[Path, ...]:
    """Return the NVMe controllers that a Fibre Channel adapter reaches. In sysfs they are not below the adapter.

    Source: nvmf_get_address() in drivers/nvme/host/fabrics.c; the port is "nn-0x<node>:pn-0x<port>".
    """
    ports = fibre_channel_ports(device, hosts)
    found = []
    for controller in entries(nvme) if ports else ():
        match = re.search(
            r"\bhost_traddr=nn-0x[0-9a-f]+:pn-0x([0-9a-f]+)", attribute_text(controller / "address").lower()
        )
        if attribute_text(controller / "transport") == "fc" and match and int(match[1], 16) in ports:
            found.append(controller.resolve())
    return tuple(found)


def disk_roots(device: Path) -> tuple[Path, ...]:
    """Return the places in sysfs of a device's disks: the device, its NVMe controllers elsewhere, and their subsystems.

    With multipath the subsystems contain the disks.
    """
    roots = (device, *fibre_channel_controllers(device))
    subsystems = (
        subsystem.resolve()
        for subsystem in entries(Path("/sys/class/nvme-subsystem"))
        if any(one.resolve().is_relative_to(root) for root in roots for one in entries(subsystem, "nvme*"))
    )
    return (*roots, *subsystems)


def disks_beneath(device: Path) -> dict[str, Disk]:
    """Return a device's disks and partitions, and the block devices built on them in any layer, by ``major:minor``."""
    roots = disk_roots(device)
    bases = [one.name for one in entries(_BLOCK) if any(one.resolve().is_relative_to(root) for root in roots)]
    if not bases:
        return {}
    pending = [Disk(name) for name in bases]
    loops = _loops()
    found: dict[str, Disk] = {}
    while pending:
        disk = pending.pop()
        number = attribute_text(_BLOCK / disk.name / "dev")
        if number and number not in found:
            found[number] = disk
            over = f"/dev/{disk.name}"
            upper = [holder.name for holder in entries(_BLOCK / disk.name / "holders")]
            upper += [loop for loop, below in loops.items() if below == number]
            pending += [Disk(name, over, _label(name)) for name in upper]
            # A block device that is built on a disk, such as a loop device, can have partitions.
            pending += [Disk(name, disk.over, disk.label) for name in partitions(disk.name) if disk.over]
    return found


def _label(name: str) -> str:
    mapping = attribute_text(_BLOCK / name / "dm/name")
    if mapping:
        kind = attribute_text(_BLOCK / name / "dm/uuid").partition("-")[0].lower() or "device mapper"
        return f"{mapping}, {kind}"
    level = attribute_text(_BLOCK / name / "md/level")
    return level or ("loop device" if name.startswith("loop") else "")


def _loops() -> dict[str, str]:
    """Return the number of the block device under each loop device that has one.

    A loop device has no entry in ``holders`` and takes no exclusive claim.
    """
    found = {}
    for file in entries(_BLOCK, "loop*/loop/backing_file"):
        name = file.parents[1].name
        number = _backing_number(name) or number_of_node(attribute_text(file))
        if number:
            found[name] = number
    return found


def _backing_number(loop: str) -> str:
    try:
        with held_signals(), limit_named(f"/dev/{loop}"):
            descriptor = os.open(f"/dev/{loop}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                answer = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_INFO.size))
            finally:
                os.close(descriptor)
    except OSError:
        return ""  # There is no permission to open it, or it was released in between.
    number = _LOOP_INFO.unpack(answer)[2]
    return f"{os.major(number)}:{os.minor(number)}" if number else ""


def partitions(disk: str) -> set[str]:
    """Return the names of a disk's partitions."""
    return {one.parent.name for one in entries(_BLOCK / disk, "*/partition")}


def claim_on(disk: str) -> str:
    """Return the use of a disk by the kernel, as a clause; empty without one, and for a user who may not ask.

    A disk that root cannot open counts as in use, because nothing shows whether the kernel uses it.
    """
    node = _node_of(disk)
    try:
        # O_EXCL without O_CREAT on a block device: refused while a file system, swap, RAID or the like holds it.
        with held_signals(), limit_named(node):
            os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as failure:
        if failure.errno == errno.EBUSY:
            return f"is claimed: by {claimant_of(disk) or _signature(disk)}"
        hidden = failure.errno in (errno.ENOENT, errno.EPERM)  # EPERM is that of a container; a user gets EACCES.
        if hidden and (_BLOCK / disk).exists():
            reason = "no node in this /dev" if failure.errno == errno.ENOENT else "a node that root may not open"
            return f"has {reason} (a container?), so its users cannot be seen"
    return ""


def _node_of(disk: str) -> str:
    """Return the path of the node of a disk or partition. The kernel writes a slash in its name as ``!``."""
    return f"/dev/{disk.replace('!', '/')}"


def storage_uses(device: Path) -> Iterator[Use]:
    """Yield the users of a device's disks, through any number of layers."""
    disks = disks_beneath(device)
    tags = {("9p", attribute_text(tag).rstrip("\n\0")) for tag in entries(device, "virtio*/mount_tag")}
    # The kernel shows the tags of virtiofs from Linux 6.9 on: Documentation/ABI/testing/sysfs-fs-virtiofs.
    for share in entries(_VIRTIOFS):
        if (share / "device").resolve().is_relative_to(device):
            tags.add(("virtiofs", attribute_text(share / "tag")))
    mounts = mounts_everywhere() if disks or tags else ()
    swaps = {node: number_of_node(node) for node in parse_swaps(attribute_text(_SWAPS))}
    numbers = {mount.source: number_of_node(mount.source) for mount in mounts} if disks else {}
    unclaimed = list(_users_without_claim()) if disks else []
    explained, found = judge_disks(disks, mounts, numbers, swaps, unclaimed)
    yield from found
    for target in fabric_targets(fibre_channel_ports(device) | rdma_ports(device)):
        yield Use(UseKind.STORAGE, f"other machines reach {target} through it")
    for subsystem in passed_through(device):
        yield Use(UseKind.STORAGE, f"the NVMe target {subsystem} exports its whole controller")
    for address, back_end in scsi_passed_through(device):
        yield Use(UseKind.STORAGE, f"its SCSI device {address} is exported by the SCSI target back end {back_end}")
    for mount in mounts:
        if (mount.type, mount.source) in tags:
            yield Use(UseKind.FILE_SYSTEM, f"the share {mount.source} is mounted on {mount.target}{mount.place}")
    for disk in sorted(set(disks.values()) - explained, key=lambda one: one.name):
        if disk.over or any(Disk(one) in explained for one in partitions(disk.name)):
            continue
        claim = claim_on(disk.name)
        if claim:
            yield Use(UseKind.STORAGE, f"/dev/{disk.name} {claim}")


def _users_without_claim() -> Iterator[tuple[str, str]]:
    for path, target in exports():
        yield number_of_node(path), f"is exported by {target}"
    for path, cluster in heartbeats():
        yield number_of_node(path), f"has the heartbeat of the cluster {cluster} (OCFS2)"
    for number, guest in xen_disks():
        yield number, f"is a disk of Xen's guest {guest}"


def judge_disks(
    disks: Mapping[str, Disk],
    mounts: Iterable[Mount],
    numbers: Mapping[str, str],
    swaps: Mapping[str, str],
    unclaimed: Iterable[tuple[str, str]],
) -> tuple[set[Disk], list[Use]]:
    """Return the disks with a known use, and the uses. Pure.

    Args:
        disks: disks of a device and the block devices built on them, by number.
        mounts: mounts of all mount namespaces.
        numbers: numbers of the block devices that are the sources of mounts.
        swaps: numbers of swap space, by node.
        unclaimed: numbers of block devices with a user inside the kernel that makes no claim, each with a clause.
    """
    found = _DiskUses(disks)
    seen: set[tuple[str, str]] = set()
    for mount in mounts:
        # A mount appears again in every namespace that was copied from ours: report the first one only.
        if (mount.number, mount.target) in seen:
            continue
        seen.add((mount.number, mount.target))
        clause = f"is mounted on {mount.target}{mount.place}"
        if not found.add(mount.number, UseKind.FILE_SYSTEM, clause):
            found.add(numbers.get(mount.source, ""), UseKind.FILE_SYSTEM, clause)
    for number in swaps.values():
        found.add(number, UseKind.SWAP, "is swap space")
    for number, clause in unclaimed:
        found.add(number, UseKind.STORAGE, clause)
    found.add_layers()
    return found.explained, found.uses


class _DiskUses:
    """The uses of a device's disks, and the disks whose use they explain."""

    def __init__(self, disks: Mapping[str, Disk]) -> None:
        self._disks = disks
        self._named = {f"/dev/{disk.name}": disk for disk in disks.values()}
        self.explained: set[Disk] = set()
        self.uses: list[Use] = []

    def add(self, number: str, kind: UseKind, clause: str) -> bool:
        """Add a use of the block device *number*. Return whether it is one of the disks."""
        disk = self._disks.get(number)
        if disk is None:
            return False
        self.explained.add(disk)
        use = Use(kind, f"{disk} {clause}")
        if use not in self.uses:
            self.uses.append(use)
        return True

    def add_layers(self) -> None:
        """Add the layers without a known use, each as a use of its base.

        The known use of a layer explains the layers below it.
        """
        for disk in list(self.explained):
            self.explained.update(self._all_below(disk))
        for disk in sorted(self._disks.values(), key=lambda one: one.name):
            if disk.over and disk not in self.explained:
                self.uses.append(Use(UseKind.STORAGE, f"{disk.title} is built on {disk.over}"))
                self.explained |= {disk, *self._all_below(disk)}

    def _all_below(self, disk: Disk) -> Sequence[Disk]:
        below = []
        while disk.over in self._named:
            disk = self._named[disk.over]
            below.append(disk)
        return below


def claimant_of(disk: str, file_systems: Path = _FILE_SYSTEMS, journals: Path = _JOURNALS, block: Path = _BLOCK) -> str:
    """Return the user inside the kernel that holds a disk and that no mount or layer shows; empty for an unknown one.

    For example, a file system stays in use by open files after a lazy unmount.
    """
    for pattern in (f"*/{disk}", f"*/*/devices/{disk}"):
        for found in entries(file_systems, pattern):
            kind = found.relative_to(file_systems).parts[0]
            return f"a file system ({kind}), which has further disks or is mounted in no namespace with a process"
    if (journals / disk).exists():
        return "ext4, whose journal is on it"
    if (block / disk / "bcache").exists():
        return "bcache"
    node = _node_of(disk)
    users = (one.parent.name for one in entries(block, "zram*/backing_dev") if attribute_text(one) == node)
    return next(users, "")


def _signature(disk: str) -> str:
    """Return the signature that udev read on a disk, to explain a claim with unknown owner."""
    import pyudev

    with contextlib.suppress(pyudev.DeviceNotFoundError):
        properties: Mapping[str, str] = pyudev.Devices.from_name(pyudev.Context(), "block", disk).properties
        kind, label = properties.get("ID_FS_TYPE", ""), properties.get("ID_FS_LABEL", "")
        if kind:
            return f"{kind}{f' with the label {label}' if label else ''}, as udev read on it"
    return "RAID, LVM, ZFS or a file system mounted elsewhere"
