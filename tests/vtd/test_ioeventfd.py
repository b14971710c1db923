# SPDX-License-Identifier: MIT
"""The kernel's writes to a BAR when an eventfd is signalled. The test uses the register of edu that inverts its
value."""

import errno

import pytest

from iommufd_py import ArgumentValueError, ClosedError, IommufdError, PciCommand, RegionIndex, VfioDevice
from iommufd_py.lab.machine import TEST_DEVICES
from tests.conftest import IN_LAB
from tests.waiting import wait_until

# docs/specs/edu.rst of QEMU, "card liveness check".
LIVENESS = 0x04

pytestmark = pytest.mark.skipif(
    not IN_LAB, reason="takes an edu of the lab: 'iommufd lab run -- pytest tests/vtd' does that"
)


def test_the_kernel_writes_when_it_is_signalled(device: VfioDevice) -> None:
    assert device.bdf in TEST_DEVICES
    device.change_command(set_bits=PciCommand.MEMORY)
    bar = device.region(RegionIndex.BAR0)
    bar.write_int(LIVENESS, 0, 4)
    with bar.ioeventfd(LIVENESS, 0x1234_5678, 4) as doorbell:
        assert bar.read_int(LIVENESS, 4) == 0xFFFF_FFFF
        doorbell.signal()
        wait_until(lambda: bar.read_int(LIVENESS, 4) == 0xEDCB_A987)
        with pytest.raises(IommufdError, match="already does this write") as caught:
            bar.ioeventfd(LIVENESS, 0x1234_5678, 4)
        assert caught.value.errno == errno.EEXIST
    bar.write_int(LIVENESS, 0, 4)
    with pytest.raises(ClosedError):
        doorbell.signal()
    assert bar.read_int(LIVENESS, 4) == 0xFFFF_FFFF


def test_what_cannot_be_written_is_refused(device: VfioDevice) -> None:
    bar = device.region(RegionIndex.BAR0)
    for offset, value, width in ((0, 1, 3), (0, 1 << 32, 4), (bar.info.size, 0, 4)):
        with pytest.raises(ArgumentValueError):
            bar.ioeventfd(offset, value, width)
    with pytest.raises(IommufdError, match="only a BAR"):
        device.config.ioeventfd(0, 0, 4)
