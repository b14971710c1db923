# SPDX-License-Identifier: MIT
"""Users of a device that hold no node of it open, in trees of sysfs as the kernel makes them."""

import struct
from pathlib import Path

import pytest

from iommufd_py.pci import display
from iommufd_py.pci.memory import memory_uses, parse_resources
from iommufd_py.pci.namespaces import Link, parse_link
from iommufd_py.pci.openers import nvidia_minor
from iommufd_py.pci.parts import part_uses
from iommufd_py.pci.traffic import frame_users

IOMEM = """00000000-00000fff : Reserved
00100000-7fffffff : System RAM
  01000000-020031d0 : Kernel code
100000000-17fffffff : virtio3
  100000000-107ffffff : System RAM (virtio_mem)
180000000-1ffffffff : virtio4
890000000-a8fffffff : CXL Window 0
  890000000-a8fffffff : region0
    890000000-a8fffffff : dax0.0
      890000000-a8fffffff : System RAM (kmem)
"""


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


def link(place: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "devices/pci0000:00/0000:00:03.0"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("commit", "driver", "said"), [("1", "kmem", ", as system memory"), ("1", "", ""), ("0", "", None)]
)
def test_memory_region_of_cxl(tmp_path: Path, device: Path, commit: str, driver: str, said: str | None) -> None:
    """See Documentation/ABI/testing/sysfs-bus-cxl: a decoder is below its endpoint, whose uport is a memory device."""
    cxl, real = tmp_path / "bus/cxl/devices", tmp_path / "devices/platform/ACPI0017:00/root0"
    memdev, other = device / "mem0", device.parent / "0000:00:04.0/mem1"
    for number, below in ((3, memdev), (4, other)):
        endpoint = real / f"port1/endpoint{number}"
        link(endpoint / "uport", below)
        link(cxl / f"decoder{number}.0", endpoint / f"decoder{number}.0")
    region = real / "decoder0.0/region0"
    write(region / "commit", commit)
    write(region / "target0", "decoder3.0")
    write(region / "target1", "")
    if driver:
        link(region / "dax_region0/dax0.0/driver", tmp_path / "bus/dax/drivers" / driver)
    link(cxl / "region0", region)
    found = [use.text for use in memory_uses(device, cxl, tmp_path / "no-iomem")]
    assert found == ([] if said is None else [f"the memory region region0 is on it{said}"])
    assert [*memory_uses(other.parent, cxl, tmp_path / "no-iomem")] == []


def test_memory_of_virtio(tmp_path: Path, device: Path) -> None:
    iomem = tmp_path / "iomem"
    iomem.write_text(IOMEM)
    link(device / "virtio3/driver", tmp_path / "bus/virtio/drivers/virtio_mem")
    assert [use.text for use in memory_uses(device, tmp_path, iomem)] == ["memory of virtio3 is system memory"]
    other = device.parent / "0000:00:04.0"
    link(other / "virtio4/driver", tmp_path / "bus/virtio/drivers/virtio_mem")
    assert [*memory_uses(other, tmp_path, iomem)] == []


def test_resources_in_resources() -> None:
    found = parse_resources(IOMEM)
    assert found["virtio3"] == ("System RAM (virtio_mem)",)
    assert found["virtio4"] == found["Reserved"] == ()
    assert found["CXL Window 0"] == ("region0", "dax0.0", "System RAM (kmem)")


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
        write(below / "watchdog" / name / "state", state)
        link(watchdogs / name, below / "watchdog" / name)
    text = "its watchdog watchdog0 is running, and would reset this machine"
    assert [use.text for use in part_uses(device, watchdogs)] == [text]


def test_users_of_a_work_queue(tmp_path: Path, device: Path) -> None:
    write(device / "iax1/wq1.0/clients", "0")
    assert [*part_uses(device, tmp_path)] == []
    write(device / "iax1/wq1.1/clients", "2")
    assert [use.text for use in part_uses(device, tmp_path)] == ["its work queue wq1.1 has users"]


def test_users_of_frames(tmp_path: Path) -> None:
    block, netconsole, pppoe = tmp_path / "block", tmp_path / "netconsole", tmp_path / "pppoe"
    write(block / "etherd!e1.1/netif", "eth1,eth2")
    write(block / "etherd!e2.1/netif", "none")
    write(netconsole / "far/dev_name", "eth1")
    write(netconsole / "far/enabled", "1")
    write(netconsole / "off/dev_name", "eth2")
    write(netconsole / "off/enabled", "0")
    write(pppoe, "Id       Address              Device\n00000100 52:54:00:12:34:56     eth3")
    links = [
        Link("eth1", 2, "", 0, None, 1, 1),
        Link("eth4", 5, "", 0, None, 1, 1, xdp=True),
        Link("can0", 6, "", 0, None, 280, 1),
        Link("can1", 7, "", 0, None, 280, 0),
    ]

    def users(*names: str) -> list[str]:
        return list(frame_users(names, links, block, netconsole, pppoe))

    assert users("eth1") == [
        "the disk etherd/e1.1 is reached through the interface eth1",
        "the kernel sends its log through the interface eth1 (netconsole far)",
    ]
    assert users("eth2") == ["the disk etherd/e1.1 is reached through the interface eth2"]
    assert users("eth3") == ["a PPP over Ethernet session runs over the interface eth3"]
    assert users("eth4") == ["an XDP program is attached to the interface eth4"]
    assert users("can0") == ["the CAN interface can0 is up"]
    assert users("can1", "eth9") == []


@pytest.mark.parametrize(("attached", "xdp"), [(0, False), (1, True), (2, True), (4, True)])
def test_xdp_program_in_a_message_of_rtnetlink(attached: int, xdp: bool) -> None:
    """IFLA_XDP holds IFLA_XDP_ATTACHED, a byte of enum XDP_ATTACHED_*."""
    inner = struct.pack("=HHB3x", 5, 2, attached)
    name = struct.pack("=HH8s", 12, 3, b"eth4\0")
    body = struct.pack("=BxHiII", 0, 1, 5, 0x1003, 0) + name + struct.pack("=HH", 4 + len(inner), 43 | 0x8000) + inner
    found = parse_link(body)
    assert (found.name, found.index, found.kind, found.flags, found.xdp) == ("eth4", 5, 1, 0x1003, xdp)


def test_node_of_a_driver_without_entries_in_sysfs(tmp_path: Path) -> None:
    write(
        tmp_path / "0000:65:00.0/information",
        "Model: \t\t NVIDIA A2\nIRQ:   \t\t 65\nDevice Minor: \t 3\nGPU Excluded:\t No",
    )
    assert nvidia_minor("0000:65:00.0", tmp_path) == 3
    assert nvidia_minor("0000:66:00.0", tmp_path) is None


@pytest.mark.parametrize(("port", "console"), [("(null)", True), ("org.qemu.guest_agent.0", False)])
def test_console_of_virtio(tmp_path: Path, device: Path, port: str, console: bool) -> None:
    link(device / "virtio1/driver", tmp_path / "bus/virtio/drivers/virtio_console")
    write(device / "virtio1/virtio-ports/vport1p0/name", port)
    assert display._has_virtio_console(device) == console
    assert not display._has_virtio_console(device.parent)
