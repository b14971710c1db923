# SPDX-License-Identifier: MIT
"""A mediated device of the kernel's sample driver mtty: a serial port without hardware (samples/vfio-mdev/mtty.c)."""

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from iommufd_py import (
    ArgumentValueError,
    BusyError,
    DeviceError,
    DmaBuffer,
    InvalidFieldError,
    Ioas,
    Iommufd,
    IommufdError,
    IrqIndex,
    MediatedDevice,
    MockDevice,
    ObjectNotFoundError,
    RegionIndex,
    Type1Container,
)
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.pci.users.openers import has_vfio_device
from iommufd_py.pci.users.processes import opened_files
from iommufd_py.uapi import vfio
from iommufd_py.uapi.iommufd import destroy
from iommufd_py.vfio.emulated import EmulatedDevice
from iommufd_py.vfio.sysfs import MEDIATED_DEVICES
from tests.waiting import patience

# Registers of a 16550 (include/uapi/linux/serial_reg.h).
INTERRUPT_ENABLE, SCRATCH = 1, 7
TRANSMITTER_EMPTY = 1 << 1


def test_registers_keep_what_is_written(mediated: MediatedDevice) -> None:
    bar = mediated.region(RegionIndex.BAR0)
    assert bar.info.size == 8
    for value in (0x5A, 0xA5):
        bar.write_int(SCRATCH, value, 1)
        assert bar.read_int(SCRATCH, 1) == value
    assert mediated.region(RegionIndex.CONFIG).read(0, 2) == b"HC"


def test_an_interrupt_arrives(mediated: MediatedDevice) -> None:
    # mtty takes the number of its interrupts from its last answer to VFIO_DEVICE_GET_INFO.
    assert mediated.info().num_irqs == 5
    bar = mediated.region(RegionIndex.BAR0)
    with mediated.enable_irqs(IrqIndex.MSI) as interrupts:
        assert interrupts.wait(timeout=0) == 0
        bar.write_int(INTERRUPT_ENABLE, TRANSMITTER_EMPTY, 1)
        assert interrupts.wait(timeout=patience(0.2)) == 1


def test_an_attachment_keeps_the_ioas_busy(mediated: MediatedDevice, ioas: Ioas, iommufd: Iommufd) -> None:
    attachment = mediated.attach(ioas)
    assert attachment.hwpt_id == ioas.id
    with pytest.raises(BusyError):
        destroy(iommufd.fileno(), ioas.id)
    mediated.detach()
    ioas.close()


def test_a_mediated_device_has_no_iommu(mediated: MediatedDevice, mock: MockDevice, ioas: Ioas) -> None:
    for call in (mediated.hw_info, lambda: mediated.alloc_hwpt(ioas), lambda: mediated.attach(mock.alloc_hwpt(ioas))):
        with pytest.raises(IommufdError):
            call()


def test_memory_stays_mapped_while_the_device_joins_and_leaves(
    mediated: MediatedDevice, ioas: Ioas, dma_buffer: Callable[..., DmaBuffer]
) -> None:
    mapping = ioas.map(dma_buffer(16 * 4096))
    mediated.attach(ioas)
    mediated.detach()
    mapping.close()


def test_a_refused_unmap_of_the_compatibility_layer_unmaps_the_mappings_before() -> None:
    with (
        EmulatedDevice() as emulated,
        Type1Container(None, path=DEV_IOMMU, group=emulated.group) as container,
        DmaBuffer(2 * 4096) as buffer,
    ):
        low, high = container.map(buffer, 1 << 20, length=4096), container.map(buffer, 1 << 21)
        with pytest.raises(ObjectNotFoundError):
            container.unmap(1 << 20, (1 << 20) + 4096)
        assert (low.closed, high.closed) == (True, False)


def test_a_device_has_one_user(mediated: MediatedDevice, iommufd: Iommufd) -> None:
    with pytest.raises(InvalidFieldError, match="the device is bound already"):
        MediatedDevice(iommufd, mediated.uuid)


def test_a_uuid_without_a_device_is_an_error(iommufd: Iommufd) -> None:
    uuid = uuid4()
    with pytest.raises(DeviceError, match=rf"no mediated device {uuid} .* mdev_supported_types/TYPE/create"):
        MediatedDevice(iommufd, uuid)


def test_a_mediated_device_can_be_reset(mediated: MediatedDevice) -> None:
    mediated.reset()
    assert mediated.info().num_regions == 9


def test_the_user_of_a_device_is_found_by_the_device_alone() -> None:
    """A program can close the group, or get the device from another program. The kernel waits for it at an unbind."""
    with EmulatedDevice() as emulated, Type1Container(None, path=DEV_IOMMU, group=emulated.group) as container:
        here, path = Path("/proc/self"), (MEDIATED_DEVICES / str(emulated.uuid)).resolve()
        descriptor = vfio.group_get_device_fd(container.group(emulated.group).fileno(), str(emulated.uuid))
        try:
            if "vfio-device-syspath" not in (here / f"fdinfo/{descriptor}").read_text():
                pytest.skip("this kernel does not name the device of a descriptor")
            assert has_vfio_device(opened_files(here), path)
        finally:
            os.close(descriptor)
        assert not has_vfio_device(opened_files(here), path)


def test_a_container_names_its_groups(iommufd: Iommufd) -> None:
    """On the compatibility layer of iommufd, which is in every kernel with iommufd."""
    with EmulatedDevice() as emulated, Type1Container(None, path=DEV_IOMMU, group=emulated.group) as container:
        assert container.group(emulated.group).number == emulated.group
        with pytest.raises(ArgumentValueError, match=f"no group 4711, but these: {emulated.group}"):
            container.group(4711)
