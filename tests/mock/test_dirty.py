# SPDX-License-Identifier: MIT
"""Dirty tracking as an object; test_iommufd_dirty_tracking.py has the kernel's own cases."""

import pytest

from iommufd_py import (
    DirtyBitmap,
    DmaBuffer,
    HwptAllocFlags,
    Ioas,
    IovaRange,
    MockDevice,
    NotSupportedError,
    ToolError,
)
from iommufd_py.mock import set_dirty
from tests.mock.conftest import need_page_tables

PAGE = 4096
BASE = 1 << 24


def test_dirty_pages_are_read_once(mock: MockDevice, ioas: Ioas) -> None:
    need_page_tables(mock, ioas)
    ioas.huge_pages = False  # a larger leaf has one dirty bit for all of it
    hwpt = mock.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    with DmaBuffer(64 * PAGE) as buffer, ioas.map(buffer, BASE), hwpt.track_dirty() as tracking:
        touched = DirtyBitmap(BASE, buffer.length, PAGE, bytes([0b101, 0, 0, 0, 0, 0, 0, 0x80]))
        assert set_dirty(hwpt, touched) == 3
        assert tracking.read(BASE, buffer.length, clear=False) == touched
        found = tracking.read(BASE, buffer.length)
        assert found == touched
        assert len(found) == 3
        assert list(found.ranges()) == [
            IovaRange(BASE, BASE + PAGE - 1),
            IovaRange(BASE + 2 * PAGE, BASE + 3 * PAGE - 1),
            IovaRange(BASE + 63 * PAGE, BASE + 64 * PAGE - 1),
        ]
        assert not tracking.read(BASE, buffer.length)


def test_a_range_that_ends_inside_a_byte(mock: MockDevice, ioas: Ioas) -> None:
    need_page_tables(mock, ioas)
    ioas.huge_pages = False
    hwpt = mock.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    with DmaBuffer(3 * PAGE) as buffer, ioas.map(buffer, BASE), hwpt.track_dirty() as tracking:
        set_dirty(hwpt, DirtyBitmap(BASE, buffer.length, PAGE, bytes([0b110])))
        found = tracking.read(BASE, buffer.length)
        assert found.bits == bytes([0b110])
        assert BASE not in found
        assert BASE + 3 * PAGE - 1 in found
        assert BASE + 3 * PAGE not in found


def test_tracking_needs_a_hwpt_made_for_it(mock: MockDevice, ioas: Ioas) -> None:
    with pytest.raises(NotSupportedError, match="not made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING"):
        mock.alloc_hwpt(ioas).track_dirty()


def test_two_trackings_would_end_each_other(mock: MockDevice, ioas: Ioas) -> None:
    hwpt = mock.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    first = hwpt.track_dirty()
    with pytest.raises(ToolError, match="tracks its dirty pages already: use the present DirtyTracking, or close it"):
        hwpt.track_dirty()
    first.close()
    hwpt.track_dirty().close()


def test_closing_the_hwpt_ends_the_tracking(mock: MockDevice, ioas: Ioas) -> None:
    hwpt = mock.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING)
    tracking = hwpt.track_dirty()
    hwpt.close()
    assert tracking.closed
