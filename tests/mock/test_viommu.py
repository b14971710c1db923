# SPDX-License-Identifier: MIT
"""vIOMMUs and what belongs to one, as objects; test_iommufd_viommu.py has the kernel's own cases."""

import pytest

from iommufd_py import (
    BusyError,
    DmaBuffer,
    Hwpt,
    HwptAllocFlags,
    Ioas,
    Iommufd,
    IommufdError,
    MockDevice,
    ToolError,
    VEventQueueType,
    VIommu,
    VIommuType,
)
from iommufd_py.mock import hwpt_data, parse_viommu_data, viommu_data
from tests.conftest import need_ioctl
from tests.waiting import patience

PAGE = 4096
BASE = 1 << 24


@pytest.fixture
def parent(iommufd: Iommufd, mock: MockDevice, ioas: Ioas) -> Hwpt:
    need_ioctl(iommufd, "IOMMU_VIOMMU_ALLOC", "6.13")
    return mock.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)


@pytest.fixture
def viommu(mock: MockDevice, parent: Hwpt) -> VIommu:
    return mock.alloc_viommu(parent, VIommuType.SELFTEST)


def test_memory_of_the_hardware(mock: MockDevice, parent: Hwpt) -> None:
    need_ioctl(mock.iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17")
    viommu = mock.alloc_viommu(parent, VIommuType.SELFTEST, viommu_data(0xBEEF))
    told = parse_viommu_data(viommu.data)
    assert told.echo == 0xBEEF
    memory = viommu.map_memory(told.mmap_offset, told.mmap_length)
    with memory.view as view:
        assert int.from_bytes(view[:4], "little") == 0xBEEF
        with pytest.raises(ToolError, match="release the view first"):
            memory.close()
        assert not memory.closed
    viommu.close()
    assert memory.closed


def test_events_of_a_device(mock: MockDevice, ioas: Ioas, viommu: VIommu) -> None:
    need_ioctl(mock.iommufd, "IOMMU_VEVENTQ_ALLOC", "6.15")
    queue = viommu.alloc_event_queue(VEventQueueType.SELFTEST, 2)
    viommu.alloc_vdevice(mock, 0x99)
    mock.attach(mock.alloc_nested(viommu, hwpt_data()))
    assert queue.read(timeout=0) == []
    for _ in range(3):
        mock.trigger_event()
    first, second, lost = queue.read(timeout=patience(5))
    assert first.data == second.data == (0x99).to_bytes(4, "little")
    assert (first.sequence, second.sequence, lost.data) == (0, 1, None)
    viommu.close()
    assert queue.closed
    assert mock.attachments == {}


def test_a_ring_keeps_its_memory_mapped(mock: MockDevice, ioas: Ioas, viommu: VIommu) -> None:
    need_ioctl(mock.iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17")
    with DmaBuffer(PAGE) as buffer:
        mapping = ioas.map(buffer, BASE)
        with pytest.raises(IommufdError, match="made in the order of their indices"):
            viommu.alloc_hw_queue(VIommuType.SELFTEST, 1, mapping)
        rings = [viommu.alloc_hw_queue(VIommuType.SELFTEST, index, mapping) for index in (0, 1)]
        with pytest.raises(BusyError):
            ioas.unmap(BASE, PAGE)
        mapping.close()
        assert all(ring.closed for ring in rings)


@pytest.mark.parametrize("length", [8 * PAGE, (1 << 64) - 1])
def test_a_ring_does_not_keep_lower_memory_mapped(mock: MockDevice, ioas: Ioas, viommu: VIommu, length: int) -> None:
    need_ioctl(mock.iommufd, "IOMMU_HW_QUEUE_ALLOC", "6.17")
    start = BASE if length == 8 * PAGE else 0
    with DmaBuffer(PAGE) as buffer:
        low, ring, high = (ioas.map(buffer, BASE + at * PAGE) for at in (1, 3, 5))
        viommu.alloc_hw_queue(VIommuType.SELFTEST, 0, ring)
        with pytest.raises(BusyError):
            ioas.unmap(start, length)
        assert (low.closed, ring.closed, high.closed) == (True, False, False)
    assert ioas.unmap_all() == 0
