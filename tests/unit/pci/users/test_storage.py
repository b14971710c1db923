# SPDX-License-Identifier: MIT
"""Layers of block devices: which of them somebody uses."""

from iommufd_py.pci.users.mounts import Mount
from iommufd_py.pci.users.storage import Disk, judge_disks

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
