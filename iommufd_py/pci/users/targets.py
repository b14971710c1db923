# SPDX-License-Identifier: MIT
"""Find the users inside the kernel of a disk without a claim, and the targets that other machines reach."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries

FC_HOSTS = Path("/sys/class/fc_host")
_RDMA = Path("/sys/class/infiniband")
_CONFIGFS = Path("/sys/kernel/config")
_RNBD = Path("/sys/class/rnbd-server")
_GADGETS = Path("/sys/bus/gadget/devices")
_SCSI = Path("/sys/class/scsi_device")
_XEN_DISKS = Path("/sys/bus/xen-backend/devices")


def exports(configfs: Path = _CONFIGFS, rnbd: Path = _RNBD, gadgets: Path = _GADGETS) -> Iterator[tuple[str, str]]:
    """Yield the block devices that the kernel exports without an exclusive claim, by path, each with the target.

    The targets call bdev_file_open_by_path() without a holder, or filp_open() without O_EXCL.
    """
    for file in (*entries(configfs, "usb_gadget/*/functions/*/lun.*/file"), *entries(gadgets, "*/lun*/file")):
        yield attribute_text(file), "the USB gadget (mass storage)"
    for exported in entries(rnbd, "ctl/devices/*"):
        yield f"/dev/{exported.name}", "the RNBD server"
    for file in entries(configfs / "nvmet/subsystems", "*/namespaces/*/device_path"):
        if attribute_text(file.parent / "enable") == "1":
            namespace, subsystem = file.parent.name, file.parents[2].name
            yield attribute_text(file), f"namespace {namespace} of the NVMe target {subsystem}"
    for file in entries(configfs / "target/core", "*/*/udev_path"):
        kind, name = file.parents[1].name, file.parent.name
        yield attribute_text(file), f"the SCSI target back end {kind}/{name}"
        # Only this attribute names the file of the file back end.
        for path in re.findall(r"\bFile: (\S+)", attribute_text(file.parent / "info")):
            yield path, f"the SCSI target back end {kind}/{name}"


def heartbeats(configfs: Path = _CONFIGFS) -> Iterator[tuple[str, str]]:
    """Yield the block devices on which OCFS2 tells that this machine lives, by path, each with the cluster.

    o2hb_region_dev_store() in fs/ocfs2/cluster/heartbeat.c makes no claim. Without its heartbeat, the machine restarts.
    """
    for file in entries(configfs / "cluster", "*/heartbeat/*/dev"):
        name = attribute_text(file)
        if name:
            yield f"/dev/{name}", file.relative_to(configfs / "cluster").parts[0]


def xen_disks(backends: Path = _XEN_DISKS) -> Iterator[tuple[str, str]]:
    """Yield the numbers of the block devices that are disks of Xen's guests, each with the guest.

    xen_vbd_create() in drivers/block/xen-blkback/xenbus.c makes no claim. The name of a backend is vbd-GUEST-DISK.
    """
    for file in entries(backends, "vbd-*/physical_device"):
        number = re.fullmatch("([0-9a-f]{1,8}):([0-9a-f]{1,8})", attribute_text(file))
        if number:
            yield f"{int(number[1], 16)}:{int(number[2], 16)}", file.parent.name.split("-")[1]


def passed_through(device: Path) -> Iterator[str]:
    """Yield the subsystems of the kernel's NVMe target that pass a controller of *device* through, with its disks.

    Source: drivers/nvme/target/passthru.c; the target opens the controller's node and makes no claim on the disks.
    """
    controllers = {f"/dev/{path.name}" for path in entries(device, "nvme/nvme*")}
    for file in entries(_CONFIGFS / "nvmet/subsystems", "*/passthru/device_path"):
        if attribute_text(file) in controllers and attribute_text(file.parent / "enable") == "1":
            yield file.parents[1].name


def scsi_passed_through(device: Path, configfs: Path = _CONFIGFS, scsi: Path = _SCSI) -> Iterator[tuple[str, str]]:
    """Yield the SCSI devices of *device* that the SCSI target passes through, such as tape drives, with the back end.

    Source: drivers/target/target_core_pscsi.c. Only a disk gets a claim; no process has a node of the others open.
    """
    for file in entries(configfs / "target/core", "pscsi_*/*/info"):
        place = re.search(r"Channel ID: (\d+) Target ID: (\d+) LUN: (\d+) Host ID: (\d+)$", attribute_text(file), re.M)
        if place:
            address = f"{place[4]}:{place[1]}:{place[2]}:{place[3]}"
            if (scsi / address).resolve().is_relative_to(device):
                yield address, f"{file.parents[1].name}/{file.parent.name}"


def fibre_channel_ports(device: Path, hosts: Path = FC_HOSTS) -> frozenset[int]:
    """Return the names (WWPN) of a Fibre Channel adapter's ports."""
    names = [attribute_text(one / "port_name") for one in entries(hosts) if one.resolve().is_relative_to(device)]
    return frozenset(int(name, 16) for name in names if name)


def rdma_ports(device: Path, adapters: Path = _RDMA) -> frozenset[int]:
    """Return the second halves of the GIDs of an InfiniBand adapter's ports."""
    files = (file for file in entries(adapters, "*/ports/*/gids/0") if file.resolve().is_relative_to(device))
    halves = (attribute_text(file).replace(":", "")[16:] for file in files)
    return frozenset(int(half, 16) for half in halves if half) - {0}


def fabric_targets(ports: Collection[int], configfs: Path = _CONFIGFS) -> Iterator[str]:
    """Yield the targets inside the kernel that other machines reach through ports of Fibre Channel or InfiniBand.

    Such an adapter can have no disks of its own. LIO names a target by the port: ``21:00:00:24:ff:31:4c:48``, or with
    InfiniBand ``f452:1403:0010:66b1`` or the whole GID.
    """
    for file in entries(configfs / "target", "*/*/*/enable"):
        fabric, name = file.parents[2].name, file.parents[1].name
        digits = re.fullmatch(r"(?:naa\.|0x[0-9a-f]{16})?([0-9a-f]{16})", name.replace(":", ""))
        if digits and int(digits[1], 16) in ports and attribute_text(file) == "1":
            yield f"the SCSI target {fabric}/{name}"
    for port in entries(configfs / "nvmet/ports"):
        match = re.fullmatch("nn-0x[0-9a-f]+:pn-0x([0-9a-f]+)", attribute_text(port / "addr_traddr"))
        if match and int(match[1], 16) in ports and entries(port / "subsystems"):
            yield f"port {port.name} of the NVMe target"
