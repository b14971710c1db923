# SPDX-License-Identifier: MIT
"""Layers of block devices: which of them somebody uses."""

from pathlib import Path

from iommufd_py.pci.users.mounts import Mount
from iommufd_py.pci.users.storage import Disk, claimant_of, fibre_channel_controllers, judge_disks
from tests.unit.pci.users.sysfs_tree import link, write_line

BASE, LOOP, MAPPING = Disk("sda"), Disk("loop0", "/dev/sda", "loop device"), Disk("dm-0", "/dev/loop0", "root, lvm")
DISKS = {"8:0": BASE, "7:0": LOOP, "253:0": MAPPING}


def judged(**facts: object) -> list[str]:
    given: dict = {"disks": DISKS, "mounts": [], "numbers": {}, "swaps": {}, "unclaimed": []} | facts
    return [use.text for use in judge_disks(**given)[1]]


def test_layers_that_nothing_else_explains() -> None:
    assert judged() == ["/dev/dm-0 (root, lvm) is built on /dev/loop0"]
    assert judged(disks={"8:0": BASE, "7:0": LOOP}) == ["/dev/loop0 (loop device) is built on /dev/sda"]


def test_use_of_the_top_explains_all_below() -> None:
    mount = Mount("253:0", "/dev/dm-0", "/srv", "ext4")
    assert judged(mounts=[mount]) == ["/dev/dm-0, over /dev/loop0, is mounted on /srv"]
    assert judged(swaps={"/dev/dm-0": "253:0"}) == ["/dev/dm-0, over /dev/loop0, is swap space"]
    explained, _ = judge_disks(DISKS, [mount], {}, {}, [])
    assert explained == {BASE, LOOP, MAPPING}


def test_one_mount_in_many_namespaces_is_said_once() -> None:
    ours = Mount("8:0", "/dev/sda", "/srv", "ext4")
    theirs = Mount("8:0", "/dev/sda", "/srv", "ext4", "77", " in the mount namespace of sh (process 5)")
    assert judged(disks={"8:0": BASE}, mounts=[ours, theirs]) == ["/dev/sda is mounted on /srv"]


def test_mount_whose_number_is_not_that_of_its_disk() -> None:
    btrfs = Mount("0:42", "/dev/sda", "/srv", "btrfs")
    assert judged(disks={"8:0": BASE}, mounts=[btrfs], numbers={"/dev/sda": "8:0"}) == ["/dev/sda is mounted on /srv"]


def test_export_is_a_use() -> None:
    found = judged(disks={"8:0": BASE}, unclaimed=[("8:0", "is exported by the RNBD server"), ("", "another")])
    assert found == ["/dev/sda is exported by the RNBD server"]


def test_nvme_disks_behind_a_fibre_channel_adapter(tmp_path: Path, device: Path) -> None:
    """Their controllers are virtual devices of sysfs, not below the adapter."""
    nvme, hosts = tmp_path / "class/nvme", tmp_path / "class/fc_host"
    host = device / "host3/fc_host/host3"
    write_line(host / "port_name", "0x100000109b1c0f2a")
    link(hosts / "host3", host)
    fabric = tmp_path / "devices/virtual/nvme-fabrics/ctl"
    for name, transport, port in (
        ("nvme0", "fc", "0x100000109B1C0F2A"),
        ("nvme1", "fc", "0x100000109b1c0f2b"),
        ("nvme2", "tcp", "0x100000109b1c0f2a"),
    ):
        write_line(fabric / name / "transport", transport)
        address = f"traddr=nn-0x20000002ac006ea0:pn-0x21000002ac006ea0,host_traddr=nn-0x200000109b1c0f2a:pn-{port}"
        write_line(fabric / name / "address", address)
        link(nvme / name, fabric / name)
    assert fibre_channel_controllers(device, nvme, hosts) == (fabric / "nvme0",)
    assert fibre_channel_controllers(device.parent / "0000:00:04.0", nvme, hosts) == ()


def test_names_of_claims(tmp_path: Path) -> None:
    """No mount and no layer shows these users; the disk has only an exclusive claim."""
    file_systems, journals, block = tmp_path / "fs", tmp_path / "jbd2", tmp_path / "block"
    (file_systems / "ext4/sda1").mkdir(parents=True)
    link(file_systems / "btrfs/4f1c/devices/sdb", block / "sdb")
    (journals / "sdc").mkdir(parents=True)
    (block / "sdd/bcache").mkdir(parents=True)
    write_line(block / "zram0/backing_dev", "none")
    write_line(block / "zram1/backing_dev", "/dev/sde")
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
