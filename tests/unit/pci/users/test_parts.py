# SPDX-License-Identifier: MIT
"""Users of a device that hold no node of it open, in trees of sysfs as the kernel makes them."""

import os
import re
import socket
import struct
from pathlib import Path

import pytest

from iommufd_py.pci.users import display
from iommufd_py.pci.users.memory import memory_uses, parse_resources
from iommufd_py.pci.users.namespaces import Link, parse_link
from iommufd_py.pci.users.openers import nvidia_minor, vfio_groups
from iommufd_py.pci.users.parts import consumer_uses, part_uses
from iommufd_py.pci.users.storage import claimant_of, fibre_channel_controllers
from iommufd_py.pci.users.targets import (
    exports,
    fabric_targets,
    fibre_channel_ports,
    heartbeats,
    rdma_ports,
    scsi_passed_through,
    xen_disks,
)
from iommufd_py.pci.users.traffic import frame_users

IOMEM = """00000000-00000fff : Reserved
00100000-7fffffff : System RAM
  01000000-020031d0 : Kernel code
100000000-17fffffff : virtio3
  100000000-107ffffff : System RAM (virtio_mem)
180000000-1ffffffff : virtio4
890000000-a8fffffff : CXL Window 0
  890000000-a8fffffff : region0
    890000000-a8fffffff : dax0.0
      890000000-a8fffffff : System RAM (kmem)
"""


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


def link(place: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize(
    ("commit", "driver", "said"), [("1", "kmem", ", as system memory"), ("1", "", ""), ("0", "", None)]
)
def test_memory_region_of_cxl(tmp_path: Path, device: Path, commit: str, driver: str, said: str | None) -> None:
    """See Documentation/ABI/testing/sysfs-bus-cxl: a decoder is below its endpoint, whose uport is a memory device."""
    cxl, real = tmp_path / "bus/cxl/devices", tmp_path / "devices/platform/ACPI0017:00/root0"
    memdev, other = device / "mem0", device.parent / "0000:00:04.0/mem1"
    for number, below in ((3, memdev), (4, other)):
        endpoint = real / f"port1/endpoint{number}"
        link(endpoint / "uport", below)
        link(cxl / f"decoder{number}.0", endpoint / f"decoder{number}.0")
    region = real / "decoder0.0/region0"
    write(region / "commit", commit)
    write(region / "target0", "decoder3.0")
    write(region / "target1", "")
    if driver:
        link(region / "dax_region0/dax0.0/driver", tmp_path / "bus/dax/drivers" / driver)
    link(cxl / "region0", region)
    found = [use.text for use in memory_uses(device, cxl, tmp_path / "no-iomem")]
    assert found == ([] if said is None else [f"the memory region region0 is on it{said}"])
    assert [*memory_uses(other.parent, cxl, tmp_path / "no-iomem")] == []


@pytest.mark.parametrize(("committed", "region", "said"), [("1", False, True), ("0", False, False), ("1", True, False)])
def test_cxl_memory_that_the_firmware_gave_to_the_machine(
    tmp_path: Path, device: Path, committed: str, region: bool, said: bool
) -> None:
    """Documentation/ABI/testing/sysfs-bus-cxl: decoders_committed may be elevated "without any regionX objects"."""
    cxl, real = tmp_path / "bus/cxl/devices", tmp_path / "devices/platform/ACPI0017:00/root0"
    for number, below in ((3, device / "mem0"), (4, device.parent / "0000:00:04.0/mem1")):
        endpoint = real / f"port1/endpoint{number}"
        link(endpoint / "uport", below)
        write(endpoint / "decoders_committed", committed if number == 3 else "0")
        link(cxl / endpoint.name, endpoint)
    if region:
        link(cxl / "decoder3.0", real / "port1/endpoint3/decoder3.0")
        write(cxl / "region0/commit", "1")
        write(cxl / "region0/target0", "decoder3.0")
    text = "its memory is mapped into this machine (CXL)"
    found = [use.text for use in memory_uses(device, cxl, tmp_path / "no-iomem")]
    assert found == ["the memory region region0 is on it"] if region else found == ([text] if said else [])
    assert [*memory_uses(device.parent / "0000:00:04.0", cxl, tmp_path / "no-iomem")] == []


def test_memory_of_virtio(tmp_path: Path, device: Path) -> None:
    iomem = tmp_path / "iomem"
    iomem.write_text(IOMEM)
    link(device / "virtio3/driver", tmp_path / "bus/virtio/drivers/virtio_mem")
    assert [use.text for use in memory_uses(device, tmp_path, iomem)] == ["memory of virtio3 is system memory"]
    other = device.parent / "0000:00:04.0"
    link(other / "virtio4/driver", tmp_path / "bus/virtio/drivers/virtio_mem")
    assert [*memory_uses(other, tmp_path, iomem)] == []


def test_resources_in_resources() -> None:
    found = parse_resources(IOMEM)
    assert found["virtio3"] == ("System RAM (virtio_mem)",)
    assert found["virtio4"] == found["Reserved"] == ()
    assert found["CXL Window 0"] == ("region0", "dax0.0", "System RAM (kmem)")


def test_mediated_device(tmp_path: Path, device: Path) -> None:
    name = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
    assert [*part_uses(device, tmp_path / "none")] == []
    link(device / name / "mdev_type", device / "mdev_supported_types/i915-GVTg_V5_4")
    assert [use.text for use in part_uses(device, tmp_path / "none")] == [f"the mediated device {name} is on it"]


def test_running_watchdog(tmp_path: Path, device: Path) -> None:
    watchdogs = tmp_path / "class/watchdog"
    for name, below, state in (
        ("watchdog0", device / "iTCO_wdt", "active"),
        ("watchdog1", device, "inactive"),
        ("watchdog2", device.parent / "0000:00:04.0", "active"),
    ):
        write(below / "watchdog" / name / "state", state)
        link(watchdogs / name, below / "watchdog" / name)
    text = "its watchdog watchdog0 is running, and would reset this machine"
    assert [use.text for use in part_uses(device, watchdogs)] == [text]


def test_users_of_a_work_queue(tmp_path: Path, device: Path) -> None:
    write(device / "iax1/wq1.0/clients", "0")
    assert [*part_uses(device, tmp_path)] == []
    write(device / "iax1/wq1.1/clients", "2")
    assert [use.text for use in part_uses(device, tmp_path)] == ["its work queue wq1.1 has users"]


def test_vdpa_device(tmp_path: Path, device: Path) -> None:
    for name, below in (("vdpa0", device), ("vdpa1", device.parent / "0000:00:04.0")):
        link(tmp_path / "vdpa" / name, below / name)
    found = [use.text for use in part_uses(device, tmp_path, tmp_path, tmp_path / "vdpa")]
    assert found == ["the vDPA device vdpa0 is on it"]


def test_subfunction(device: Path) -> None:
    (device / "mlx5_core.sf.4/net/en8f0pf0sf88").mkdir(parents=True)
    assert [use.text for use in part_uses(device)] == ["the subfunction mlx5_core.sf.4 is on it"]


def test_users_of_a_dma_channel(tmp_path: Path, device: Path) -> None:
    """The kernel's RAID takes such a channel, and holds no node and no claim."""
    channels = tmp_path / "class/dma"
    for name, below, users in (
        ("dma0chan0", device, "2"),
        ("dma0chan1", device, "0"),
        ("dma1chan0", device.parent / "0000:00:04.0", "1"),
    ):
        write(below / "dma" / name / "in_use", users)
        link(channels / name, below / "dma" / name)
    assert [use.text for use in part_uses(device, tmp_path, channels)] == [
        "its DMA channel dma0chan0 has 2 users in the kernel"
    ]


def test_device_that_depends_on_another(tmp_path: Path, device: Path) -> None:
    """device_links_unbind_consumers() in drivers/base/core.c takes the drivers of active consumers away."""
    links, elsewhere = tmp_path / "class/devlink", device.parent / "0000:00:04.0"
    for name, supplier, consumer, status, state_only in (
        ("a", device, elsewhere, "active", "0"),
        ("b", device / "i2c-1", tmp_path / "devices/platform/sensor", "active", "0"),
        ("c", device, tmp_path / "devices/platform/unbound", "available", "0"),
        ("d", device, tmp_path / "devices/platform/untracked", "not tracked", "0"),
        ("e", device, tmp_path / "devices/platform/state", "active", "1"),
        ("f", device, device / "child", "active", "0"),
        ("g", elsewhere, device, "active", "0"),
    ):
        link(links / name / "supplier", supplier)
        link(links / name / "consumer", consumer)
        write(links / name / "status", status)
        write(links / name / "sync_state_only", state_only)
    assert [use.text for use in consumer_uses(device, links)] == [
        f"the device {name} depends on it, and would lose its driver with it" for name in ("0000:00:04.0", "sensor")
    ]


@pytest.mark.parametrize(("authorized", "used"), [("1", True), ("2", True), ("0", False)])
def test_device_on_a_thunderbolt_port(device: Path, authorized: str, used: bool) -> None:
    write(device / "domain0/0-0/authorized", "1")
    write(device / "domain0/0-0/0-1/authorized", authorized)
    write(device / "domain0/0-0/0-1/device_name", "Dock TBT4")
    found = [use.text for use in part_uses(device)]
    assert found == (["Dock TBT4 is connected by Thunderbolt through it (0-1)"] if used else [])


def test_persistent_memory_as_system_memory(tmp_path: Path, device: Path) -> None:
    """See Documentation/admin-guide/mm/memory-hotplug.rst: the driver kmem gives the memory of a DAX device to all."""
    dax = tmp_path / "bus/dax/devices"
    for name, driver in (("dax0.0", "kmem"), ("dax0.1", "device_dax")):
        real = device / "virtio5/ndbus0/region0" / name
        link(real / "driver", tmp_path / "bus/dax/drivers" / driver)
        link(dax / name, real)
    missing = tmp_path / "none"
    assert [use.text for use in memory_uses(device, missing, missing, dax)] == ["memory of dax0.0 is system memory"]
    assert [*memory_uses(device.parent / "0000:00:04.0", missing, missing, dax)] == []


def test_debugger_on_a_serial_line(tmp_path: Path, device: Path) -> None:
    link(tmp_path / "class/tty/ttyS4", device / "0000:00:03.0:0/tty/ttyS4")
    setting = tmp_path / "kgdboc"
    write(setting, "kbd,ttyS4,115200")
    found = display.debugger_uses(device, setting, tmp_path / "class/tty")
    assert [use.text for use in found] == ["the kernel's debugger kgdb talks through ttyS4"]
    write(setting, "ttyS0")
    assert [*display.debugger_uses(device, setting, tmp_path / "class/tty")] == []


@pytest.mark.parametrize(("card", "used"), [(True, True), (False, False)])
def test_console_that_a_display_shows_without_a_terminal(tmp_path: Path, device: Path, card: bool, used: bool) -> None:
    """Such a console has no number in /proc/consoles, and the names are those of c_show() in fs/proc/consoles.c."""
    if card:
        (device / "drm/card1").mkdir(parents=True)
    consoles = tmp_path / "consoles"
    consoles.write_text("drm_log1             -W- (E  N  a)\nttyS9                -W- (EC p a)  254:77\n")
    text = "drm_log1 is a console of the kernel, and it can be on this display"
    assert [one.text for one in display.console_uses(device, consoles)] == ([text] if used else [])


INPUTS = """I: Bus=0019 Vendor=0000 Product=0001 Version=0000
N: Name="Power Button"
P: Phys=LNXPWRBN/button/input0
S: Sysfs=/devices/LNXSYSTM:00/LNXPWRBN:00/input/input0
U: Uniq=
H: Handlers=kbd event0
B: PROP=0
B: EV=3
B: KEY=8000 10000000000000 0

I: Bus=0003 Vendor=046d Product=c31c Version=0110
N: Name="Logitech USB Keyboard"
P: Phys=usb-0000:00:14.0-3/input0
S: Sysfs={}/usb1/1-3/1-3:1.0/0003:046D:C31C.0001/input/input5
U: Uniq=
H: Handlers=sysrq kbd leds event5
B: PROP=0
B: EV=120013
B: KEY=1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe
B: MSC=10
B: LED=1f
"""
SECOND = """
S: Sysfs=/devices/platform/i8042/serio0/input/input1
B: KEY=402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe
"""


def test_only_keyboard(tmp_path: Path, device: Path) -> None:
    inputs = tmp_path / "inputs"
    keyboards = INPUTS.format(f"/{device.relative_to(tmp_path)}")
    inputs.write_text(keyboards)
    found = [use.text for use in display.keyboard_uses(device, inputs, tmp_path)]
    assert found == ["every keyboard of this machine is behind it"]
    assert [*display.keyboard_uses(device.parent / "0000:00:04.0", inputs, tmp_path)] == []
    inputs.write_text(keyboards + SECOND)
    assert [*display.keyboard_uses(device, inputs, tmp_path)] == []
    inputs.write_text(f"{keyboards}\nS: Sysfs=/cut-off\nB: KEY=fffffffffffffffe ff9f207ac\n\nS: Sysfs=/odd\nB: KEY=x\n")
    assert len([*display.keyboard_uses(device, inputs, tmp_path)]) == 1
    inputs.write_text("")
    assert [*display.keyboard_uses(device, inputs, tmp_path)] == []


def test_nvme_disks_behind_a_fibre_channel_adapter(tmp_path: Path, device: Path) -> None:
    """Their controllers are virtual devices of sysfs, not below the adapter."""
    nvme, hosts = tmp_path / "class/nvme", tmp_path / "class/fc_host"
    host = device / "host3/fc_host/host3"
    write(host / "port_name", "0x100000109b1c0f2a")
    link(hosts / "host3", host)
    fabric = tmp_path / "devices/virtual/nvme-fabrics/ctl"
    for name, transport, port in (
        ("nvme0", "fc", "0x100000109B1C0F2A"),
        ("nvme1", "fc", "0x100000109b1c0f2b"),
        ("nvme2", "tcp", "0x100000109b1c0f2a"),
    ):
        write(fabric / name / "transport", transport)
        address = f"traddr=nn-0x20000002ac006ea0:pn-0x21000002ac006ea0,host_traddr=nn-0x200000109b1c0f2a:pn-{port}"
        write(fabric / name / "address", address)
        link(nvme / name, fabric / name)
    assert fibre_channel_controllers(device, nvme, hosts) == (fabric / "nvme0",)
    assert fibre_channel_controllers(device.parent / "0000:00:04.0", nvme, hosts) == ()


def test_targets_behind_a_fibre_channel_adapter(tmp_path: Path, device: Path) -> None:
    """The adapter exports disks of other devices, and has none itself."""
    host, configfs = device / "host3/fc_host/host3", tmp_path / "config"
    write(host / "port_name", "0x21000024ff314c48")
    link(tmp_path / "class/fc_host/host3", host)
    ports = fibre_channel_ports(device, tmp_path / "class/fc_host")
    assert list(fabric_targets(ports, configfs)) == []
    for name, enabled in (("21:00:00:24:ff:31:4c:48", "1"), ("21:00:00:24:ff:31:4c:49", "1"), ("iqn.2003-01.x", "1")):
        write(configfs / "target/qla2xxx" / name / "tpgt_1/enable", enabled)
    write(configfs / "target/efct/naa.21000024ff314c48/tpgt_1/enable", "0")
    for number, port in ((1, "21000024ff314c48"), (2, "21000024ff314c49"), (3, "21000024ff314c48")):
        write(configfs / f"nvmet/ports/{number}/addr_traddr", f"nn-0x20000024ff314c48:pn-0x{port}")
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
        write(device / f"infiniband/mlx5_0/ports/{number}/gids/0", gid)
    link(adapters / "mlx5_0", device / "infiniband/mlx5_0")
    ports = rdma_ports(device, adapters)
    assert rdma_ports(device.parent / "0000:00:04.0", adapters) == frozenset()
    for name in ("f452:1403:0010:66b1", "0xfe80000000000000f4521403001066b1", "f452:1403:0010:66b2"):
        write(configfs / "target/srpt" / name / name / "enable", "1")
    write(configfs / "target/core/fileio_0/f452:1403:0010:66b1/enable", "1")
    assert list(fabric_targets(ports, configfs)) == [
        "the SCSI target srpt/0xfe80000000000000f4521403001066b1",
        "the SCSI target srpt/f452:1403:0010:66b1",
    ]


def test_names_of_claims(tmp_path: Path) -> None:
    """No mount and no layer shows these users; the disk has only an exclusive claim."""
    file_systems, journals, block = tmp_path / "fs", tmp_path / "jbd2", tmp_path / "block"
    (file_systems / "ext4/sda1").mkdir(parents=True)
    link(file_systems / "btrfs/4f1c/devices/sdb", block / "sdb")
    (journals / "sdc").mkdir(parents=True)
    (block / "sdd/bcache").mkdir(parents=True)
    write(block / "zram0/backing_dev", "none")
    write(block / "zram1/backing_dev", "/dev/sde")
    found = {
        disk: claimant_of(disk, file_systems, journals, block) for disk in ("sda1", "sdb", "sdc", "sdd", "sde", "sdf")
    }
    elsewhere = "which has further disks or is mounted in no namespace with a process"
    assert found == {
        "sda1": f"a file system (ext4), {elsewhere}",
        "sdb": f"a file system (btrfs), {elsewhere}",
        "sdc": "ext4, whose journal is on it",
        "sdd": "bcache",
        "sde": "zram1",
        "sdf": "",
    }


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
        write(configfs / "target/core/pscsi_0" / name / "info", text)
    assert list(scsi_passed_through(device, configfs, scsi)) == [("7:1:4:2", "pscsi_0/tape0")]
    assert list(scsi_passed_through(other, configfs, scsi)) == [("8:0:4:0", "pscsi_0/tape1")]
    assert list(scsi_passed_through(device, tmp_path / "none", scsi)) == []


def test_heartbeat_of_a_cluster(tmp_path: Path) -> None:
    """o2hb_region_dev_show(): the file is empty until the heartbeat starts."""
    write(tmp_path / "cluster/web/heartbeat/77D95EF51C0149D2823674FCC162CF8B/dev", "sdb1")
    write(tmp_path / "cluster/web/heartbeat/0123/dev", "")
    write(tmp_path / "cluster/web/node/n1/num", "0")
    assert list(heartbeats(tmp_path)) == [("/dev/sdb1", "web")]
    assert list(heartbeats(tmp_path / "none")) == []


def test_disks_of_xen_guests(tmp_path: Path) -> None:
    """The kernel writes the number with %x:%x."""
    write(tmp_path / "vbd-5-51712/physical_device", "103:1a")
    write(tmp_path / "vbd-6-51712/physical_device", "")
    write(tmp_path / "vif-5-0/state", "4")
    assert list(xen_disks(tmp_path)) == [("259:26", "5")]
    assert list(xen_disks(tmp_path / "none")) == []


def test_disks_that_are_exported_without_a_claim(tmp_path: Path) -> None:
    configfs, rnbd, gadgets = tmp_path / "config", tmp_path / "rnbd-server", tmp_path / "gadgets"
    write(configfs / "usb_gadget/g1/functions/mass_storage.0/lun.0/file", "/dev/nvme0n1")
    write(configfs / "usb_gadget/g1/functions/mass_storage.0/lun.1/file", "")
    write(gadgets / "gadget.0/lun0/file", "/dev/sdb")
    link(rnbd / "ctl/devices/nvme0n1p2/block_dev", tmp_path / "devices/nvme0n1")
    write(configfs / "nvmet/subsystems/x/namespaces/1/device_path", "/dev/sda")
    write(configfs / "nvmet/subsystems/x/namespaces/1/enable", "1")
    write(configfs / "target/core/fileio_0/y/udev_path", "")
    write(
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


def test_group_of_a_device_without_an_iommu(tmp_path: Path, device: Path) -> None:
    """Its node is /dev/vfio/noiommu-7: vfio_group_alloc() in drivers/vfio/group.c."""
    assert vfio_groups(device) == []
    link(device / "iommu_group", tmp_path / "kernel/iommu_groups/7")
    assert [one.name for one in vfio_groups(device)] == ["7", "noiommu-7"]


def test_users_of_frames(tmp_path: Path) -> None:
    block, netconsole, pppoe = tmp_path / "block", tmp_path / "netconsole", tmp_path / "pppoe"
    write(block / "etherd!e1.1/netif", "eth1,eth2")
    write(block / "etherd!e2.1/netif", "none")
    write(netconsole / "far/dev_name", "eth1")
    write(netconsole / "far/enabled", "1")
    write(netconsole / "off/dev_name", "eth2")
    write(netconsole / "off/enabled", "0")
    write(tmp_path / "rdma/rxe0/parent", "eth5")
    write(tmp_path / "rdma/mlx5_0/node_type", "1: CA")
    write(pppoe, "Id       Address              Device\n00000100 52:54:00:12:34:56     eth3")
    handlers = (
        "Type Device      Function",
        "ALL  eth6     vboxNetFltLinuxPacketHandler [vboxnetflt]",
        "ALL  eth1     tpacket_rcv [af_packet]",
        "0800          ip_rcv",
        "88ca          tipc_l2_rcv_msg [tipc]",
        "8906 eth-with-a-name fcoe_rcv",
    )
    write(tmp_path / "ptype", "\n".join(handlers))
    links = [
        Link("eth1", 2, "", 0, None, 1, 1),
        Link("eth4", 5, "", 0, None, 1, 1, xdp=True),
        Link("can0", 6, "", 0, None, 280, 1),
        Link("can1", 7, "", 0, None, 280, 0),
    ]

    boot = (tmp_path / "cmdline", tmp_path / "consoles")
    write(
        boot[0], 'ro netconsole=+4444@10.0.0.1/eth7,9353@10.0.0.2/12:34:56:78:9a:bc;@/,@10.0.0.3/ "x=netconsole=@/no,"'
    )

    def users(*names: str) -> list[str]:
        return list(frame_users(names, links, block, netconsole, pppoe, tmp_path / "rdma", tmp_path / "ptype", boot))

    assert users("eth1") == [
        "the disk etherd/e1.1 is reached through the interface eth1",
        "the kernel sends its log through the interface eth1 (netconsole far)",
    ]
    assert users("eth2") == ["the disk etherd/e1.1 is reached through the interface eth2"]
    assert users("eth3") == ["a PPP over Ethernet session runs over the interface eth3"]
    assert users("eth4") == ["an XDP program is attached to the interface eth4"]
    assert users("can0") == ["the CAN interface can0 is up"]
    assert users("eth5") == ["the RDMA device rxe0 is built on the interface eth5"]
    assert users("eth0", "eth7") == []  # The console did not start.
    write(boot[1], "ttyS0                -W- (EC p a)    4:64\nnetcon_ext0          -W- (E     )")
    assert users("eth0", "eth7", "no") == [
        f"the kernel sends its log through the interface {name} (netconsole= on its command line)"
        for name in ("eth0", "eth7")
    ]
    assert users("eth6") == ["vboxnetflt receives the frames of the interface eth6 (vboxNetFltLinuxPacketHandler)"]
    assert users("eth-with-a-name") == ["the kernel receives the frames of the interface eth-with-a-name (fcoe_rcv)"]
    assert users("can1", "eth9", "ip_rcv") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes packet sockets")
def test_a_packet_socket_is_no_receiver_inside_the_kernel() -> None:
    """Packet sockets have a table of their own, and count there."""
    try:
        receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    except OSError:
        pytest.skip("this kernel has no packet sockets")
    with receiver:
        receiver.bind(("lo", 3))
        assert re.search("^ALL  lo +t?packet_rcv", Path("/proc/net/ptype").read_text(), re.MULTILINE)
        assert [*frame_users(["lo"], [])] == []


@pytest.mark.parametrize(("attached", "xdp"), [(0, False), (1, True), (2, True), (4, True)])
def test_xdp_program_in_a_message_of_rtnetlink(attached: int, xdp: bool) -> None:
    """IFLA_XDP holds IFLA_XDP_ATTACHED, a byte of enum XDP_ATTACHED_*."""
    inner = struct.pack("=HHB3x", 5, 2, attached)
    name = struct.pack("=HH8s", 12, 3, b"eth4\0")
    body = struct.pack("=BxHiII", 0, 1, 5, 0x1003, 0) + name + struct.pack("=HH", 4 + len(inner), 43 | 0x8000) + inner
    found = parse_link(body)
    assert (found.name, found.index, found.kind, found.flags, found.xdp) == ("eth4", 5, 1, 0x1003, xdp)


def test_node_of_a_driver_without_entries_in_sysfs(tmp_path: Path) -> None:
    write(
        tmp_path / "0000:65:00.0/information",
        "Model: \t\t NVIDIA A2\nIRQ:   \t\t 65\nDevice Minor: \t 3\nGPU Excluded:\t No",
    )
    assert nvidia_minor("0000:65:00.0", tmp_path) == 3
    assert nvidia_minor("0000:66:00.0", tmp_path) is None


@pytest.mark.parametrize(("port", "console"), [("(null)", True), ("org.qemu.guest_agent.0", False)])
def test_console_of_virtio(tmp_path: Path, device: Path, port: str, console: bool) -> None:
    link(device / "virtio1/driver", tmp_path / "bus/virtio/drivers/virtio_console")
    write(device / "virtio1/virtio-ports/vport1p0/name", port)
    assert display._has_virtio_console(device) == console
    assert not display._has_virtio_console(device.parent)
