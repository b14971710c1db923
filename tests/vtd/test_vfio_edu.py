# SPDX-License-Identifier: MIT
"""Registers and interrupts of a real device model: QEMU's edu (docs/specs/edu.rst of QEMU)."""

import pytest

from iommufd_py import (
    Container,
    DeviceError,
    DeviceFeature,
    FeatureOperation,
    InvalidFieldError,
    IrqIndex,
    RegionIndex,
    pci,
)
from tests.conftest import need
from tests.waiting import patience

EDU = "1234:11e8"
IDENTIFICATION, LIVENESS, RAISE, ACKNOWLEDGE = 0x00, 0x04, 0x60, 0x64
COMMAND, COMMAND_MASTER = 0x04, 1 << 2
SHORT = 0.1


@pytest.fixture
def edu(container: Container) -> Container:
    need(pci.pci_device(container.device.bdf).ids == EDU, "needs QEMU's edu device: run it in the lab")
    command = container.device.config.read_int(COMMAND, 2)
    container.device.config.write_int(COMMAND, command | COMMAND_MASTER, 2)  # an MSI is a write to memory
    return container


def test_registers(edu: Container) -> None:
    bar = edu.device.region(RegionIndex.BAR0)
    with bar.mmap() as mapping:
        for registers in (bar, mapping):
            assert registers.read_int(IDENTIFICATION, 4) == 0x0100_00ED
            registers.write_int(LIVENESS, 0x1234_5678, 4)
            assert registers.read_int(LIVENESS, 4) == ~0x1234_5678 & 0xFFFF_FFFF
    assert bar.read(IDENTIFICATION, 4) == bytes.fromhex("ed000001")


def test_accesses_outside_are_refused(edu: Container) -> None:
    bar = edu.device.region(RegionIndex.BAR0)
    with pytest.raises(ValueError, match="are not inside BAR0"):
        bar.read(bar.info.size, 4)
    with pytest.raises(ValueError, match="1, 2, 4 or 8"):
        bar.read_int(0, 3)
    with pytest.raises(DeviceError, match="cannot be mapped, only 0x0-"):
        bar.mmap(length=2 * bar.info.size)
    with bar.mmap() as mapping, pytest.raises(ValueError, match="no 4-byte register at offset 2 "):
        mapping.read_int(2, 4)


def test_msi(edu: Container) -> None:
    bar = edu.device.region(RegionIndex.BAR0)
    with edu.device.enable_irqs(IrqIndex.MSI) as irqs:
        assert irqs.wait(timeout=SHORT) == 0
        for _ in range(3):
            bar.write_int(RAISE, 1, 4)
            assert irqs.wait(timeout=patience(1)) == 1
            bar.write_int(ACKNOWLEDGE, 1, 4)


def test_intx_is_masked_when_it_fires(edu: Container) -> None:
    bar = edu.device.region(RegionIndex.BAR0)
    with edu.device.enable_irqs(IrqIndex.INTX) as irqs:
        bar.write_int(RAISE, 1, 4)
        assert irqs.wait(timeout=patience(1)) == 1
        irqs.unmask()  # the line is still up, so it fires again
        assert irqs.wait(timeout=patience(1)) == 1
        bar.write_int(ACKNOWLEDGE, 1, 4)
        irqs.unmask()
        assert irqs.wait(timeout=SHORT) == 0
        irqs.mask()
        bar.write_int(RAISE, 1, 4)
        assert irqs.wait(timeout=SHORT) == 0
        irqs.unmask()
        assert irqs.wait(timeout=patience(1)) == 1
        bar.write_int(ACKNOWLEDGE, 1, 4)


def test_kinds_of_interrupts_exclude_each_other(edu: Container) -> None:
    with edu.device.enable_irqs(IrqIndex.MSI):
        with pytest.raises(InvalidFieldError, match="another index is enabled"):
            edu.device.enable_irqs(IrqIndex.INTX)
        with pytest.raises(DeviceError, match=r"MSI interrupts of .* are enabled already"):
            edu.device.enable_irqs(IrqIndex.MSI)
    with pytest.raises(DeviceError, match="has 1 INTX interrupts, 2 cannot be enabled"):
        edu.device.enable_irqs(IrqIndex.INTX, 2)
    edu.device.enable_irqs(IrqIndex.INTX).close()


def test_low_power(edu: Container) -> None:
    device = edu.device
    assert not device.has_feature(DeviceFeature.LOW_POWER_ENTRY, FeatureOperation.GET)
    assert device.has_feature(DeviceFeature.LOW_POWER_ENTRY, FeatureOperation.SET)
    device.set_feature(DeviceFeature.LOW_POWER_ENTRY)
    with pytest.raises(InvalidFieldError):
        device.set_feature(DeviceFeature.LOW_POWER_ENTRY)
    device.set_feature(DeviceFeature.LOW_POWER_EXIT)
    assert device.region(RegionIndex.BAR0).read_int(IDENTIFICATION, 4) == 0x0100_00ED
