# SPDX-License-Identifier: MIT
"""A device in an IOAS on a machine without an IOMMU, and the physical addresses that it uses for DMA."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py import (
    Backing,
    Coherency,
    DmaBuffer,
    FlushCount,
    Iommufd,
    IommufdError,
    NotSupportedError,
    ObjectNotFoundError,
    PciCommand,
    RegionIndex,
    VfioDevice,
    pci,
)
from iommufd_py.host import kernel_features, pinned_bytes
from iommufd_py.mock import APERTURE, MockDevice
from tests.conftest import need_flush_count
from tests.waiting import wait_until

PAGE = 4096
# This edu device has a DMA mask of 64 bits. The masks of the lab's usual devices reach only 256 MiB.
EDU = "0000:00:1b.0"
# docs/specs/edu.rst of QEMU: the registers of its DMA, its buffer, and the bits of its command.
SOURCE, DESTINATION, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
BUFFER = 0x4_0000
RUN, TO_MEMORY = 1 << 0, 1 << 1


@pytest.fixture
def device() -> Iterator[VfioDevice]:
    with pci.vfio_bound(EDU), Iommufd() as iommufd:
        device = VfioDevice(iommufd, EDU)
        device.change_command(set_bits=PciCommand.MEMORY | PciCommand.BUS_MASTER)
        yield device


def transfer(device: VfioDevice, source: int, destination: int, count: int, command: int) -> None:
    registers = device.region(RegionIndex.BAR0)
    for offset, value in ((SOURCE, source), (DESTINATION, destination), (COUNT, count), (COMMAND, command | RUN)):
        registers.write_int(offset, value, 8)
    wait_until(lambda: not registers.read_int(COMMAND, 8) & RUN)


def test_the_kernel_allows_no_iommu_mode_and_names_the_cdev_for_it(device: VfioDevice) -> None:
    assert kernel_features().noiommu is True
    assert device.noiommu
    assert device.cdev.name.startswith("noiommu-vfio")
    with pytest.raises(NotSupportedError):
        device.hw_info()


def test_an_address_is_where_the_page_is(device: VfioDevice) -> None:
    ioas = device.iommufd.alloc_ioas()
    device.attach(ioas)
    before = pinned_bytes()
    with DmaBuffer(8 * PAGE) as buffer, ioas.map(buffer, 0x10_0000) as mapping:
        assert pinned_bytes() == before + buffer.length
        frames = buffer.frames()
        for page, frame in enumerate(frames):
            one = ioas.noiommu_address(mapping.iova + page * PAGE + 0x123, 0x10)
            assert (one.start, one.length) == (frame * PAGE + 0x123, 0x10)
        # The range ends where the frames are no longer consecutive.
        run = 1
        while run < len(frames) and frames[run] == frames[run - 1] + 1:
            run += 1
        assert ioas.noiommu_address(mapping.iova, 1 << 30).length == run * PAGE


def test_huge_pages_are_one_run(device: VfioDevice) -> None:
    ioas = device.iommufd.alloc_ioas()
    device.attach(ioas)
    with DmaBuffer(2 << 20, Backing.HUGETLB_2M) as buffer, ioas.map(buffer, 0x20_0000) as mapping:
        found = ioas.noiommu_address(mapping.iova + PAGE, 4 << 20)
        assert (found.start, found.length) == (buffer.frames()[1] * PAGE, (2 << 20) - PAGE)


def test_the_device_reaches_memory_by_these_addresses(device: VfioDevice) -> None:
    ioas = device.iommufd.alloc_ioas()
    device.attach(ioas)
    pattern = bytes(range(256))
    with DmaBuffer(2 * PAGE) as buffer, ioas.map(buffer, 0x10_0000) as mapping, buffer.view as view:
        view[:256] = pattern
        first, second = (ioas.noiommu_address(mapping.iova + at).start for at in (0, PAGE))
        transfer(device, first, BUFFER, 256, 0)
        transfer(device, BUFFER, second + 0x40, 256, TO_MEMORY)
        assert view[PAGE : 2 * PAGE] == bytes(0x40) + pattern + bytes(PAGE - 0x140)


def test_an_unmapped_iova_has_no_address(device: VfioDevice) -> None:
    ioas = device.iommufd.alloc_ioas()
    with DmaBuffer(PAGE) as buffer, ioas.map(buffer, 0x10_0000):
        with pytest.raises(NotSupportedError, match="no device without an IOMMU"):
            ioas.noiommu_address(0x10_0000)
        device.attach(ioas)
        assert ioas.noiommu_address(0x10_0000).start == buffer.frames()[0] * PAGE
        with pytest.raises(ObjectNotFoundError, match="nothing is mapped"):
            ioas.noiommu_address(0x20_0000)
        with pytest.raises(IommufdError) as caught:
            ioas.noiommu_address(0x10_0000, 0)
        assert caught.value.errno == errno.EINVAL
        device.detach()
        with pytest.raises(NotSupportedError):
            ioas.noiommu_address(0x10_0000)


def test_a_device_behind_an_iommu_does_not_give_addresses_away(device: VfioDevice) -> None:
    ioas = device.iommufd.alloc_ioas()
    MockDevice(device.iommufd).attach(ioas)
    with DmaBuffer(PAGE) as buffer, ioas.map(buffer, APERTURE.start), pytest.raises(NotSupportedError):
        ioas.noiommu_address(APERTURE.start)


def test_its_domain_counts_as_non_coherent(device: VfioDevice) -> None:
    """Nothing can make the device snoop."""
    hwpt = device.alloc_hwpt(device.iommufd.alloc_ioas())
    assert hwpt.evidence.coherency is Coherency.NON_COHERENT
    assert hwpt.evidence.ecap is None


def test_the_kernel_flushes_nothing_for_it(device: VfioDevice) -> None:
    """It reaches memory before the map and after the unmap, so a flush protects nothing."""
    pages = 8
    start = need_flush_count(device.iommufd)
    ioas = device.iommufd.alloc_ioas()
    with DmaBuffer(pages * PAGE) as buffer:
        with ioas.map(buffer, APERTURE.start):
            device.attach(ioas)
            device.detach()
        device.attach(ioas)
        with ioas.map(buffer, APERTURE.start):
            pass
        assert need_flush_count(device.iommufd) - start == FlushCount(0, 0)
        # The kernel does flush, and counts, for a device behind an IOMMU.
        other = device.iommufd.alloc_ioas()
        MockDevice(device.iommufd).attach(other)
        with other.map(buffer, APERTURE.start):
            pass
        assert (need_flush_count(device.iommufd) - start).pages == 2 * pages


def test_the_device_is_given_back() -> None:
    before = pci.pci_device(EDU).driver
    with pci.vfio_bound(EDU):
        found = pci.pci_device(EDU)
        assert found.driver == "vfio-pci"
        assert "noiommu-vfio" in found.cdev
    assert pci.pci_device(EDU).driver == before
    assert Path("/sys/kernel/iommu_groups").exists()
