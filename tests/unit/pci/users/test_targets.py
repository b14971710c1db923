# SPDX-License-Identifier: MIT
"""Users inside the kernel of a disk or an adapter, in trees of sysfs and configfs as the kernel makes them."""

from pathlib import Path

from iommufd_py.pci.users.targets import (
    exports,
    fabric_targets,
    fibre_channel_ports,
    heartbeats,
    rdma_ports,
    scsi_passed_through,
    xen_disks,
)
from tests.unit.pci.users.sysfs_tree import link, write_line


def test_targets_behind_a_fibre_channel_adapter(tmp_path: Path, device: Path) -> None:
    """The adapter exports disks of other devices, and has none itself."""
    host, configfs = device / "host3/fc_host/host3", tmp_path / "config"
    write_line(host / "port_name", "0x21000024ff314c48")
    link(tmp_path / "class/fc_host/host3", host)
    ports = fibre_channel_ports(device, tmp_path / "class/fc_host")
    assert list(fabric_targets(ports, configfs)) == []
    for name, enabled in (("21:00:00:24:ff:31:4c:48", "1"), ("21:00:00:24:ff:31:4c:49", "1"), ("iqn.2003-01.x", "1")):
        write_line(configfs / "target/qla2xxx" / name / "tpgt_1/enable", enabled)
    write_line(configfs / "target/efct/naa.21000024ff314c48/tpgt_1/enable", "0")
    for number, port in ((1, "21000024ff314c48"), (2, "21000024ff314c49"), (3, "21000024ff314c48")):
        write_line(configfs / f"nvmet/ports/{number}/addr_traddr", f"nn-0x20000024ff314c48:pn-0x{port}")
    for number in (1, 2):
        link(configfs / f"nvmet/ports/{number}/subsystems/x", configfs / "nvmet/subsystems/x")
    assert list(fabric_targets(ports, configfs)) == [
        "the SCSI target qla2xxx/21:00:00:24:ff:31:4c:48",
        "port 1 of the NVMe target",
    ]


def test_targets_behind_an_infiniband_adapter(tmp_path: Path, device: Path) -> None:
    """See srpt_format_guid() and gid_name in drivers/infiniband/ulp/srpt/ib_srpt.c."""
    configfs, adapters = tmp_path / "config", tmp_path / "class/infiniband"
    for number, gid in ((1, "fe80:0000:0000:0000:f452:1403:0010:66b1"), (2, "0000:0000:0000:0000:0000:0000:0000:0000")):
        write_line(device / f"infiniband/mlx5_0/ports/{number}/gids/0", gid)
    link(adapters / "mlx5_0", device / "infiniband/mlx5_0")
    ports = rdma_ports(device, adapters)
    assert rdma_ports(device.parent / "0000:00:04.0", adapters) == frozenset()
    for name in ("f452:1403:0010:66b1", "0xfe80000000000000f4521403001066b1", "f452:1403:0010:66b2"):
        write_line(configfs / "target/srpt" / name / name / "enable", "1")
    write_line(configfs / "target/core/fileio_0/f452:1403:0010:66b1/enable", "1")
    assert list(fabric_targets(ports, configfs)) == [
        "the SCSI target srpt/0xfe80000000000000f4521403001066b1",
        "the SCSI target srpt/f452:1403:0010:66b1",
    ]


def test_tape_drive_that_is_exported(tmp_path: Path, device: Path) -> None:
    """pscsi_show_configfs_dev_params() prints the address; pscsi_create_type_nondisk() makes no claim."""
    scsi, configfs, other = tmp_path / "class/scsi_device", tmp_path / "config", device.parent / "0000:00:04.0"
    for path, address in ((device, "7:1:4:2"), (device, "7:1:5:0"), (other, "8:0:4:0")):
        link(scsi / address, path / "host" / address / "scsi_device" / address)
    location = (
        "SCSI Device Bus Location: Channel ID: {} Target ID: {} LUN: {} Host ID: {}\n        Vendor: HP  Model: LTO"
    )
    for name, place in (("tape0", (1, 4, 2, 7)), ("tape1", (0, 4, 0, 8)), ("whole", (0, 4, 0, "PHBA Mode"))):
        text = f"Status: ACTIVATED  Max Queue Depth: 0\n        {location.format(*place)}"
        write_line(configfs / "target/core/pscsi_0" / name / "info", text)
    assert list(scsi_passed_through(device, configfs, scsi)) == [("7:1:4:2", "pscsi_0/tape0")]
    assert list(scsi_passed_through(other, configfs, scsi)) == [("8:0:4:0", "pscsi_0/tape1")]
    assert list(scsi_passed_through(device, tmp_path / "none", scsi)) == []


def test_heartbeat_of_a_cluster(tmp_path: Path) -> None:
    """o2hb_region_dev_show(): the file is empty until the heartbeat starts."""
    write_line(tmp_path / "cluster/web/heartbeat/77D95EF51C0149D2823674FCC162CF8B/dev", "sdb1")
    write_line(tmp_path / "cluster/web/heartbeat/0123/dev", "")
    write_line(tmp_path / "cluster/web/node/n1/num", "0")
    assert list(heartbeats(tmp_path)) == [("/dev/sdb1", "web")]
    assert list(heartbeats(tmp_path / "none")) == []


def test_disks_of_xen_guests(tmp_path: Path) -> None:
    """The kernel writes the number with %x:%x."""
    write_line(tmp_path / "vbd-5-51712/physical_device", "103:1a")
    write_line(tmp_path / "vbd-6-51712/physical_device", "")
    write_line(tmp_path / "vif-5-0/state", "4")
    assert list(xen_disks(tmp_path)) == [("259:26", "5")]
    assert list(xen_disks(tmp_path / "none")) == []


def test_disks_that_are_exported_without_a_claim(tmp_path: Path) -> None:
    configfs, rnbd, gadgets = tmp_path / "config", tmp_path / "rnbd-server", tmp_path / "gadgets"
    write_line(configfs / "usb_gadget/g1/functions/mass_storage.0/lun.0/file", "/dev/nvme0n1")
    write_line(configfs / "usb_gadget/g1/functions/mass_storage.0/lun.1/file", "")
    write_line(gadgets / "gadget.0/lun0/file", "/dev/sdb")
    link(rnbd / "ctl/devices/nvme0n1p2/block_dev", tmp_path / "devices/nvme0n1")
    write_line(configfs / "nvmet/subsystems/x/namespaces/1/device_path", "/dev/sda")
    write_line(configfs / "nvmet/subsystems/x/namespaces/1/enable", "1")
    write_line(configfs / "target/core/fileio_0/y/udev_path", "")
    write_line(
        configfs / "target/core/fileio_0/y/info",
        "Status: ACTIVATED\n        TCM FILEIO ID: 0        File: /dev/sdc  Size: 1",
    )
    found = [one for one in exports(configfs, rnbd, gadgets) if one[0]]
    assert found == [
        ("/dev/nvme0n1", "the USB gadget (mass storage)"),
        ("/dev/sdb", "the USB gadget (mass storage)"),
        ("/dev/nvme0n1p2", "the RNBD server"),
        ("/dev/sda", "namespace 1 of the NVMe target x"),
        ("/dev/sdc", "the SCSI target back end fileio_0/y"),
    ]
