# SPDX-License-Identifier: MIT
"""A device goes back to its former driver, even if other tools change it before, after or in between."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import pci
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from tests.conftest import IN_LAB
from tests.vtd.pci_drivers import DISK, SPARE, driver, in_shell, override, write
from tests.vtd.test_cli_info import validated
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(not IN_LAB, reason="takes the lab's devices; run it in the lab"),
    pytest.mark.usefixtures("as_it_was"),
]

Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_a_forked_process_that_leaves_the_block_gives_nothing_back() -> None:
    child = -1
    try:
        with pci.vfio_bound(NVME_DEVICE):
            child = os.fork()
            if not child:
                raise SystemExit
            os.waitpid(child, 0)
            assert driver() == "vfio-pci"
    finally:
        if not child:
            os._exit(0)
    assert driver() == "nvme"


def test_device_that_dpdk_devbind_bound_is_restored(cli: Cli) -> None:
    """dpdk-devbind sets the override, binds, and clears the override again."""
    write("drivers/nvme/unbind", NVME_DEVICE)
    write(f"devices/{NVME_DEVICE}/driver_override", "vfio-pci")
    write("drivers/vfio-pci/bind", NVME_DEVICE)
    write(f"devices/{NVME_DEVICE}/driver_override", "")
    assert cli("device", "unbind", NVME_DEVICE).returncode == 0
    assert driver() == ""
    done = cli("device", "restore", NVME_DEVICE)
    assert done.returncode == 0, done.stderr
    assert (driver(), override()) == ("vfio-pci", "")
    assert pci.remembered() == ()


def test_device_bound_by_new_id_is_restored(cli: Cli) -> None:
    """The id is removed while we hold the device, so its driver no longer lists it."""
    ids = pci.pci_device(SPARE).ids.replace(":", " ")
    write("drivers/vfio-pci/new_id", ids)
    try:
        wait_until(lambda: driver(SPARE) == "vfio-pci")
        pci.unbind(SPARE)
    finally:
        write("drivers/vfio-pci/remove_id", ids)
    assert cli("device", "restore", SPARE).returncode == 0
    assert (driver(SPARE), override(SPARE)) == ("vfio-pci", "")
    write("drivers/vfio-pci/unbind", SPARE)
    if driver(TEST_DEVICES[0]) == "vfio-pci":  # With new_id the driver takes every function of that id.
        write("drivers/vfio-pci/unbind", TEST_DEVICES[0])


def test_override_that_another_tool_set_afterwards_stays(cli: Cli) -> None:
    """'driverctl set-override BDF nvme' does this."""
    pci.bind_vfio(NVME_DEVICE)
    write("drivers/vfio-pci/unbind", NVME_DEVICE)
    write(f"devices/{NVME_DEVICE}/driver_override", "nvme")
    write("drivers_probe", NVME_DEVICE)
    shown = cli("device", "show", NVME_DEVICE).stdout
    assert "; another tool has given it to nvme since, and 'iommufd device restore' removes the record" in shown
    done = cli("device", "restore", "--all")
    assert done.returncode == 0, done.stderr
    assert (driver(), override()) == ("nvme", "nvme")
    assert pci.remembered() == ()
    assert "taken from" not in cli("device", "show", NVME_DEVICE).stdout


def test_override_of_another_tool_decides_although_it_did_not_bind() -> None:
    pci.bind_vfio(NVME_DEVICE)
    write(f"devices/{NVME_DEVICE}/driver_override", "nvme")
    pci.restore(NVME_DEVICE)
    assert (driver(), override()) == ("nvme", "nvme")


def test_override_that_another_tool_set_before_comes_back(cli: Cli) -> None:
    write(f"devices/{NVME_DEVICE}/driver_override", "nvme")
    pci.bind_vfio(NVME_DEVICE)
    assert override() == "vfio-pci"
    assert cli("device", "restore", NVME_DEVICE).returncode == 0
    assert (driver(), override()) == ("nvme", "nvme")


def test_device_that_another_tool_put_to_use_is_not_pulled_away(cli: Cli) -> None:
    """The device had no driver when we took it. 'driverctl unset-override' gave it a driver, and then it became
    swap."""
    write("drivers/nvme/unbind", NVME_DEVICE)
    pci.bind_vfio(NVME_DEVICE)
    write("drivers/vfio-pci/unbind", NVME_DEVICE)
    write(f"devices/{NVME_DEVICE}/driver_override", "")
    write("drivers_probe", NVME_DEVICE)
    wait_until(DISK.is_block_device)
    assert in_shell(f"mkswap {DISK} && swapon {DISK}").returncode == 0
    try:
        for command in (("bind", NVME_DEVICE), ("unbind", NVME_DEVICE), ("restore", NVME_DEVICE), ("restore", "--all")):
            done = cli("device", *command)
            assert done.returncode == 1, command
            assert f"{NVME_DEVICE} is in use: {DISK} is swap space" in done.stderr, command
        assert driver() == "nvme"
        assert str(DISK) in Path("/proc/swaps").read_text()
    finally:
        in_shell(f"swapoff {DISK}")
    assert cli("device", "restore", NVME_DEVICE).returncode == 0
    assert driver() == ""


def test_device_that_another_tool_bound_to_vfio(cli: Cli) -> None:
    write(f"devices/{NVME_DEVICE}/driver_override", "vfio-pci")
    write("drivers/nvme/unbind", NVME_DEVICE)
    write("drivers_probe", NVME_DEVICE)
    done = cli("device", "bind", NVME_DEVICE)
    assert done.returncode == 0
    assert "is on vfio-pci already: another tool put it there, so 'restore' will not give it back" in done.stderr
    done = cli("device", "restore", NVME_DEVICE)
    assert done.returncode == 1
    # The remedy in the message works.
    remedy = re.search(r'or "(.*)" does', done.stderr)
    assert remedy is not None
    assert in_shell(remedy[1]).returncode == 0
    assert (driver(), override()) == ("nvme", "")


def test_device_that_is_plugged_in_again(cli: Cli) -> None:
    pci.bind_vfio(NVME_DEVICE)
    write(f"devices/{NVME_DEVICE}/remove", "1")
    (document,) = validated(cli("device", "taken", "--json"), "iommufd-devices-taken-1")["devices"]
    assert document["driver"] is None
    write("rescan", "1")
    wait_until(DISK.is_block_device)
    done = cli("device", "restore", NVME_DEVICE)
    assert done.returncode == 0, done.stderr
    assert "was plugged in again after it was taken" in done.stderr
    assert (driver(), override()) == ("nvme", "")
    assert pci.remembered() == ()


def test_device_that_is_plugged_in_again_while_it_is_held() -> None:
    with pci.vfio_bound(NVME_DEVICE):
        write(f"devices/{NVME_DEVICE}/remove", "1")
        write("rescan", "1")
        wait_until(DISK.is_block_device)
    assert (driver(), override()) == ("nvme", "")
    assert pci.remembered() == ()
