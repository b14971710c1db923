# SPDX-License-Identifier: MIT
"""HWPTs, attachment and the order in which everything closes, on the mock driver."""

import errno

import pytest

from iommufd_py import (
    BusyError,
    ClosedError,
    Coherency,
    CoherencyError,
    DmaBuffer,
    HwInfoType,
    HwptAllocFlags,
    Ioas,
    Iommufd,
    MockDevice,
    MockDeviceFlags,
    NotSupportedError,
)
from iommufd_py.host import pinned_bytes
from iommufd_py.uapi import iommufd as uapi

BASE = 1 << 24


def test_hw_info(mock: MockDevice) -> None:
    info = mock.hw_info()
    assert info.type is HwInfoType.SELFTEST
    assert info.data[4:8] == (0xDEADBEEF).to_bytes(4, "little")
    assert info.vtd_registers is None


def test_a_stock_mock_hwpt_is_non_coherent_and_says_why(mock: MockDevice, ioas: Ioas) -> None:
    hwpt = mock.alloc_hwpt(ioas, coherency=Coherency.NON_COHERENT)
    assert hwpt.evidence.coherency is Coherency.NON_COHERENT
    assert str(hwpt.evidence) == "VFIO_DMA_CC_IOMMU=0"


def test_a_hwpt_that_is_not_as_asked_is_destroyed(mock: MockDevice, ioas: Ioas) -> None:
    with pytest.raises(CoherencyError, match="is non-coherent, not coherent: VFIO_DMA_CC_IOMMU=0; use a device"):
        mock.alloc_hwpt(ioas, coherency=Coherency.COHERENT)
    # If the HWPT still existed, the IOAS could not be destroyed.
    ioas.close()


def test_evidence_beside_a_hwpt_that_already_decides(mock: MockDevice, ioas: Ioas) -> None:
    mock.alloc_hwpt(ioas)
    assert not ioas.dma_cc()
    second = mock.alloc_hwpt(ioas)
    assert second.evidence.coherency is Coherency.NON_COHERENT


def test_flags_reach_the_kernel(mock: MockDevice, iommufd: Iommufd, ioas: Ioas) -> None:
    assert mock.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING).flags is HwptAllocFlags.DIRTY_TRACKING
    without = MockDevice(iommufd, MockDeviceFlags.NO_DIRTY)
    with pytest.raises(NotSupportedError) as caught:
        without.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_the_kernel_refuses_to_destroy_a_used_object(mock: MockDevice, ioas: Ioas) -> None:
    hwpt = mock.alloc_hwpt(ioas)
    mock.attach(hwpt)
    for object_id in (ioas.id, hwpt.id):
        with pytest.raises(BusyError, match="the object is still used") as caught:
            uapi.destroy(ioas.iommufd.fileno(), object_id)
        assert caught.value.errno == errno.EBUSY


def test_closing_an_ioas_detaches_and_destroys_in_order(mock: MockDevice, ioas: Ioas) -> None:
    hwpt = mock.alloc_hwpt(ioas)
    attachment = mock.attach(hwpt)
    mapping = ioas.map(DmaBuffer(4096), BASE)
    ioas.close()
    assert attachment.closed
    assert hwpt.closed
    assert mapping.closed
    assert mock.attachments == {}
    assert not mock.closed
    with pytest.raises(ClosedError):
        mock.attach(hwpt)
    mapping.buffer.close()


def test_attaching_elsewhere_replaces(mock: MockDevice, iommufd: Iommufd, ioas: Ioas) -> None:
    first, second = mock.alloc_hwpt(ioas), mock.alloc_hwpt(iommufd.alloc_ioas())
    before = mock.attach(first)
    mock.attach(second)
    assert before.closed
    first.close()  # nothing uses it any more
    mock.detach()
    mock.detach()
    second.close()


@pytest.mark.parametrize("order", ["device first", "ioas first", "iommufd only"])
def test_whatever_the_caller_forgot(mock: MockDevice, order: str) -> None:
    before = pinned_bytes()
    iommufd = Iommufd()
    device = MockDevice(iommufd)
    ioas = iommufd.alloc_ioas()
    device.attach(device.alloc_hwpt(ioas))
    ioas.map(DmaBuffer(1 << 20), BASE)
    assert pinned_bytes() == before + (1 << 20)
    if order == "device first":
        device.close()
    elif order == "ioas first":
        ioas.close()
    iommufd.close()
    assert device.closed
    assert ioas.closed
    assert pinned_bytes() == before


def test_hwpt_after_map_gets_the_mappings(mock: MockDevice, ioas: Ioas) -> None:
    with DmaBuffer(8 * 4096) as buffer:
        ioas.map(buffer, BASE)
        before = pinned_bytes()
        mock.attach(ioas)
        assert pinned_bytes() == before + buffer.length
