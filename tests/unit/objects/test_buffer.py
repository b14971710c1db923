# SPDX-License-Identifier: MIT
"""Page frame numbers of a buffer."""

import os

import pytest

from iommufd_py import Backing, ClosedError, DmaBuffer
from iommufd_py.objects.pagemap import frame_number


def test_a_page_that_is_swapped_out_has_no_frame_number() -> None:
    """Source: Documentation/admin-guide/mm/pagemap.rst: bit 63 is present, bit 62 is swapped (with its place)."""
    assert frame_number(1 << 63 | 0x1234) == 0x1234
    assert frame_number(1 << 63 | 1 << 61 | 1 << 55 | 0x1234) == 0x1234
    assert frame_number(1 << 62 | 0x1234 << 5 | 1) == 0
    assert frame_number(0) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="frame numbers need root")
def test_a_page_that_was_never_touched_has_no_frame_number() -> None:
    with DmaBuffer(3 * 4096, prefault=False) as buffer:
        buffer.view[4096] = 1
        assert [bool(frame) for frame in buffer.frames()] == [False, True, False]
        assert buffer.physical_runs() is None


def test_a_closed_buffer_answers_nothing_about_its_memory() -> None:
    """Other memory can lie at its address by then."""
    buffer = DmaBuffer(4096)
    buffer.close()
    for ask in (buffer.huge_bytes, buffer.frames, buffer.physical_runs, buffer.flush, buffer.invalidate):
        with pytest.raises(ClosedError):
            ask()


@pytest.mark.parametrize(("offset", "length"), [(1, 4095), (0, 100), (4096, 1), (2048, 4096)])
def test_only_whole_pages_are_given_back(offset: int, length: int) -> None:
    """The kernel rounds up the length, so that bytes behind the range would be lost."""
    with DmaBuffer(3 * 4096) as buffer:
        buffer.view[:] = bytes([1]) * buffer.length
        with pytest.raises(ValueError, match="are not whole pages of 4K: give multiples"):
            buffer.give_back(offset, length)
        assert bytes(buffer.view) == bytes([1]) * buffer.length


@pytest.mark.parametrize("backing", [Backing.ANON_4K, Backing.MEMFD, Backing.FRAGMENTED_4])
def test_replaced_pages_are_present_and_cleared(backing: Backing) -> None:
    with DmaBuffer(64 * 4096, backing) as buffer:
        buffer.view[:] = bytes([1]) * buffer.length
        address = buffer.user_va
        buffer.replace_pages()
        assert buffer.user_va == address
        if os.geteuid() == 0:
            assert all(buffer.frames())
        assert bytes(buffer.view) == bytes(buffer.length)


@pytest.mark.parametrize("backing", [Backing.ANON_4K, Backing.MEMFD])
def test_pages_that_are_given_back_are_cleared(backing: Backing) -> None:
    with DmaBuffer(3 * 4096, backing) as buffer:
        buffer.view[:] = bytes([1]) * buffer.length
        buffer.give_back(4096, 4096)
        buffer.give_back(len(buffer.view), 0)
        assert bytes(buffer.view) == bytes([1]) * 4096 + bytes(4096) + bytes([1]) * 4096


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel shows frame numbers to root only")
def test_pages_are_replaced_by_others_each_time() -> None:
    """The kernel reuses the pages that were freed last, in reverse order: every second call would restore the pages."""
    with DmaBuffer(256 * 4096) as buffer:
        layouts = {tuple(buffer.frames())}
        for _ in range(20):
            buffer.replace_pages()
            layouts.add(tuple(buffer.frames()))
        assert len(layouts) > 15
