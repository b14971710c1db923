# SPDX-License-Identifier: MIT
"""Nested HWPTs, PASIDs and other attach targets, as objects."""

import errno

import pytest

from iommufd_py import (
    ArgumentValueError,
    Hwpt,
    HwptAllocFlags,
    HwptInvalidateType,
    InvalidFieldError,
    Ioas,
    Iommufd,
    IommufdError,
    MockDevice,
    MockDeviceFlags,
    SkipError,
    vtd_stage1,
    vtd_stage1_invalidation,
)
from iommufd_py.dma.pasid import attach_pasid
from iommufd_py.mock import (
    IOTLB_DEFAULT,
    PASID_RESERVED,
    PASID_WIDTH,
    check_iotlb,
    hwpt_data,
    hwpt_invalidation,
    mock_makes,
)

PASID = 100


@pytest.fixture
def parent(mock: MockDevice, ioas: Ioas) -> Hwpt:
    return mock.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)


def test_invalidation(mock: MockDevice, parent: Hwpt) -> None:
    nested = mock.alloc_nested(parent, hwpt_data())
    assert nested.invalidate(HwptInvalidateType.SELFTEST, hwpt_invalidation(0), hwpt_invalidation(1)) == 2
    for index, value in enumerate((0, 0, IOTLB_DEFAULT, IOTLB_DEFAULT)):
        check_iotlb(nested, index, value)
    with pytest.raises(InvalidFieldError):
        check_iotlb(nested, 0, IOTLB_DEFAULT)
    assert nested.invalidate(HwptInvalidateType.SELFTEST) == 0


def test_an_invalidation_that_stops_half_way_says_where(mock: MockDevice, parent: Hwpt) -> None:
    nested = mock.alloc_nested(parent, hwpt_data())
    with pytest.raises(InvalidFieldError, match="handled=1") as caught:
        nested.invalidate(HwptInvalidateType.SELFTEST, hwpt_invalidation(0), hwpt_invalidation(99))
    assert caught.value.arguments["handled"] == 1
    check_iotlb(nested, 0, 0)


def test_entries_of_one_call_are_of_one_kind(mock: MockDevice, parent: Hwpt) -> None:
    nested = mock.alloc_nested(parent, hwpt_data())
    with pytest.raises(ValueError, match="2 different sizes"):
        nested.invalidate(HwptInvalidateType.SELFTEST, hwpt_invalidation(0), b"")


def test_vtd_data_has_the_layout_of_the_uapi(mock: MockDevice, parent: Hwpt) -> None:
    data = vtd_stage1(0x1234_5000, 48)
    assert data.content == bytes(8) + (0x1234_5000).to_bytes(8, "little") + (48).to_bytes(4, "little") + bytes(4)
    assert vtd_stage1_invalidation(0x2000, 3, leaf_only=True) == b"".join(
        value.to_bytes(8, "little") for value in (0x2000, 3, 1)
    )
    # The mock driver refuses data for VT-d.
    with pytest.raises(IommufdError) as caught:
        mock.alloc_nested(parent, data)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_closing_the_parent_closes_what_is_nested_in_it(mock: MockDevice, parent: Hwpt) -> None:
    nested = mock.alloc_nested(parent, hwpt_data())
    attachment = mock.attach(nested)
    parent.close()
    assert nested.closed
    assert attachment.closed
    assert mock.attachments == {}


@pytest.fixture
def with_pasids(iommufd: Iommufd, mock: MockDevice) -> MockDevice:
    if not mock_makes(iommufd, MockDeviceFlags.PASID):
        pytest.skip("this kernel's mock device has no PASIDs (since Linux 6.15)")
    device = MockDevice(iommufd, MockDeviceFlags.PASID)
    assert device.hw_info().max_pasid_log2 == PASID_WIDTH
    return device


def test_pasids_are_attached_one_by_one(with_pasids: MockDevice, ioas: Ioas) -> None:
    hwpts = [with_pasids.alloc_hwpt(ioas, flags=HwptAllocFlags.PASID) for _ in range(3)]
    with_pasids.attach(hwpts[0])
    first = with_pasids.attach(hwpts[1], PASID)
    assert first.hwpt_id == hwpts[1].id
    with_pasids.check_pasid(PASID, hwpts[1].id)
    with_pasids.attach(hwpts[2], PASID)
    assert first.closed
    with_pasids.check_pasid(PASID, hwpts[2].id)
    hwpts[1].close()  # nothing uses it any more
    with_pasids.detach(PASID)
    with_pasids.detach(PASID)
    with_pasids.check_pasid(PASID, 0)
    assert list(with_pasids.attachments) == [None]


def test_a_pasid_has_an_address_space_and_its_device_another(with_pasids: MockDevice, ioas: Ioas) -> None:
    attach_pasid(with_pasids, ioas, PASID)
    of_device, of_pasid = (with_pasids.attachments[key].target for key in (None, PASID))
    assert isinstance(of_device, Hwpt)
    assert isinstance(of_pasid, Hwpt)
    assert (of_device.ioas is ioas, of_pasid.ioas is ioas) == (False, True)
    with_pasids.check_pasid(PASID, of_pasid.id)
    with_pasids.detach(PASID)  # the mock device returns to another IOAS only without PASIDs


def test_a_pasid_that_the_device_does_not_have_is_refused(
    with_pasids: MockDevice, mock: MockDevice, ioas: Ioas
) -> None:
    with pytest.raises(ArgumentValueError, match=f"has PASIDs up to {(1 << PASID_WIDTH) - 1}, not {1 << PASID_WIDTH}"):
        attach_pasid(with_pasids, ioas, 1 << PASID_WIDTH)
    with pytest.raises(SkipError, match=r"has no PASIDs: .*intel_iommu=sm_on"):
        attach_pasid(mock, ioas, PASID)
    assert not with_pasids.attachments


def test_a_replacement_that_fails_leaves_what_was(with_pasids: MockDevice, ioas: Ioas) -> None:
    hwpts = [with_pasids.alloc_hwpt(ioas, flags=HwptAllocFlags.PASID) for _ in range(2)]
    with_pasids.attach(hwpts[0])
    before = with_pasids.attach(hwpts[0], PASID_RESERVED)
    with pytest.raises(IommufdError) as caught:
        with_pasids.attach(hwpts[1], PASID_RESERVED)
    assert caught.value.errno == errno.ENOMEM
    assert with_pasids.attachments[PASID_RESERVED] is before
    with_pasids.check_pasid(PASID_RESERVED, hwpts[0].id)


def test_closing_the_device_detaches_its_pasids(with_pasids: MockDevice, ioas: Ioas) -> None:
    hwpt = with_pasids.alloc_hwpt(ioas, flags=HwptAllocFlags.PASID)
    with_pasids.attach(hwpt)
    with_pasids.attach(hwpt, PASID)
    with_pasids.close()
    hwpt.close()


def test_a_device_made_on_its_target(iommufd: Iommufd, mock: MockDevice, ioas: Ioas) -> None:
    device = MockDevice(iommufd, target=ioas)
    hwpt_id = device.attachments[None].hwpt_id
    assert mock.attach(ioas).hwpt_id == hwpt_id
    ioas.close()
    assert device.attachments == {}
    assert not device.closed
