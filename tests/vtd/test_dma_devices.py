# SPDX-License-Identifier: MIT
"""DMA with several devices, and with an NVMe controller that has a driver, on the lab's devices."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import DeviceError, DmaBuffer, IoasContainer, pci
from iommufd_py.dma import open_engine
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from tests.conftest import IN_LAB
from tests.vtd.dma import await_fault_log, ioas_harness
from tests.vtd.test_cli_info import validated
from tests.waiting import wait_until

PAGE = 4096
# A job with one more device on the lab's machine names it in IOMMUFD_BDF.
OTHERS = [one for one in (TEST_DEVICES[1], NVME_DEVICE, os.environ.get("IOMMUFD_BDF")) if one]

pytestmark = pytest.mark.skipif(
    not IN_LAB, reason="takes devices of the lab: 'iommufd lab run -- pytest tests/vtd' does that"
)


@pytest.mark.parametrize("other", OTHERS)
def test_two_devices_in_two_domains(other: str) -> None:
    """At the same IOVA, each device reaches only the memory of its own domain."""
    with (
        pci.vfio_bound(TEST_DEVICES[0]),
        pci.vfio_bound(other),
        ioas_harness(TEST_DEVICES[0]) as one,
        ioas_harness(other) as two,
    ):
        iova = one.place(PAGE)
        with one.window(PAGE, iova) as mine, two.window(PAGE, iova) as theirs:
            content = one.write(iova + 0x100, 0x200)
            theirs.expect()
            other_content = two.write(iova + 0x600, 0x200)
            mine.expect(iova + 0x100, content)
            theirs.expect(iova + 0x600, other_content)
        # A device does not reach memory that only the other domain maps.
        await_fault_log()
        two.faults()
        with one.window(PAGE, iova) as mine:
            two.try_write(iova, 0x100)
            mine.expect()
            assert {fault.bdf for fault in two.faults(expected=True)} == {other}


def test_two_devices_in_one_container() -> None:
    first, second = TEST_DEVICES
    with pci.vfio_bound(first), pci.vfio_bound(second), IoasContainer(first) as container:
        one = open_engine(container.device, container)
        two = open_engine(container.open_device(second), container, iova=one.memory.iova - PAGE)
        with DmaBuffer(PAGE) as buffer, container.map(buffer, 0x10_0000):
            contents = one.write(0x10_0000, 0x100) + two.write(0x10_0100, 0x100)
            with buffer.view as view:
                assert view[:0x200] == contents


def namespace_of(address: str) -> Path:
    def look() -> Path | None:
        for found in Path("/sys/block").glob("nvme*n1"):
            if address in str(found.resolve()) and Path("/dev", found.name).exists():
                return Path("/dev", found.name)
        return None

    return wait_until(look)


def test_a_controller_in_use_is_refused(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    disk = str(namespace_of(NVME_DEVICE))
    subprocess.run(["mkswap", disk], check=True, capture_output=True)
    subprocess.run(["swapon", disk], check=True)
    try:
        with pytest.raises(DeviceError, match="is swap space"):
            pci.bind_vfio(NVME_DEVICE)
        done = cli("dma", "check", "--device", NVME_DEVICE, "--bind")
        assert done.returncode == 1
        assert "is swap space" in done.stderr
    finally:
        subprocess.run(["swapoff", disk], check=True)


def test_the_command_leaves_a_controller_on_its_driver_and_its_data_alone(
    cli: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    disk = namespace_of(NVME_DEVICE)
    pattern = os.urandom(1 << 16)
    disk.write_bytes(pattern)
    os.sync()
    await_fault_log()
    done = cli("dma", "check", "--device", NVME_DEVICE, "--bind", "--json", "--seed", "1", "--storm", "50")
    document = validated(done, "iommufd-dma-check-1")
    assert {one["verdict"] for one in document["cases"]} <= {"pass", "skip"}
    stopped = {one["name"]: one["faults"] for one in document["cases"] if one["faults"]}
    assert {"unmapped write", "read only", "after unmap"} <= stopped.keys()
    assert pci.pci_device(NVME_DEVICE).driver == "nvme"
    with namespace_of(NVME_DEVICE).open("rb") as again:
        assert again.read(len(pattern)) == pattern


def test_a_device_that_nothing_drives_is_skipped(cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    bridge = next(one.bdf for one in pci.list_devices() if one.class_code.startswith("06"))
    done = cli("dma", "check", "--device", bridge, "--bind")
    assert done.returncode == 4
    assert "there is no DMA engine for" in done.stderr
