# SPDX-License-Identifier: MIT
"""Memory of this machine that a device provides, in trees of sysfs as the kernel makes them."""

from pathlib import Path

import pytest

from iommufd_py.pci.users.memory import memory_uses, parse_resources
from tests.unit.pci.users.sysfs_tree import link, write_line


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
    write_line(region / "commit", commit)
    write_line(region / "target0", "decoder3.0")
    write_line(region / "target1", "")
    if driver:
        link(region / "dax_region0/dax0.0/driver", tmp_path / "bus/dax/drivers" / driver)
    link(cxl / "region0", region)
    found = [use.text for use in memory_uses(device, cxl, tmp_path / "no-iomem")]
    assert found == ([] if said is None else [f"the memory region region0 is on it{said}"])
    assert [*memory_uses(other.parent, cxl, tmp_path / "no-iomem")] == []


@pytest.mark.parametrize(("committed", "region", "said"), [("1", False, True), ("0", False, False), ("1", True, False)])
def test_cxl_memory_that_the_firmware_gave_to_the_machine(
    tmp_path: Path, device: Path, committed: str, region: bool, said: bool
) -> None:
    """Documentation/ABI/testing/sysfs-bus-cxl: decoders_committed may be elevated "without any regionX objects"."""
    cxl, real = tmp_path / "bus/cxl/devices", tmp_path / "devices/platform/ACPI0017:00/root0"
    for number, below in ((3, device / "mem0"), (4, device.parent / "0000:00:04.0/mem1")):
        endpoint = real / f"port1/endpoint{number}"
        link(endpoint / "uport", below)
        write_line(endpoint / "decoders_committed", committed if number == 3 else "0")
        link(cxl / endpoint.name, endpoint)
    if region:
        link(cxl / "decoder3.0", real / "port1/endpoint3/decoder3.0")
        write_line(cxl / "region0/commit", "1")
        write_line(cxl / "region0/target0", "decoder3.0")
    text = "its memory is mapped into this machine (CXL)"
    found = [use.text for use in memory_uses(device, cxl, tmp_path / "no-iomem")]
    assert found == ["the memory region region0 is on it"] if region else found == ([text] if said else [])
    assert [*memory_uses(device.parent / "0000:00:04.0", cxl, tmp_path / "no-iomem")] == []


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


def test_persistent_memory_as_system_memory(tmp_path: Path, device: Path) -> None:
    """See Documentation/admin-guide/mm/memory-hotplug.rst: the driver kmem gives the memory of a DAX device to all."""
    dax = tmp_path / "bus/dax/devices"
    for name, driver in (("dax0.0", "kmem"), ("dax0.1", "device_dax")):
        real = device / "virtio5/ndbus0/region0" / name
        link(real / "driver", tmp_path / "bus/dax/drivers" / driver)
        link(dax / name, real)
    missing = tmp_path / "none"
    assert [use.text for use in memory_uses(device, missing, missing, dax)] == ["memory of dax0.0 is system memory"]
    assert [*memory_uses(device.parent / "0000:00:04.0", missing, missing, dax)] == []
