# SPDX-License-Identifier: MIT
"""Users of parts of a device that nobody holds open, in trees of sysfs as the kernel makes them."""

from pathlib import Path

import pytest

from iommufd_py.pci.users.parts import consumer_uses, part_uses
from tests.unit.pci.users.sysfs_tree import link, write_line


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
        write_line(below / "watchdog" / name / "state", state)
        link(watchdogs / name, below / "watchdog" / name)
    text = "its watchdog watchdog0 is running, and would reset this machine"
    assert [use.text for use in part_uses(device, watchdogs)] == [text]


def test_users_of_a_work_queue(tmp_path: Path, device: Path) -> None:
    write_line(device / "iax1/wq1.0/clients", "0")
    assert [*part_uses(device, tmp_path)] == []
    write_line(device / "iax1/wq1.1/clients", "2")
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
        write_line(below / "dma" / name / "in_use", users)
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
        write_line(links / name / "status", status)
        write_line(links / name / "sync_state_only", state_only)
    assert [use.text for use in consumer_uses(device, links)] == [
        f"the device {name} depends on it, and would lose its driver with it" for name in ("0000:00:04.0", "sensor")
    ]


@pytest.mark.parametrize(("authorized", "used"), [("1", True), ("2", True), ("0", False)])
def test_device_on_a_thunderbolt_port(device: Path, authorized: str, used: bool) -> None:
    write_line(device / "domain0/0-0/authorized", "1")
    write_line(device / "domain0/0-0/0-1/authorized", authorized)
    write_line(device / "domain0/0-0/0-1/device_name", "Dock TBT4")
    found = [use.text for use in part_uses(device)]
    assert found == (["Dock TBT4 is connected by Thunderbolt through it (0-1)"] if used else [])
