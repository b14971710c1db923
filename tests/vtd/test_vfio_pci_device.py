# SPDX-License-Identifier: MIT
"""The cases of tools/testing/selftests/vfio/vfio_pci_device_test.c: fixture vfio_pci_device_test."""

from pathlib import Path

import pytest

from iommufd_py import Container, DeviceError, DeviceFlags, RegionFlags, RegionIndex

# PCI Local Bus Specification 6.2
VENDOR, DEVICE, COMMAND = 0x00, 0x02, 0x04
COMMAND_MASTER = 1 << 2


def test_config_space_read_write(container: Container) -> None:
    config = container.device.config
    for name, offset in (("vendor", VENDOR), ("device", DEVICE)):
        attribute = Path(f"/sys/bus/pci/devices/{container.device.bdf}/{name}")
        assert config.read_int(offset, 2) == int(attribute.read_text(), 16)
    command = config.read_int(COMMAND, 2)
    assert not command & COMMAND_MASTER
    config.write_int(COMMAND, command | COMMAND_MASTER, 2)
    assert config.read_int(COMMAND, 2) == command | COMMAND_MASTER
    config.write_int(COMMAND, command, 2)
    assert config.read_int(COMMAND, 2) == command


def test_validate_bars(container: Container) -> None:
    for index in range(RegionIndex.BAR0, RegionIndex.BAR5 + 1):
        bar = container.device.region(index)
        if bar.info.flags & RegionFlags.MMAP:
            with bar.mmap() as mapping:
                assert mapping.length == bar.info.size > 0
        else:
            with pytest.raises(DeviceError, match=r"BAR\d of .* cannot be mapped: use its read"):
                bar.mmap()


def test_reset(container: Container) -> None:
    if not container.device.info().flags & DeviceFlags.RESET:
        pytest.skip(f"{container.device.bdf} does not support reset")
    container.device.reset()
