# SPDX-License-Identifier: MIT
"""A device is taken by one process at a time: its record, its lock, and the reasons to refuse it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iommufd_py import DeviceError, pci
from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from iommufd_py.pci import lending, state
from tests.conftest import IN_LAB
from tests.programs import IOMMUFD
from tests.vtd.pci_drivers import SPARE, driver, in_shell, override
from tests.vtd.test_cli_info import validated
from tests.waiting import patience

pytestmark = [
    pytest.mark.skipif(not IN_LAB, reason="takes the lab's devices; run it in the lab"),
    pytest.mark.usefixtures("as_it_was"),
]

Cli = Callable[..., subprocess.CompletedProcess[str]]
RUN = Path("/run/iommufd-py")


def test_taken_says_what_is_held_by_whom_and_since_when(cli: Cli) -> None:
    assert validated(cli("device", "taken", "--json"), "iommufd-devices-taken-1")["devices"] == []
    start = time.time()
    pci.bind_vfio(NVME_DEVICE)
    (document,) = validated(cli("device", "taken", "--json"), "iommufd-devices-taken-1")["devices"]
    assert (document["bdf"], document["driver"], document["problem"]) == (NVME_DEVICE, "vfio-pci", "")
    assert (document["from"]["driver"], document["from"]["pid"], document["from"]["user"]) == (
        "nvme",
        os.getpid(),
        "root",
    )
    assert start - 1 <= document["from"]["since"] <= time.time()
    _, line = cli("device", "taken").stdout.splitlines()
    assert line.split()[:3] == [NVME_DEVICE, "vfio-pci", "nvme"]
    assert f"(process {os.getpid()})" in line


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"driver": 5, "driver_override": ""}', "[" * 100_000, "\xff"]
)
def test_damaged_record_stops_nothing_else_and_says_the_way_out(cli: Cli, content: str) -> None:
    pci.bind_vfio(NVME_DEVICE)
    pci.bind_vfio(SPARE)
    record = state.record_file(NVME_DEVICE)
    record.write_bytes(content.encode("latin-1"))
    shown = cli("device", "show", NVME_DEVICE)
    assert shown.returncode == 0
    assert "is damaged" in shown.stdout
    assert cli("device", "taken").returncode == 0
    done = cli("device", "restore", "--all")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert driver(SPARE) == ""
    assert f"the record of {NVME_DEVICE} is damaged" in done.stderr
    by_hand = re.search(r'with "(.*?)", then remove the record with \'(.*?)\'', done.stderr)
    assert by_hand is not None
    assert in_shell(f"{by_hand[1]}; {by_hand[2]}").returncode == 0
    assert (driver(), override()) == ("nvme", "")
    assert pci.remembered() == ()


def test_record_whose_driver_is_not_loaded_stops_nothing_else(cli: Cli) -> None:
    pci.bind_vfio(SPARE)
    pci.unbind(NVME_DEVICE)
    before = json.loads(state.record_file(NVME_DEVICE).read_text())
    state.record_file(NVME_DEVICE).write_text(json.dumps(before | {"driver": "no_such_driver"}))
    done = cli("device", "restore", "--all")
    assert done.returncode == 1
    assert "its driver no_such_driver is not loaded: 'modprobe no_such_driver' first" in done.stderr
    assert driver(SPARE) == ""
    state.record_file(NVME_DEVICE).write_text(json.dumps(before))


def test_strict_umask_hides_nothing(cli: Cli, nobody: list[str]) -> None:
    in_shell(f"rm -rf {RUN}")
    assert in_shell(f"umask 077; {IOMMUFD} device bind {SPARE}").returncode == 0
    assert (RUN.stat().st_mode & 0o777, state.record_file(SPARE).stat().st_mode & 0o777) == (0o755, 0o644)
    shown = subprocess.run([*nobody, IOMMUFD, "device", "show", SPARE], capture_output=True, text=True, check=False)
    assert "taken from:" in shown.stdout
    for command in (["restore", SPARE], ["restore", "--all"]):
        done = subprocess.run([*nobody, IOMMUFD, "device", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 1, command
        assert "run as root, or with sudo" in done.stderr
    assert driver(SPARE) == "vfio-pci"


def test_directory_that_may_not_be_read_is_not_an_empty_one(cli: Cli, nobody: list[str]) -> None:
    pci.bind_vfio(SPARE)
    RUN.chmod(0o700)
    try:
        for command in (["restore", "--all"], ["restore", SPARE], ["taken"]):
            done = subprocess.run([*nobody, IOMMUFD, "device", *command], capture_output=True, text=True, check=False)
            assert done.returncode == 1, command
            assert "run as root, or with sudo" in done.stderr, command
            assert "Traceback" not in done.stderr
        shown = subprocess.run([*nobody, IOMMUFD, "device", "show", SPARE], capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stderr
        assert "there is no permission to read" in shown.stdout
    finally:
        RUN.chmod(0o755)


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_directory_that_others_can_write_is_not_trusted(cli: Cli, mode: int) -> None:
    RUN.mkdir(exist_ok=True)
    RUN.chmod(mode)
    try:
        done = cli("device", "bind", SPARE)
        assert done.returncode == 1
        assert f"{RUN} is not trusted, because others can change it" in done.stderr
        remedy = re.search(r"\('(.*?)'\)", done.stderr)
        assert remedy is not None
        assert in_shell(remedy[1]).returncode == 0
        assert cli("device", "bind", SPARE).returncode == 0
    finally:
        RUN.chmod(0o755)


def test_full_run(cli: Cli) -> None:
    in_shell(f"mkdir -p {RUN}; mount -t tmpfs -o size=4k,mode=755 none {RUN}; head -c 4096 /dev/zero > {RUN}/filler")
    try:
        done = cli("device", "bind", SPARE)
        assert done.returncode == 1
        assert f"No space left on device ({state.record_file(SPARE)})" in done.stderr
        assert "sysfs" not in done.stderr
        assert "kernel log" not in done.stderr
        assert not list(RUN.glob("*.new"))
        assert driver(SPARE) == ""
        (RUN / "filler").unlink()
        assert cli("device", "bind", SPARE).returncode == 0
        assert cli("device", "restore", SPARE).returncode == 0
    finally:
        in_shell(f"umount {RUN}")


def test_run_that_cannot_be_written(cli: Cli) -> None:
    in_shell(f"mkdir -p {RUN}; mount -t tmpfs -o ro,mode=755 none {RUN}")
    try:
        done = cli("device", "bind", SPARE)
        assert done.returncode == 1
        assert f"Read-only file system ({RUN}" in done.stderr
    finally:
        in_shell(f"umount {RUN}")


HOLDS = """
import sys
from iommufd_py import pci
with pci.vfio_bound(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(bdf: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, bdf], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        try:
            yield other
        finally:
            other.communicate()


def test_one_process_at_a_time(cli: Cli) -> None:
    with holder(NVME_DEVICE) as other:
        for command in (("bind", NVME_DEVICE), ("unbind", NVME_DEVICE), ("restore", NVME_DEVICE), ("restore", "--all")):
            done = cli("device", *command)
            assert done.returncode == 1, command
            assert re.search(rf"{NVME_DEVICE} is held by \S+ \(process {other.pid}\)", done.stderr), command
        with pytest.raises(DeviceError, match=rf"is held by .* \(process {other.pid}\)"), pci.vfio_bound(NVME_DEVICE):
            raise AssertionError
        assert driver() == "vfio-pci"
    assert driver() == "nvme"


def test_lock_goes_with_the_process(cli: Cli) -> None:
    with holder(NVME_DEVICE) as other:
        other.kill()
    assert cli("device", "restore", NVME_DEVICE).returncode == 0
    assert driver() == "nvme"


def test_command_that_the_holder_starts_may_use_the_device(cli: Cli) -> None:
    with pci.vfio_bound(SPARE):
        done = cli("map", "--device", SPARE, "--bind", "--size", "4K")
        assert done.returncode == 0, done.stderr
        assert driver(SPARE) == "vfio-pci"
    assert driver(SPARE) == ""


def test_two_processes_never_have_one_device() -> None:
    """Four processes try to take one device. Only one at a time gets it, and its driver has it at the end."""
    program = """
import os, sys, time
from iommufd_py import DeviceError, pci
for _ in range(5):
    try:
        with pci.vfio_bound(sys.argv[1]):
            try:
                open("/run/alone", "x").close()
            except FileExistsError:
                print("not alone")
            time.sleep(0.05)
            os.unlink("/run/alone")
    except DeviceError as refused:
        assert "is held by" in str(refused), refused
"""
    many = [
        subprocess.Popen(
            [sys.executable, "-c", program, SPARE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for one in many:
        output, errors = one.communicate(timeout=patience(200))
        assert (output, errors) == ("", "")
    assert driver(SPARE) == ""


def test_lock_is_known_by_its_holder() -> None:
    with lending.device_lock(SPARE):
        inode = (RUN / f"{SPARE}.lock").stat().st_ino
        assert lending.parse_holder(Path("/proc/locks").read_text(), inode) == os.getpid()
    assert lending.parse_holder(Path("/proc/locks").read_text(), inode) == 0


def test_device_that_does_not_answer(cli: Cli, tmp_path: Path) -> None:
    ones = tmp_path / "config"
    ones.write_bytes(b"\xff" * 256)
    config = PCI_DEVICES / SPARE / "config"
    in_shell(f"mount --bind {ones} {config}")
    try:
        done = cli("device", "bind", SPARE)
        assert done.returncode == 1
        assert "does not answer: its configuration space reads as ones" in done.stderr
        assert "bridge" not in done.stderr
    finally:
        in_shell(f"umount {config}")


def test_region_that_the_firmware_wants_mapped_one_to_one(cli: Cli, tmp_path: Path) -> None:
    regions = tmp_path / "regions"
    regions.write_text("0x00000000fee00000 0x00000000feefffff msi\n0x00000000feffc000 0x00000000feffcfff direct\n")
    group = pci.pci_device(SPARE).iommu_group
    target = f"/sys/kernel/iommu_groups/{group}/reserved_regions"
    in_shell(f"mount --bind {regions} {target}")
    try:
        shown = cli("device", "show", SPARE)
        assert re.search(r"viable: +no: the firmware reserves 0xfeffc000-0xfeffcfff for it 1:1", shown.stdout)
        assert "the firmware reserves" in cli("device", "bind", SPARE).stderr
    finally:
        in_shell(f"umount {target}")


def test_address_as_other_tools_print_it(cli: Cli) -> None:
    done = cli("device", "show", f"0000{SPARE}")
    assert done.returncode == 0, done.stderr
    assert f"{SPARE} 1234:11e8" in done.stdout


def test_node_that_does_not_come_says_that_the_device_is_back_and_the_remedy(cli: Cli) -> None:
    with pci.vfio_bound(TEST_DEVICES[0]):
        in_shell("mount -t tmpfs -o ro none /dev/vfio/devices")
        try:
            done = cli("device", "bind", SPARE)
        finally:
            in_shell("umount /dev/vfio/devices")
    assert done.returncode == 1
    assert "so it was given back: this /dev gets no new nodes (a container?)" in done.stderr
    assert driver(SPARE) == ""
