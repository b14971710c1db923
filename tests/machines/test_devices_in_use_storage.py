# SPDX-License-Identifier: MIT
"""Block devices that the kernel builds on a disk use it, with or without a claim, and in any mount namespace."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py import pci
from iommufd_py.lab.machine import NVME_DEVICE
from iommufd_py.pci import UseKind
from tests.machines.conftest import refused, shell, texts

NVMET = Path("/sys/kernel/config/nvmet")


@pytest.fixture(autouse=True)
def disk() -> Iterator[Path]:
    """The disk of the lab's NVMe controller, unused before and after each test. Its number changes with each bind."""
    (found,) = Path(f"/sys/bus/pci/devices/{NVME_DEVICE}/nvme").glob("nvme*/nvme*n*")
    node = Path("/dev", found.name)
    assert node.is_block_device()
    assert texts(NVME_DEVICE) == []
    yield node
    shell(f"dd if=/dev/zero of={node} bs=1M count=2 conv=fsync status=none; udevadm settle")
    assert texts(NVME_DEVICE) == []


@contextlib.contextmanager
def mapped(disk: Path, name: str, uuid: str = "") -> Iterator[Path]:
    options = f"--uuid {uuid}" if uuid else ""
    shell(f"dmsetup create {name} {options} --table '0 8192 linear {disk} 0'")
    try:
        # not /dev/mapper/NAME, which may be a node or a link to one
        yield Path("/dev", shell(f"dmsetup info --columns --noheadings -o blkdevname {name}").strip())
    finally:
        shell(f"udevadm settle; dmsetup remove --retry {name}")


def test_device_mapper(disk: Path) -> None:
    with mapped(disk, "plain") as node:
        refused(NVME_DEVICE, rf"{node} \(plain, device mapper\) is built on {disk}")


@pytest.mark.parametrize(
    ("uuid", "kind"), [("LVM-abcdef", "lvm"), ("CRYPT-LUKS2-abcdef-x", "crypt"), ("mpath-3600", "mpath")]
)
def test_kind_of_the_mapping_is_named(uuid: str, kind: str, disk: Path) -> None:
    with mapped(disk, "vg-root", uuid) as node:
        refused(NVME_DEVICE, rf"{node} \(vg-root, {kind}\) is built on {disk}")


def test_mount_of_a_mapping(tmp_path: Path, disk: Path) -> None:
    with mapped(disk, "below") as node:
        shell(f"mkfs.ext2 -q {node} && mount {node} {tmp_path}")
        refused(NVME_DEVICE, f"{node}, over {disk}, is mounted on {tmp_path}")
        shell(f"umount {tmp_path}")


def test_raid(disk: Path) -> None:
    Path("/sys/module/md_mod/parameters/new_array").write_text("md9")
    array = Path("/sys/block/md9/md")
    (array / "metadata_version").write_text("none")
    (array / "level").write_text("raid1")
    (array / "raid_disks").write_text("1")
    (array / "new_dev").write_text(Path(f"/sys/class/block/{disk.name}/dev").read_text())
    (array / "component_size").write_text("4096")
    (array / f"dev-{disk.name}/slot").write_text("0")
    (array / "array_state").write_text("active")
    try:
        refused(NVME_DEVICE, rf"/dev/md9 \(raid1\) is built on {disk}")
    finally:
        shell("udevadm settle")
        (array / "array_state").write_text("clear")


@pytest.fixture
def loop(disk: Path) -> Iterator[Path]:
    """A loop device on the disk. It has no entry in holders and no claim."""
    node = Path(shell(f"losetup --find --show {disk}").strip())
    yield node
    shell(f"udevadm settle; losetup --detach {node}")
    # The kernel releases it after the last opener, such as udev, closes it.
    for _ in range(100):
        if not Path(f"/sys/block/{node.name}/loop").exists():
            break
        time.sleep(0.05)


def test_loop_device(loop: Path, disk: Path) -> None:
    assert not list(Path(f"/sys/class/block/{disk.name}/holders").iterdir())
    refused(NVME_DEVICE, rf"{loop} \(loop device\) is built on {disk}")


def test_mount_of_a_loop_device(loop: Path, tmp_path: Path, disk: Path) -> None:
    shell(f"mkfs.ext2 -q -F {loop} && mount {loop} {tmp_path}")
    (tmp_path / "file").write_text("precious")
    refused(NVME_DEVICE, f"{loop}, over {disk}, is mounted on {tmp_path}")
    assert (tmp_path / "file").read_text() == "precious"
    shell(f"umount {tmp_path}")


def test_mapping_over_a_loop_device_over_the_disk(loop: Path) -> None:
    shell(f"dmsetup create top --table '0 8192 linear {loop} 0'")
    try:
        refused(NVME_DEVICE, rf"\(top, device mapper\) is built on {loop}")
    finally:
        shell("udevadm settle; dmsetup remove --retry top")


def test_loop_device_over_a_node_of_another_name(tmp_path: Path, disk: Path) -> None:
    number = Path(f"/sys/class/block/{disk.name}/dev").read_text().strip().replace(":", " ")
    shell(f"mknod {tmp_path}/other b {number}")
    node = shell(f"losetup --find --show {tmp_path}/other").strip()
    try:
        refused(NVME_DEVICE, rf"{node} \(loop device\) is built on {disk}")
    finally:
        shell(f"udevadm settle; losetup --detach {node}")
        time.sleep(0.5)


def test_swap_on_a_mapping(disk: Path) -> None:
    with mapped(disk, "swap") as node:
        shell(f"mkswap {node} && swapon {node}")
        refused(NVME_DEVICE, f"{node}, over {disk}, is swap space")
        shell(f"swapoff {node}")


def test_nvme_target(disk: Path) -> None:
    shell("mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config")
    namespace = NVMET / "subsystems/exported/namespaces/1"
    namespace.mkdir(parents=True)
    try:
        (namespace / "device_path").write_text(str(disk))
        (namespace / "enable").write_text("1")
        refused(NVME_DEVICE, f"{disk} is exported by namespace 1 of the NVMe target exported")
        (namespace / "enable").write_text("0")
    finally:
        namespace.rmdir()
        namespace.parents[1].rmdir()


def test_nvme_target_that_passes_the_controller_through() -> None:
    shell("mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config")
    subsystem = NVMET / "subsystems/whole"
    subsystem.mkdir(parents=True)
    controller = next(Path(f"/sys/bus/pci/devices/{NVME_DEVICE}/nvme").iterdir()).name
    try:
        (subsystem / "passthru/device_path").write_text(f"/dev/{controller}")
        (subsystem / "passthru/enable").write_text("1")
        refused(NVME_DEVICE, "the NVMe target whole exports its whole controller")
        (subsystem / "passthru/enable").write_text("0")
    finally:
        subsystem.rmdir()


def test_mount_of_another_mount_namespace(tmp_path: Path, disk: Path) -> None:
    shell(f"mkfs.ext2 -q {disk}")
    command = f"mount {disk} {tmp_path} && echo mounted && read line"
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "mounted\n"
        place = rf"in the mount namespace of sh \(process {other.pid}\)"
        refused(NVME_DEVICE, f"{disk} is mounted on {tmp_path} {place}")
        other.communicate("\n")


def test_node_that_another_namespace_opened_and_passed_on(disk: Path, tmp_path: Path) -> None:
    """libvirt opens a device in its own mount namespace, and QEMU holds the descriptor in another one."""
    number = Path(f"/sys/class/block/{disk.name}/dev").read_text().strip().replace(":", " ")
    command = f"mount -t tmpfs none {tmp_path} && mknod {tmp_path}/node b {number} && exec sleep 100 < {tmp_path}/node"
    with subprocess.Popen(["unshare", "-m", "sh", "-c", command]) as other:
        try:
            while Path(f"/proc/{other.pid}/comm").read_text() != "sleep\n":
                time.sleep(0.02)
            refused(NVME_DEVICE, rf"sleep \(process {other.pid}\) has {disk} open")
        finally:
            other.kill()


def test_kind_of_use(disk: Path) -> None:
    with mapped(disk, "kind"):
        assert [one.kind for one in pci.uses(NVME_DEVICE)] == [UseKind.STORAGE]
