# SPDX-License-Identifier: MIT
"""The functions of uapi.vfio on a real device: the cdev, and the legacy group and container."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py import DmaBuffer, IommufdError, VfioDevice, pci
from iommufd_py.host import pinned_bytes
from iommufd_py.uapi import vfio
from iommufd_py.uapi.enums import DeviceFlags, VfioExtension
from iommufd_py.uapi.ffi import lib
from tests.conftest import need

IOVA = 1 << 32


def test_device_info(device: VfioDevice) -> None:
    info = device.info()
    assert info.flags & DeviceFlags.PCI
    assert info.num_regions == lib.VFIO_PCI_NUM_REGIONS
    assert info.num_irqs == lib.VFIO_PCI_NUM_IRQS


def test_regions_are_those_of_sysfs(device: VfioDevice) -> None:
    resources = Path(f"/sys/bus/pci/devices/{device.bdf}/resource").read_text().splitlines()
    for index, line in enumerate(resources[:6]):
        first, last, _ = (int(number, 16) for number in line.split())
        region = vfio.device_get_region_info(device.fileno(), index)
        assert region.size == (last - first + 1 if last else 0)
    config = vfio.device_get_region_info(device.fileno(), lib.VFIO_PCI_CONFIG_REGION_INDEX)
    raw = os.pread(device.fileno(), 4, config.offset)
    assert "{1:04x}:{0:04x}".format(*reversed(struct.unpack("<HH", raw))) == pci.pci_device(device.bdf).ids
    with pytest.raises(IommufdError, match="VFIO_DEVICE_GET_REGION_INFO") as caught:
        vfio.device_get_region_info(device.fileno(), 99)
    assert caught.value.errno == errno.EINVAL


def test_interrupts_through_an_eventfd(device: VfioDevice) -> None:
    index = lib.VFIO_PCI_MSI_IRQ_INDEX
    if not vfio.device_get_irq_info(device.fileno(), index).count:
        pytest.skip(f"{device.bdf} has no MSI")
    event = os.eventfd(0, os.EFD_NONBLOCK)
    wire = lib.VFIO_IRQ_SET_DATA_EVENTFD | lib.VFIO_IRQ_SET_ACTION_TRIGGER
    vfio.device_set_irqs(device.fileno(), wire, index, 0, 1, struct.pack("=i", event))
    fire = lib.VFIO_IRQ_SET_DATA_NONE | lib.VFIO_IRQ_SET_ACTION_TRIGGER
    vfio.device_set_irqs(device.fileno(), fire, index, 0, 1)
    assert os.eventfd_read(event) == 1
    vfio.device_set_irqs(device.fileno(), fire, index, 0, 0)
    os.close(event)


def test_feature_probe(device: VfioDevice) -> None:
    probe = lib.VFIO_DEVICE_FEATURE_PROBE | lib.VFIO_DEVICE_FEATURE_GET
    with pytest.raises(IommufdError) as caught:
        vfio.device_feature(device.fileno(), probe | 0x7FFF)
    assert caught.value.errno == errno.ENOTTY


@pytest.fixture
def group(bdf: str) -> Iterator[int]:
    number = pci.pci_device(bdf).iommu_group
    node = Path(f"/dev/vfio/{number}")
    need(node.exists(), f"needs {node}: a kernel with CONFIG_VFIO_GROUP")
    fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def container() -> Iterator[int]:
    fd = os.open("/dev/vfio/vfio", os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def test_legacy_container(bdf: str, group: int, container: int) -> None:
    assert vfio.get_api_version(container) == 0
    assert vfio.check_extension(container, VfioExtension.TYPE1V2_IOMMU) == 1
    assert vfio.group_get_status(group) & lib.VFIO_GROUP_FLAGS_VIABLE
    vfio.group_set_container(group, container)
    assert vfio.group_get_status(group) & lib.VFIO_GROUP_FLAGS_CONTAINER_SET
    vfio.set_iommu(container, VfioExtension.TYPE1V2_IOMMU)
    info = vfio.iommu_get_info(container)
    assert info.iova_page_sizes & 4096
    assert info.dma_avail
    assert info.iova_ranges
    assert not any(start <= 0xFEE0_0000 <= last for start, last in info.iova_ranges)

    before = pinned_bytes()
    with DmaBuffer(1 << 20) as buffer:
        flags = lib.VFIO_DMA_MAP_FLAG_READ | lib.VFIO_DMA_MAP_FLAG_WRITE
        vfio.iommu_map_dma(container, buffer.user_va, IOVA, buffer.length, flags)
        with pytest.raises(IommufdError) as caught:
            vfio.iommu_map_dma(container, buffer.user_va, IOVA, buffer.length, flags)
        assert caught.value.errno == errno.EEXIST
        assert vfio.iommu_get_info(container).dma_avail == info.dma_avail - 1
        assert vfio.iommu_unmap_dma(container, IOVA, buffer.length) == buffer.length
    assert pinned_bytes() == before

    device = vfio.group_get_device_fd(group, bdf)
    assert vfio.device_get_info(device).flags & DeviceFlags.PCI
    os.close(device)
    vfio.group_unset_container(group)
