# SPDX-License-Identifier: MIT
"""Containers of all five modes: answers, order of closing, and refusals."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py import (
    AlreadyMappedError,
    BusyError,
    ClosedError,
    Container,
    ContainerMode,
    DeviceError,
    DmaBuffer,
    GroupFlags,
    InvalidFieldError,
    Iommufd,
    IommufdError,
    MapFlags,
    ObjectNotFoundError,
    SkipError,
    ToolError,
    Type1Container,
    VfioDevice,
    VfioExtension,
    pci,
    vtd,
)
from iommufd_py.lab.machine import TEST_DEVICES
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.testing.plugin import CONTAINER_MODES
from iommufd_py.testing.requirements import need_container
from iommufd_py.vfio.group import VfioGroupDevice
from iommufd_py.vfio.type1 import DEV_VFIO
from tests.conftest import IN_LAB

IOVA = 1 << 32
PAGE = 4096
MSI_DOORBELL = 0xFEE0_0000
VFIO_MODES = (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
DMA_ENTRY_LIMIT = Path("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit")


def test_iova_ranges(device_ranges: tuple[object, ...], container: Container) -> None:
    ranges = container.iova_ranges()
    assert ranges.alignment == PAGE
    assert not any(one.contains(MSI_DOORBELL) for one in ranges.ranges)
    assert ranges.ranges == device_ranges


@pytest.fixture
def device_ranges(bdf: str) -> tuple[object, ...]:
    with need_container(ContainerMode.IOMMUFD, bdf) as container:
        return container.iova_ranges().ranges


def test_dma_cc_is_that_of_the_unit(container: Container) -> None:
    bdf = container.device.bdf
    dma_cc = container.dma_cc()
    container.close()
    with Iommufd() as iommufd:
        evidence = VfioDevice(iommufd, bdf).alloc_hwpt(iommufd.alloc_ioas()).evidence
        assert dma_cc == evidence.dma_cc


def test_mappings_left(container: Container, mode: ContainerMode) -> None:
    before = container.mappings_left()
    with DmaBuffer(PAGE) as buffer, container.map(buffer, IOVA):
        if mode is ContainerMode.IOMMUFD:
            assert container.mappings_left() is None
        elif mode in VFIO_MODES:
            assert before is not None
            assert container.mappings_left() == before - 1
        else:
            assert container.mappings_left() == (1 << 32) - 1
    assert container.mappings_left() == before


@pytest.fixture
def one_mapping_allowed(bdf: str) -> Iterator[None]:
    before = DMA_ENTRY_LIMIT.read_text()
    DMA_ENTRY_LIMIT.write_text("1")
    yield
    DMA_ENTRY_LIMIT.write_text(before)


@pytest.mark.parametrize(
    "container_mode", [name for name, mode in CONTAINER_MODES.items() if mode in VFIO_MODES], indirect=True
)
def test_dma_entry_limit(one_mapping_allowed: None, container: Container) -> None:
    with DmaBuffer(2 * PAGE) as buffer:
        assert container.mappings_left() == 1
        container.map(buffer, IOVA, length=PAGE)
        with pytest.raises(IommufdError, match=r"ENOSPC: the container has no mapping left: .* raise dma_entry_limit"):
            container.map(buffer, IOVA + PAGE, length=PAGE)


def test_closing_a_buffer_unmaps_it(container: Container) -> None:
    with DmaBuffer(2 * PAGE) as buffer:
        first = container.map(buffer, IOVA, length=PAGE)
        second = container.map(buffer, IOVA + PAGE, offset=PAGE, flags=MapFlags.READABLE)
        assert vtd.leaf_sizes(container.device.bdf, IOVA, buffer.length) in (None, {PAGE: 2})
    assert first.closed
    assert second.closed
    assert not vtd.leaf_sizes(container.device.bdf, IOVA, 2 * PAGE)


def test_closing_a_container_closes_all(mode: ContainerMode, bdf: str) -> None:
    with DmaBuffer(PAGE) as buffer:
        for _ in range(3):  # If the group stayed open, a second open would fail.
            container = need_container(mode, bdf)
            mapping = container.map(buffer, IOVA)
            device = container.device
            container.close()
            container.close()
            assert mapping.closed
            assert device.closed
            with pytest.raises(ClosedError):
                container.map(buffer, IOVA)
            with pytest.raises(ClosedError):
                device.info()


@pytest.mark.parametrize("container_mode", [name for name in CONTAINER_MODES if name != "iommufd"], indirect=True)
def test_closing_the_last_group_closes_the_mappings(container: Container, bdf: str) -> None:
    with DmaBuffer(PAGE) as buffer:
        assert isinstance(container.device, VfioGroupDevice)
        mapping = container.map(buffer, IOVA)
        assert container.device.group.status() == GroupFlags.VIABLE | GroupFlags.CONTAINER_SET
        container.device.group.close()
        assert container.device.closed
        assert mapping.closed
        container.open_device(bdf)
        container.map(buffer, IOVA)


def test_a_device_that_is_closed_can_be_opened_again(container: Container) -> None:
    bdf = container.device.bdf
    container.device.close()
    assert container.open_device(bdf).config.read_int(0, 2)


@pytest.mark.skipif(not IN_LAB, reason="takes the lab's second device; 'iommufd lab run -- pytest tests/vtd' does that")
def test_two_devices(mode: ContainerMode) -> None:
    first, second = TEST_DEVICES
    with (
        pci.vfio_bound(first),
        pci.vfio_bound(second),
        need_container(mode, first) as container,
        DmaBuffer(2 * PAGE) as buffer,
    ):
        before = container.map(buffer, IOVA, length=PAGE)
        container.open_device(second)
        after = container.map(buffer, IOVA + PAGE, length=PAGE)
        for bdf in (first, second):
            assert vtd.leaf_sizes(bdf, IOVA, buffer.length) == {PAGE: 2}
        before.close()
        for bdf in (first, second):
            assert vtd.leaf_sizes(bdf, IOVA, buffer.length) == {PAGE: 1}
        assert not after.closed


def test_mapping_twice_is_refused(container: Container) -> None:
    buffer = DmaBuffer(PAGE)
    container.map(buffer, IOVA)
    with buffer, pytest.raises(AlreadyMappedError, match="mapped already"):
        container.map(buffer, IOVA)


def test_mapping_where_it_may_not_is_refused(container: Container) -> None:
    with DmaBuffer(PAGE) as buffer:
        for iova in (MSI_DOORBELL, IOVA + 1):
            with pytest.raises(InvalidFieldError, match=r"misaligned or outside .* allowed ranges"):
                container.map(buffer, iova)


def test_unmapping_nothing(container: Container, mode: ContainerMode) -> None:
    if mode is ContainerMode.IOMMUFD:
        with pytest.raises(ObjectNotFoundError, match="nothing is mapped in this range"):
            container.unmap(IOVA, PAGE)
    else:
        assert container.unmap(IOVA, PAGE) == 0


def test_unmapping_a_part(container: Container, mode: ContainerMode) -> None:
    with DmaBuffer(4 * PAGE) as buffer, container.map(buffer, IOVA) as mapping:
        match mode:
            case ContainerMode.VFIO_TYPE1:
                assert container.unmap(IOVA + PAGE, PAGE) == 0
                assert container.unmap(IOVA, PAGE) == 4 * PAGE
            case ContainerMode.COMPAT_TYPE1:
                assert container.unmap(IOVA + PAGE, PAGE) == PAGE
            case _:
                with pytest.raises(IommufdError, match="a mapping reaches past"):
                    container.unmap(IOVA + PAGE, PAGE)
        mapping.close()
        assert not vtd.leaf_sizes(container.device.bdf, IOVA, buffer.length)


def test_group_and_cdev_exclude_each_other(container: Container, mode: ContainerMode) -> None:
    bdf = container.device.bdf
    if mode is ContainerMode.IOMMUFD:
        with pytest.raises(DeviceError, match=r"group \d+ is in use: .*close that first"):
            Type1Container(bdf)
    else:
        with Iommufd() as iommufd, pytest.raises(BusyError, match=r"in use, .*/dev/vfio/<group>"):
            VfioDevice(iommufd, bdf)
    assert container.device.config.read_int(0, 2)


def test_a_device_in_two_containers_is_refused(container: Container, mode: ContainerMode) -> None:
    with pytest.raises((DeviceError, InvalidFieldError), match=r"group \d+ is in use|the device is bound already"):
        need_container(mode, container.device.bdf)
    assert container.device.config.read_int(0, 2)


@pytest.mark.parametrize("path", [DEV_VFIO, DEV_IOMMU], ids=str)
def test_wrong_type_is_refused(bdf: str, path: object) -> None:
    for wrong in (VfioExtension.NOIOMMU_IOMMU, VfioExtension.UNMAP_ALL):
        with pytest.raises((SkipError, InvalidFieldError), match=r"offers no|does not know this one"):
            Type1Container(bdf, wrong, path)
    # Nothing is left open.
    Type1Container(bdf, path=path).close()


def test_devices_that_are_not_there_or_not_on_vfio(mode: ContainerMode, bdf: str) -> None:
    with pytest.raises(DeviceError, match=r"there is no PCI device 0000:ff:1f\.7"):
        need_container(mode, "0000:ff:1f.7")
    other = next(one.bdf for one in pci.list_devices() if one.driver != "vfio-pci")
    with pytest.raises(DeviceError, match=f"{other} is bound to .* instead of vfio-pci: 'iommufd device bind"):
        need_container(mode, other)
    need_container(mode, bdf).close()


def test_container_that_is_not_there(bdf: str, tmp_path) -> None:
    with pytest.raises(SkipError, match="CONFIG_VFIO_CONTAINER"):
        Type1Container(bdf, path=tmp_path / "vfio")
    with pytest.raises(ToolError, match="cannot be opened: Is a directory"):
        Type1Container(bdf, path=tmp_path)
