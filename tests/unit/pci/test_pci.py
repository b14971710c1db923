# SPDX-License-Identifier: MIT
"""Parsers of the kernel's tables of users and of pci.ids. Tests in the lab cover the rest of the room."""

from pathlib import Path

import pytest

from iommufd_py.host import iommu_options
from iommufd_py.host.features import parse_character_devices
from iommufd_py.pci.advice import iommu_remedy
from iommufd_py.pci.groups import IommuGroup, parse_reserved_regions
from iommufd_py.pci.lending import parse_holder
from iommufd_py.pci.mounts import Mount, parse_mounts, parse_swaps
from iommufd_py.pci.names import parse_pci_ids
from iommufd_py.pci.namespaces import ForeignLink, Link, links
from iommufd_py.pci.netlink import rtnetlink
from iommufd_py.pci.network import (
    judge_foreign_links,
    parse_packet_sockets,
)
from iommufd_py.pci.openers import parse_local_file_systems
from iommufd_py.pci.state import Remembered, parse_record
from iommufd_py.pci.storage import Disk, judge_disks


def test_mounts_with_blanks_and_optional_fields() -> None:
    mounts = parse_mounts(
        "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n"
        "35 22 0:42 / /mnt/a\\040b rw - 9p share0 rw,trans=virtio\n"
    )
    assert [(one.number, one.source, one.target, one.type) for one in mounts] == [
        ("259:2", "/dev/nvme0n1p2", "/", "ext4"),
        ("0:42", "share0", "/mnt/a b", "9p"),
    ]


def test_swaps() -> None:
    text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/nvme0n1p3    partition\t65532\t\t0\t\t-2\n"
    assert parse_swaps(text) == ("/dev/nvme0n1p3",)
    assert parse_swaps(text.splitlines()[0]) == ()


def test_reserved_regions() -> None:
    (rmrr, msi) = parse_reserved_regions(
        "0x000000007b800000 0x000000007fffffff direct-relaxable\n0x00000000fee00000 0x00000000feefffff msi\n"
    )
    assert (rmrr.range.start, rmrr.range.last, rmrr.type) == (0x7B800000, 0x7FFFFFFF, "direct-relaxable")
    assert msi.type == "msi"


@pytest.mark.parametrize("driver", ["", "vfio-pci", "mlx5_vfio_pci", "pcieport", "pci-stub"])
def test_drivers_that_leave_dma_alone_are_not_in_the_way(driver: str) -> None:
    group = IommuGroup(3, "DMA", {"0000:01:00.0": driver, "0000:01:00.1": "snd_hda_intel"}, ())
    assert group.in_the_way == {"0000:01:00.1": "snd_hda_intel"}


def test_pci_ids() -> None:
    names = parse_pci_ids(
        [
            "# a comment\n",
            "\n",
            "1234  Technical Corp.\n",
            "\t11e8  QEMU edu\n",
            "\t\t1af4 1100  a subsystem\n",
            "1af4  Red Hat, Inc.\n",
            "C 01  Mass storage controller\n",
            "\t08  Non-Volatile memory controller\n",
            "\t\t02  NVM Express\n",
        ]
    )
    assert names.of_device("1234", "11e8") == "Technical Corp. QEMU edu"
    assert names.of_device("1af4", "1000") == "Red Hat, Inc."
    assert names.of_device("ffff", "0000") == ""
    assert names.of_class("010802") == "Non-Volatile memory controller"
    assert names.of_class("010400") == "Mass storage controller"


def test_character_devices_and_not_block_devices() -> None:
    text = "Character devices:\n  1 mem\n237 vfio-dev\n\nBlock devices:\n259 vfio\n"
    assert parse_character_devices(text) == {"mem", "vfio-dev"}


def test_options_of_the_command_line() -> None:
    line = "ro quiet intel_iommu=on,sm_on iommu.strict=1 vfio-pci.ids=1:2 vfio_iommu_type1.dma_entry_limit=9 x=iommu="
    assert iommu_options(line) == tuple(line.split()[2:-1])


BASE, LOOP, MAPPING = Disk("sda"), Disk("loop0", "/dev/sda", "loop device"), Disk("dm-0", "/dev/loop0", "root, lvm")
DISKS = {"8:0": BASE, "7:0": LOOP, "253:0": MAPPING}


def judged(**facts: object) -> list[str]:
    given: dict = {"disks": DISKS, "mounts": [], "numbers": {}, "swaps": {}, "exported": []} | facts
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
    found = judged(disks={"8:0": BASE}, exported=[("8:0", "namespace 1 of the NVMe target x"), ("", "another")])
    assert found == ["/dev/sda is exported by namespace 1 of the NVMe target x"]


def test_packet_sockets_bound_to_an_interface() -> None:
    text = (
        "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"
        "0000000000000000 3      3    0003   2     1 0      0      1234\n"
        "0000000000000000 3      3    0003   0     1 0      0      1235\n"
    )
    assert parse_packet_sockets(text) == {2}
    assert parse_packet_sockets("") == frozenset()


def test_local_file_systems() -> None:
    found = parse_local_file_systems("nodev\tsysfs\nnodev\tnfs4\n\text4\nnodev\tfuse\n\tfuseblk\nnodev\t9p\n")
    assert {"ext4", "devtmpfs", "tmpfs"} <= found
    assert not {"nfs4", "fuse", "fuseblk", "9p"} & found


def test_interfaces_of_this_namespace_by_rtnetlink() -> None:
    with rtnetlink() as asking:
        found = {one.name for one in links(asking)}
    assert "lo" in found


def test_foreign_links(tmp_path: Path) -> None:
    above = ForeignLink(Link("inside", 3, "", 7, 0), "c1", lower_is_ours=True)
    elsewhere = ForeignLink(Link("inside", 3, "", 7, None), "c1", lower_is_ours=False)
    assert list(judge_foreign_links([elsewhere], tmp_path, {7: "eth0"}, elsewhere=False)) == []
    assert list(judge_foreign_links([above], tmp_path, {8: "eth0"}, elsewhere=False)) == []
    assert list(judge_foreign_links([above], tmp_path, {7: "eth0"}, elsewhere=False)) == [
        "the interface inside in the network namespace c1 is built on its interface eth0"
    ]
    assert list(judge_foreign_links([elsewhere], tmp_path, {}, elsewhere=True)) == [
        "its interface is in another network namespace"
    ]


def test_holder_of_a_lock() -> None:
    locks = (
        "1: POSIX  ADVISORY  WRITE 11 00:19:1234 0 EOF\n"
        "2: FLOCK  ADVISORY  WRITE 22 00:19:1234 0 EOF\n"
        "2: -> FLOCK  ADVISORY  WRITE 33 00:19:1234 0 EOF\n"
        "3: FLOCK  ADVISORY  WRITE -1 00:19:99 0 EOF\n"
    )
    assert parse_holder(locks, 1234) == 22
    assert parse_holder(locks, 99) == 0
    assert parse_holder(locks, 1) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        "{}",
        '{"driver": "nvme"}',
        '{"driver": null, "driver_override": ""}',
        '{"driver": "../x", "driver_override": ""}',
        '{"driver": "..", "driver_override": ""}',
        '{"driver": "a\\u0000b", "driver_override": ""}',
        '{"driver": "a\\nb", "driver_override": ""}',
        '{"driver": "nvme", "driver_override": "", "since": "now"}',
        '{"driver": "nvme", "driver_override": "", "since": NaN}',
        '{"driver": "nvme", "driver_override": "", "since": 1e300}',
        '{"driver": "nvme", "driver_override": "", "since": -1}',
        '{"driver": "nvme", "driver_override": "", "pid": true}',
        '{"driver": "nvme", "driver_override": "", "pid": -5}',
        '{"driver": " ", "driver_override": ""}',
        "[" * 100_000,
    ],
)
def test_record_that_is_damaged(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_record(text)


def test_record_of_an_older_version() -> None:
    before = parse_record('{"driver": "nvme", "driver_override": ""}')
    assert before == Remembered("nvme", "", "vfio-pci", 0)
    assert (before.pid, before.since) == (0, 0.0)


CPUS = {
    "intel": "vendor_id\t: GenuineIntel\nflags\t\t: fpu vme\n",
    "amd": "vendor_id\t: AuthenticAMD\nflags\t\t: fpu vme\n",
    "intel guest": "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor vme\n",
    "amd guest": "vendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor\n",
    "other": "processor\t: 0\n",
}


def test_advice_depends_on_the_cpu() -> None:
    """There is no amd_iommu=on: for parse_amd_iommu_options() it is an unknown option."""
    advice = {name: iommu_remedy(text, ()) for name, text in CPUS.items()}
    assert "intel_iommu=on" in advice["intel"]
    assert "intel_iommu" not in advice["amd"]
    assert "without amd_iommu=off" in advice["amd"]
    assert not any("amd_iommu=on" in text for text in advice.values())
    assert "hypervisor" in advice["intel guest"]
    assert "intel_iommu" not in advice["amd guest"]


def test_advice_depends_on_what_the_firmware_reports() -> None:
    """A virtual VT-d can be in front of a CPU of any vendor."""
    assert "intel_iommu=on" in iommu_remedy(CPUS["amd guest"], ("APIC", "DMAR"))
    assert "amd_iommu=off" in iommu_remedy(CPUS["amd guest"], ("IVRS",))
    assert "intel" not in iommu_remedy(CPUS["amd"], ("IVRS",))
