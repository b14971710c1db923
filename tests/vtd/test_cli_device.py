# SPDX-License-Identifier: MIT
"""Taking devices and giving them back, as a user does: devices in use are refused, and no device is lost."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iommufd_py import DeviceError, pci
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from iommufd_py.pci import UseKind, state
from iommufd_py.pci.users.openers import openers
from tests.conftest import IN_LAB
from tests.programs import IOMMUFD
from tests.vtd.test_cli_info import validated
from tests.waiting import patience, wait_until

pytestmark = pytest.mark.skipif(not IN_LAB, reason="takes the lab's devices; run it in the lab")

Cli = Callable[..., subprocess.CompletedProcess[str]]
DISK = Path("/dev/nvme0n1")
SPARE = TEST_DEVICES[1]
MARK = b"written before the device was taken"


def shell(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=patience(60), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def driver(bdf: str = NVME_DEVICE) -> str:
    return pci.pci_device(bdf).driver


def kinds(bdf: str = NVME_DEVICE) -> list[UseKind]:
    return [use.kind for use in pci.uses(bdf)]


def mark() -> bytes:
    with DISK.open("rb") as disk:
        return disk.read(len(MARK))


def held_by_vfio() -> bool:
    return any("/dev/vfio/" in use.text for use in openers(NVME_DEVICE))


def wait_for_disk() -> None:
    wait_until(DISK.is_block_device)


@pytest.fixture(autouse=True)
def _everything_is_as_it_was(all_given_back: None) -> Iterator[None]:
    wait_for_disk()
    DISK.write_bytes(MARK)
    before = pci.list_devices()
    yield
    left = pci.remembered()
    for bdf in left:  # Otherwise every test after a failed one would fail too.
        pci.restore(bdf)
    assert left == ()
    assert pci.list_devices() == before
    wait_for_disk()
    shell(f"blockdev --flushbufs {DISK}")
    assert driver() == "nvme"


@contextlib.contextmanager
def mounted(tmp_path: Path) -> Iterator[Path]:
    shell(f"mkfs.ext2 -q {DISK} && mount {DISK} {tmp_path}")
    try:
        yield tmp_path
    finally:
        shell(f"umount {tmp_path}")


def test_unused_disk_can_be_taken_and_works_afterwards(cli: Cli) -> None:
    assert pci.uses(NVME_DEVICE) == ()
    assert cli("device", "bind", NVME_DEVICE).returncode == 0
    assert driver() == "vfio-pci"
    assert Path("/dev/vfio/devices", pci.pci_device(NVME_DEVICE).cdev).exists()
    done = cli("device", "restore", NVME_DEVICE)
    assert "is bound to nvme" in done.stderr
    wait_for_disk()
    assert mark() == MARK


def test_mounted_disk_is_refused_and_says_where(cli: Cli, tmp_path: Path) -> None:
    with mounted(tmp_path):
        done = cli("device", "bind", NVME_DEVICE)
        assert done.returncode == 1
        assert f"{NVME_DEVICE} is in use: {DISK} is mounted on {tmp_path}" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert cli("device", "bind", "--dry-run", NVME_DEVICE).returncode == 1
        assert cli("device", "unbind", NVME_DEVICE).returncode == 1
        assert driver() == "nvme"
        with pytest.raises(DeviceError, match="is mounted on"), pci.vfio_bound(NVME_DEVICE):
            raise AssertionError
    assert pci.uses(NVME_DEVICE) == ()


def test_mount_of_another_namespace_is_refused(tmp_path: Path) -> None:
    shell(f"mkfs.ext2 -q {DISK}")
    command = f"mount {DISK} {tmp_path} && echo mounted && read line"
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "mounted\n"
        (use,) = pci.uses(NVME_DEVICE)
        assert use.kind is UseKind.FILE_SYSTEM
        assert use.text == f"{DISK} is mounted on {tmp_path} in the mount namespace of sh (process {other.pid})"
        other.communicate("\n")


def test_swap_is_refused() -> None:
    shell(f"mkswap {DISK} && swapon {DISK}")
    try:
        assert kinds() == [UseKind.SWAP]
        with pytest.raises(DeviceError, match=f"{DISK} is swap space"):
            pci.bind_vfio(NVME_DEVICE)
    finally:
        shell(f"swapoff {DISK}")


def test_a_device_that_a_process_has_open_is_refused(cli: Cli) -> None:
    with subprocess.Popen(["sleep", "100"], stdin=DISK.open("rb")) as other:
        try:
            (use,) = pci.uses(NVME_DEVICE)
            assert (use.kind, use.text) == (UseKind.PROCESS, f"sleep (process {other.pid}) has {DISK} open")
        finally:
            other.kill()
    assert pci.uses(NVME_DEVICE) == ()


def test_force_takes_the_device_and_prints_its_uses(cli: Cli) -> None:
    with subprocess.Popen(["sleep", "100"], stdin=DISK.open("rb")) as other:
        try:
            done = cli("device", "bind", "--force", NVME_DEVICE)
            assert done.returncode == 0
            assert f"{NVME_DEVICE}: taken although sleep (process {other.pid}) has {DISK} open" in done.stderr
            assert driver() == "vfio-pci"
        finally:
            other.kill()
    pci.restore(NVME_DEVICE)


def test_root_file_system_of_the_guest_is_refused(cli: Cli) -> None:
    (root,) = [one.bdf for one in pci.list_devices() if any("mounted on / " in f"{u.text} " for u in pci.uses(one.bdf))]
    done = cli("device", "bind", root)
    assert done.returncode == 1
    assert "is mounted on /, " in done.stderr or "is mounted on /;" in done.stderr


def test_dry_run_says_the_steps_and_changes_nothing(cli: Cli) -> None:
    done = cli("device", "bind", "--dry-run", NVME_DEVICE)
    assert done.stdout.splitlines() == [
        f"echo vfio-pci > /sys/bus/pci/devices/{NVME_DEVICE}/driver_override",
        f"echo {NVME_DEVICE} > /sys/bus/pci/drivers/nvme/unbind",
        f"echo {NVME_DEVICE} > /sys/bus/pci/drivers_probe",
    ]
    assert driver() == "nvme"
    # The printed writes are exactly those that are done.
    shell(done.stdout.replace("\n", ";"))
    assert driver() == "vfio-pci"
    for text, attribute in (
        ("", f"devices/{NVME_DEVICE}/driver_override"),
        (NVME_DEVICE, "drivers/vfio-pci/unbind"),
        (NVME_DEVICE, "drivers/nvme/bind"),
    ):
        shell(f"echo '{text}' > /sys/bus/pci/{attribute}")


def test_a_device_that_is_open_through_vfio_is_not_taken(cli: Cli) -> None:
    pci.bind_vfio(SPARE)
    node = Path("/dev/vfio/devices", pci.pci_device(SPARE).cdev)
    with subprocess.Popen(["sleep", "100"], stdin=node.open("rb")) as other:
        try:
            for command in (("restore", SPARE), ("restore", "--all"), ("unbind", "--force", SPARE)):
                done = cli("device", *command)
                assert done.returncode == 1, command
                assert f"{SPARE} is open through VFIO: sleep (process {other.pid}) has {node} open" in done.stderr
            assert driver(SPARE) == "vfio-pci"
        finally:
            other.kill()
    assert cli("device", "restore", "--all").returncode == 0


def test_unbind_then_bind_still_knows_the_first_driver() -> None:
    pci.unbind(NVME_DEVICE)
    assert driver() == ""
    pci.bind_vfio(NVME_DEVICE)
    pci.unbind(NVME_DEVICE)
    before = state.recall(NVME_DEVICE)
    assert before is not None
    assert (before.driver, before.driver_override, before.override_set) == ("nvme", "", "vfio-pci")
    pci.restore(NVME_DEVICE)
    assert driver() == "nvme"


def test_old_override_comes_back() -> None:
    override = Path(f"/sys/bus/pci/devices/{SPARE}/driver_override")
    override.write_text("somebody\n")
    try:
        with pci.vfio_bound(SPARE):
            assert override.read_text() == "vfio-pci\n"
        assert override.read_text() == "somebody\n"
    finally:
        override.write_text("\n")


def test_group_is_bound_whole_without_its_bridges(cli: Cli) -> None:
    member = "0000:00:1f.2"
    group = pci.pci_device(member).iommu_group
    done = cli("device", "bind", "--group", "--json", "00:1f.2")
    document = validated(done, "iommufd-device-change-1")
    assert {one["bdf"] for one in document["devices"]} == {member, "0000:00:1f.3"}
    assert {one["driver"] for one in document["devices"]} == {"vfio-pci"}
    assert driver("0000:00:1f.0") == ""  # the LPC bridge
    assert pci.iommu_group(group).in_the_way == {}
    document = validated(cli("device", "restore", "--all", "--json"), "iommufd-device-change-1")
    assert {one["driver"] for one in document["devices"]} == {""}


def test_one_that_cannot_be_taken_leaves_the_others_alone(cli: Cli, tmp_path: Path) -> None:
    with mounted(tmp_path):
        assert cli("device", "bind", SPARE, NVME_DEVICE).returncode == 1
        assert driver(SPARE) == ""
        pci.bind_vfio(SPARE)
        done = cli("device", "unbind", SPARE, NVME_DEVICE)
        assert done.returncode == 1
        assert f"{NVME_DEVICE} is in use" in done.stderr
        assert driver(SPARE) == "vfio-pci"
        pci.restore(SPARE)
    assert driver(SPARE) == ""


def test_cdev_that_does_not_come(tmp_path: Path) -> None:
    with pci.vfio_bound(TEST_DEVICES[0]):  # /dev/vfio/devices exists if a device has a cdev
        shell("mount -t tmpfs none /dev/vfio/devices")
        try:
            with pytest.raises(DeviceError, match=r"/dev/vfio/devices/vfio\d+ did not appear within 0.3 s"):
                pci.bind_vfio(SPARE, cdev_seconds=0.3)
        finally:
            shell("umount /dev/vfio/devices")
    assert driver(SPARE) == ""


class TestKilled:
    """Nothing can catch SIGKILL: a later process gives devices back, at whatever point the first one was killed."""

    def plan(self) -> tuple[pci.SysfsWrite, ...]:
        return pci.plan_bind(NVME_DEVICE)

    @pytest.mark.parametrize("done", range(4))
    def test_bind_after_any_step(self, done: int) -> None:
        steps = self.plan()
        assert len(steps) == 3
        state.remember(NVME_DEVICE, state.Remembered("nvme", ""))
        for step in steps[:done]:
            step.apply()
        pci.restore(NVME_DEVICE)
        assert driver() == "nvme"

    @pytest.mark.parametrize("done", range(4))
    def test_restore_after_any_step(self, done: int) -> None:
        pci.bind_vfio(NVME_DEVICE)
        steps = pci.plan_restore(NVME_DEVICE, state.Remembered("nvme", ""))
        assert len(steps) == 3
        for step in steps[:done]:
            step.apply()
        pci.restore(NVME_DEVICE)
        assert driver() == "nvme"

    def test_half_written_memory_is_none(self) -> None:
        Path("/run/iommufd-py").mkdir(exist_ok=True)
        unfinished = Path("/run/iommufd-py", f"{NVME_DEVICE}.new")
        unfinished.write_text('{"driver": "nv')
        assert NVME_DEVICE not in pci.remembered()
        with pci.vfio_bound(NVME_DEVICE):
            pass
        assert not unfinished.exists()

    @pytest.mark.parametrize("command", ["bind", "unbind", "restore"])
    def test_process_killed_while_it_changes_something(self, cli: Cli, command: str) -> None:
        """Kill the process at its first change of sysfs, and right after it."""
        if command == "restore":
            pci.bind_vfio(NVME_DEVICE)
        before = driver()
        with subprocess.Popen([IOMMUFD, "device", command, NVME_DEVICE], stderr=subprocess.DEVNULL) as process:
            while self.sysfs_driver() == before:
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        if NVME_DEVICE in pci.remembered():  # The process had not finished.
            assert cli("device", "restore", NVME_DEVICE).returncode == 0
        assert driver() == "nvme"
        wait_for_disk()
        assert mark() == MARK

    @pytest.mark.parametrize(
        "command",
        [
            ("map", "--size", "64K", "--hold"),
            ("shell", "PROGRAM"),
            ("dma", "check", "--storm", "100000"),
            ("bench", "run", "--size", "64K", "--values", "1000000"),
            ("validate",),
        ],
        ids=lambda command: command[0],
    )
    def test_process_killed_while_it_holds_the_device(self, cli: Cli, command: tuple[str, ...], tmp_path: Path) -> None:
        errors, program = tmp_path / "stderr", tmp_path / "PROGRAM"
        program.write_text("import time\ntime.sleep(3600)\n")
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                [IOMMUFD, *command, "--device", NVME_DEVICE, "--bind"],
                cwd=tmp_path,
                stdin=subprocess.PIPE,  # The command holds the device and never ends.
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            wait_until(lambda: process.poll() is not None or held_by_vfio())
            assert process.poll() is None, errors.read_text()
        finally:
            process.kill()
            process.communicate()
        assert driver() == "vfio-pci"
        done = cli("device", "restore", "--all")
        assert done.returncode == 0, done.stderr
        assert driver() == "nvme"
        wait_for_disk()
        assert mark() == MARK

    def sysfs_driver(self) -> str:
        # Faster than through udev: the moment is short.
        link = f"/sys/bus/pci/devices/{NVME_DEVICE}/driver"
        try:
            return os.path.basename(os.readlink(link))
        except FileNotFoundError:
            return ""


def test_json_of_list_and_show_is_as_described(cli: Cli) -> None:
    document = validated(cli("device", "list", "--json"), "iommufd-devices-1")
    assert {one["bdf"] for one in document["devices"]} == {one.bdf for one in pci.list_devices()}
    with pci.vfio_bound(SPARE):
        document = validated(cli("device", "show", SPARE, "--json"), "iommufd-device-1")
    taken_from = document["taken_from"]
    assert (taken_from["driver"], taken_from["driver_override"], taken_from["pid"]) == ("", "", os.getpid())
    assert document["group"]["viable"] is True


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--driver", "nvme", [NVME_DEVICE]),
        ("--id", "1234:11e8", list(TEST_DEVICES)),
        ("--class", "0108", [NVME_DEVICE]),
        ("--iommu", "dmar7", []),
    ],
)
def test_filters(cli: Cli, option: str, value: str, expected: list[str]) -> None:
    done = cli("device", "list", option, value)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == expected
