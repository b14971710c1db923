# SPDX-License-Identifier: MIT
"""A remedy that the tool prints is followed on devices of the lab, and the same command or call then succeeds."""

import json
import re
import resource
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iommufd_py import DeviceError, DmaBuffer, Iommufd, IommufdError, VfioDevice, open_container, pci
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from iommufd_py.uapi.enums import IrqIndex
from tests.conftest import IN_LAB
from tests.following import Change, Cli, end_with, follow, found_in, give, leave_out, message_of
from tests.programs import IOMMUFD
from tests.vtd.pci_drivers import DISK, SPARE, driver, in_shell

pytestmark = [
    pytest.mark.skipif(not IN_LAB, reason="takes the lab's devices; run it in the lab"),
    pytest.mark.usefixtures("as_it_was"),
]

PAGE = 4096
RUN = f"bench run --no-retry --processes 1 --values 2 --device {SPARE}"


@pytest.mark.parametrize(
    ("bdf", "remedy"),
    [
        (SPARE, r"is bound to no driver instead of vfio-pci: 'iommufd (device bind \S+)' binds it"),
        (NVME_DEVICE, r"is bound to nvme instead of vfio-pci: 'iommufd (device bind \S+)' takes it from that driver"),
    ],
)
def test_device_that_is_not_on_vfio_pci(cli: Cli, bdf: str, remedy: str) -> None:
    words = ("map", "--device", bdf, "--size", "4K")
    bind = found_in(cli(*words), remedy)[1]
    assert cli(*bind.split()).returncode == 0
    assert cli(*words).returncode == 0


@pytest.mark.parametrize(
    ("command", "remedy", "change"),
    [
        ("map --bind --size 4K --device mock", r"--bind needs .*: give its address with (--device)$", give(SPARE)),
        (
            "bench run --bind --no-retry --dma --size 4K --processes 1 --values 2 --device mock",
            r"the mock driver has no DMA: name a device with (--device)$",
            give(NVME_DEVICE),
        ),
        (
            "bench trace --device mock --size 4K --threads 2",
            r"only one thread on an iommufd can be traced: leave (--threads) and --backend out$",
            leave_out,
        ),
        ("fleet tags --device 0000:ff:1f.7", "'iommufd device list' shows the IOMMU of each$", end_with(SPARE)),
    ],
)
def test_options_of_a_device(cli: Cli, command: str, remedy: str, change: Change) -> None:
    follow(cli, command.split(), remedy, change)


def test_second_device(cli: Cli) -> None:
    """The scenario is then judged, whatever the verdict about this kernel is."""

    def judged(*more: str) -> dict[str, str]:
        words = ("validate", "--json", "--bind", "--only", "container-with-two-devices", "--device", TEST_DEVICES[0])
        (scenario,) = json.loads(cli(*words, *more).stdout)["scenarios"]
        return scenario

    found = re.search(r"needs a second device: give its address with (--second-device)$", judged()["reason"])
    assert found is not None
    assert judged(found[1], SPARE)["outcome"] in ("kept", "violated")


@contextmanager
def holder(*command: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that prints a line when it holds the device, and ends with its input."""
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([IOMMUFD, *command], **pipes) as process:
        assert process.stderr is not None and "mapped" in process.stderr.readline()
        try:
            yield process
        finally:
            process.communicate()


def test_disk_that_is_open(cli: Cli) -> None:
    """End the use, or take the device anyway."""
    words = ("device", "bind", NVME_DEVICE)
    with subprocess.Popen(["sleep", "1000"], stdin=DISK.open("rb")) as user:
        try:
            remedy = r"sleep \(process (\d+)\) has .*; end this use first, or take the device anyway: iommufd (.*)$"
            found = found_in(cli(*words), remedy)
            assert int(found[1]) == user.pid
            assert cli(*found[2].split()).returncode == 0
            assert driver() == "vfio-pci"
            pci.restore(NVME_DEVICE)
        finally:
            user.kill()
    assert cli(*words).returncode == 0


def test_device_that_another_process_holds(cli: Cli) -> None:
    words = ("device", "bind", SPARE)
    with holder("map", "--hold", "--bind", "--size", "4K", "--device", SPARE) as other:
        found = found_in(cli(*words), r"is held by .* \(process (\d+)\): end that process, or wait for its end$")
        assert int(found[1]) == other.pid
        other.terminate()
    assert cli(*words).returncode == 0


def test_device_that_another_process_has_open(cli: Cli) -> None:
    """Through its node and through its group. The command names the process."""
    pci.bind_vfio(SPARE)
    words = ("map", "--size", "4K", "--device", SPARE)
    with holder(*words, "--hold") as other:
        command = found_in(cli(*words), r"is bound already \('(fuser -v .*?)' shows the process; end it first\)")[1]
        assert str(other.pid) in in_shell(command).stdout.split()
        with pytest.raises(DeviceError) as refused:
            open_container("vfio_type1v2", SPARE)
        found = re.search(r"group \d+ is in use: .* \((fuser -v .*)\); close that first$", str(refused.value))
        assert found is not None, refused.value
        assert str(other.pid) in in_shell(found[1]).stdout.split()
    assert cli(*words).returncode == 0
    open_container("vfio_type1v2", SPARE).close()


def test_too_many_mappings(cli: Cli) -> None:
    limit = Path("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit")
    before = limit.read_text()
    limit.write_text("8")
    try:
        words = [*RUN.split(), "--bind", "--size", "64K", "--chunk", "4K", "--backend", "vfio_type1v2"]
        remedy = r"ENOSPC: the container has no mapping left: unmap something, or raise dma_entry_limit \((\S+)\)$"
        assert in_shell(f"echo 65535 > {found_in(cli(*words), remedy)[1]}").returncode == 0
        assert cli(*words).returncode == 0
    finally:
        limit.write_text(before)


def test_mapping_in_a_range_of_the_device() -> None:
    pci.bind_vfio(SPARE)
    with Iommufd() as iommufd, VfioDevice(iommufd, SPARE) as device, DmaBuffer(PAGE) as buffer:
        ioas = iommufd.alloc_ioas()
        mapping = ioas.map(buffer, 0xFEE00000)
        with pytest.raises(IommufdError, match=r"reserves or cannot reach; unmap it first"):
            device.attach(ioas)
        mapping.close()
        device.attach(ioas)


def test_interrupts_that_cannot_be_enabled() -> None:
    _, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pci.vfio_bound(NVME_DEVICE), Iommufd() as iommufd, VfioDevice(iommufd, NVME_DEVICE) as device:
        count = device.irq_info(IrqIndex.MSIX).count
        resource.setrlimit(resource.RLIMIT_NOFILE, (device.fileno() + 8, hard))
        try:
            remedy = r"; ask for fewer, or raise RLIMIT_NOFILE \(ulimit -n\), which is \d+$"
            with pytest.raises(DeviceError, match=remedy):
                device.enable_irqs(IrqIndex.MSIX, count)
            device.enable_irqs(IrqIndex.MSIX, 1).close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        with device.enable_irqs(IrqIndex.MSIX, count):
            with pytest.raises(DeviceError, match=r"are enabled already; close those first$"):
                device.enable_irqs(IrqIndex.MSIX, 1)
            with pytest.raises(IommufdError, match=r"another index is enabled: disable that one first$"):
                device.enable_irqs(IrqIndex.INTX, 1)
        device.enable_irqs(IrqIndex.MSIX, 1).close()
        device.enable_irqs(IrqIndex.INTX, 1).close()


def test_devices_without_new_nodes() -> None:
    """A container can have such a /dev. The mounts are those of a mount namespace of its own."""
    bind = shlex.join([IOMMUFD, "device", "bind", SPARE])

    def in_container(*steps: str) -> subprocess.CompletedProcess[str]:
        nodes = "mkdir -p /dev/vfio/devices && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9"
        script = " && ".join(("mount -t tmpfs none /dev", nodes, *steps))
        return in_shell(f"unshare -m sh -c {shlex.quote(script)}")

    remedy = found_in(in_container(bind), r"this /dev gets no new nodes .*, or run: (mount .*)$")[1]
    after = in_container(remedy, bind)
    assert after.returncode == 0, message_of(after)
    assert driver(SPARE) == "vfio-pci"
