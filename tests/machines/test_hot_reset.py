# SPDX-License-Identifier: MIT
"""Hot reset: of a network card alone on its bus, and of two edu devices on one bus."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from iommufd_py import ContainerMode, DeviceError, Iommufd, PciCommand, RegionIndex, VfioDevice, open_container, pci
from iommufd_py.lab.machine import NVME_DEVICE

# "Receive Descriptor Base Address Low" of the 8254x manual: writable memory of the card, 0 after a reset in QEMU.
_RDBAL = 0x2800


def behind_bridges(ids: str) -> list[str]:
    """Return the addresses of the devices with these ids that are not on the root bus."""
    names = sorted(path.name for path in Path("/sys/bus/pci/devices").iterdir() if not path.name.startswith("0000:00"))
    return [name for name in names if pci.pci_device(name).ids == ids]


@pytest.fixture(scope="module")
def card() -> Iterator[str]:
    (found,) = behind_bridges("8086:100e")
    with pci.vfio_bound(found):
        yield found


@pytest.fixture(scope="module")
def pair() -> list[str]:
    found = behind_bridges("1234:11e8")
    assert len(found) == 2
    return found


@pytest.mark.parametrize("mode", ContainerMode, ids=str)
def test_the_registers_are_as_after_power_on(card: str, mode: ContainerMode) -> None:
    with open_container(mode, card) as container:
        device = container.device
        assert [(one.bdf, one.owned) for one in device.hot_reset_devices()] == [(card, True)]
        device.change_command(set_bits=PciCommand.MEMORY)
        registers = device.region(RegionIndex.BAR0)
        registers.write_int(_RDBAL, 0x12345600, 4)
        assert registers.read_int(_RDBAL, 4) == 0x12345600
        device.hot_reset()
        device.change_command(set_bits=PciCommand.MEMORY)
        assert registers.read_int(_RDBAL, 4) == 0


@pytest.mark.parametrize("mode", ContainerMode, ids=str)
def test_both_devices_of_a_bus(pair: list[str], mode: ContainerMode) -> None:
    with ExitStack() as undo:
        for bdf in pair:
            undo.enter_context(pci.vfio_bound(bdf))
        container = undo.enter_context(open_container(mode, pair[0]))
        assert {one.bdf: one.owned for one in container.device.hot_reset_devices()} == dict.fromkeys(pair, True)
        container.device.hot_reset()


def test_a_device_of_somebody_else_is_named(pair: list[str]) -> None:
    with pci.vfio_bound(pair[0]), Iommufd() as iommufd:
        device = VfioDevice(iommufd, pair[0])
        assert {one.bdf: one.owned for one in device.hot_reset_devices()} == {pair[0]: True, pair[1]: False}
        with pytest.raises(DeviceError, match=f"which would also reset {pair[1]}: bind these to vfio-pci"):
            device.hot_reset()


def test_a_device_on_the_root_bus_has_none() -> None:
    with pci.vfio_bound(NVME_DEVICE), Iommufd() as iommufd:
        device = VfioDevice(iommufd, NVME_DEVICE)
        with pytest.raises(DeviceError, match=r"has no hot reset: .* as on a root bus; use reset\(\)"):
            device.hot_reset()
