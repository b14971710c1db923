# SPDX-License-Identifier: MIT
"""The cases of fixture `iommufd_ioas` about areas, IOVAs, copies and options."""

import errno
from collections.abc import Iterator

import pytest

from iommufd_py import (
    Backing,
    DmaBuffer,
    Ioas,
    Iommufd,
    IovaRange,
    MapFlags,
    MockDevice,
)
from iommufd_py.mock import (
    APERTURE,
    PAGE_BYTES,
    add_reserved,
)
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import address_of_buffer, issue
from iommufd_py.uapi.ffi import lib
from tests.conftest import fails, need_flush_count, need_huge_pages

PAGE = 4096
ALL = (1 << 64) - 1


def test_ioas_auto_destroy(iommufd: Iommufd) -> None:
    iommufd.close()


def test_ioas_destroy(devices: list[MockDevice], ioas: Ioas) -> None:
    if devices:
        with fails(errno.EBUSY):
            uapi.destroy(ioas.iommufd.fileno(), ioas.id)
    else:
        ioas.close()


def test_ioas_area_destroy(devices: list[MockDevice], ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    ioas.map_user_va(shared_buffer.user_va, PAGE, base)
    if devices:
        with fails(errno.EBUSY):
            uapi.destroy(ioas.iommufd.fileno(), ioas.id)
    else:
        ioas.close()


def test_ioas_area_auto_destroy(ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    for i in range(10):
        ioas.map_user_va(shared_buffer.user_va, PAGE, base + i * PAGE)
    ioas.iommufd.close()


def test_area(ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    for i in range(10):
        with fails(errno.ENOENT):
            ioas.unmap(i * PAGE, PAGE)
    for i in range(10):
        ioas.map_user_va(shared_buffer.user_va, PAGE, base + i * PAGE)
    for i in range(10):
        assert ioas.unmap(base + i * PAGE, PAGE) == PAGE

    # Two pages in one area: half of it cannot be unmapped, and nothing can be mapped over it.
    ioas.map_user_va(shared_buffer.user_va, 2 * PAGE, base + 16 * PAGE)
    for page in (16, 17):
        with fails(errno.ENOENT):
            ioas.unmap(base + page * PAGE, PAGE)
    for page, pages in ((16, 2), (16, 1), (17, 1), (15, 2), (15, 3)):
        with fails(errno.EEXIST):
            ioas.map_user_va(shared_buffer.user_va, pages * PAGE, base + page * PAGE)
    assert ioas.unmap_all() == 2 * PAGE
    assert ioas.unmap_all() == 0


def test_unmap_fully_contained_areas(ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    base += 4 * PAGE  # This leaves room before the first area.
    for i in range(4):
        ioas.map_user_va(shared_buffer.user_va, 8 * PAGE, base + i * 16 * PAGE)
    for start in (base - 4 * PAGE, base + (3 * 16 + 4) * PAGE):
        with fails(errno.ENOENT):
            ioas.unmap(start, 8 * PAGE)
    assert ioas.unmap(base - 4 * PAGE, (4 + 3 * 16 + 8) * PAGE) == 4 * 8 * PAGE


@pytest.fixture
def aligned_va(iommufd: Iommufd) -> Iterator[int]:
    """The address of 2M of memory, aligned to 2M: the kernel gives an IOVA at most the alignment of its memory."""
    need_huge_pages()
    with DmaBuffer(2 << 20, Backing.THP) as buffer:
        yield buffer.user_va
        iommufd.close()


def auto_iovas(ioas: Ioas, user_va: int) -> list[int]:
    """Map 1 to 10 pages at IOVAs of the kernel's choice, which must be aligned to the length's lowest bit; unmap."""
    iovas = []
    for pages in range(1, 11):
        iova = ioas.map_user_va(user_va, pages * PAGE)
        assert iova % (pages * PAGE & -(pages * PAGE)) == 0
        iovas.append(iova)
    for pages, iova in enumerate(iovas, 1):
        ioas.unmap(iova, pages * PAGE)
    return iovas


def test_area_auto_iova(devices: list[MockDevice], ioas: Ioas, aligned_va: int) -> None:
    singles = [ioas.map_user_va(aligned_va, PAGE) for _ in range(10)]
    assert len(set(singles)) == 10
    for iova in singles:
        ioas.unmap(iova, PAGE)
    # Without a domain nothing is pinned, so the memory need not exist.
    auto_iovas(ioas, aligned_va if devices else 1 << 31)

    reserved = IovaRange(4 * PAGE, 104 * PAGE - 1)
    add_reserved(ioas, reserved.start, 100 * PAGE)
    for pages, iova in enumerate(auto_iovas(ioas, aligned_va), 1):
        assert iova > reserved.last or iova + pages * PAGE <= reserved.start

    with fails(errno.EADDRINUSE):
        ioas.allow_iovas([IovaRange(PAGE, 600 * PAGE)])
    allowed = (
        IovaRange(APERTURE.start + PAGE, APERTURE.start + 600 * PAGE - 1)
        if devices
        else IovaRange(200 * PAGE, 600 * PAGE - 1)
    )
    ioas.allow_iovas([allowed])
    for pages, iova in enumerate(auto_iovas(ioas, aligned_va), 1):
        assert allowed.contains(iova, pages * PAGE)


def test_reserved_overflow(ioas: Ioas, aligned_va: int) -> None:
    """Reserve all but the last 32K, from an odd address: the search for a free IOVA must not wrap around."""
    add_reserved(ioas, 6, 0xFFFF_FFFF_FFFF_8001)
    with fails(errno.ENOSPC):
        ioas.map_user_va(aligned_va, 5 * PAGE)


def test_area_allowed(ioas: Ioas, base: int) -> None:
    wanted = IovaRange(base, base + 600 * PAGE)
    ioas.allow_iovas([wanted])
    with fails(errno.EADDRINUSE):
        add_reserved(ioas, base + PAGE, PAGE)
    ioas.allow_iovas([])
    add_reserved(ioas, base + PAGE, PAGE)
    with fails(errno.EADDRINUSE):
        ioas.allow_iovas([wanted])


def test_copy_area(iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    source = ioas.map(shared_buffer, base, length=PAGE)
    assert ioas.copy(source, base + PAGE, flags=MapFlags.WRITEABLE).iova == base + PAGE
    assert iommufd.alloc_ioas().copy(source, 0, flags=MapFlags.WRITEABLE).iova == 0


def test_copy_unaligned_areas(iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Each area of the source must be aligned for the destination. Otherwise mainline maps beyond the memory."""
    need_flush_count(iommufd)  # the fix is in the same series
    start = APERTURE.start
    source = iommufd.alloc_ioas()
    source.map_user_va(shared_buffer.user_va, PAGE_BYTES, start)
    source.map_user_va(shared_buffer.user_va + PAGE, PAGE - PAGE_BYTES, start + PAGE_BYTES)
    ioas.huge_pages = False
    with fails(errno.EINVAL):
        ioas.copy_iova(source, start, PAGE, start)
    assert ioas.unmap_all() == 0
    ioas.map_user_va(shared_buffer.user_va, PAGE, start)


def test_iova_ranges(devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas) -> None:
    everything = APERTURE if devices else IovaRange(0, ALL)

    def ask(room: int) -> tuple[int, bytes]:
        ranges = bytearray(16 * 4)
        try:
            answer = issue(
                iommufd.fileno(),
                "IOMMU_IOAS_IOVA_RANGES",
                "iommu_ioas_iova_ranges",
                ioas_id=ioas.id,
                num_iovas=room,
                allowed_iovas=address_of_buffer(ranges),
            )
        except OSError as failure:
            assert failure.errno == errno.EMSGSIZE
            return -1, bytes(ranges)
        return int(answer.num_iovas), bytes(ranges)

    found = ioas.iova_ranges()
    assert found.ranges == (everything,)
    assert found.alignment == (PAGE_BYTES if devices else 1)
    assert ask(0) == (-1, bytes(64))

    add_reserved(ioas, PAGE, PAGE)
    two = (IovaRange(0, PAGE - 1), IovaRange(2 * PAGE, ALL))
    assert ioas.iova_ranges().ranges == ((everything,) if devices else two)
    count, ranges = ask(1)
    first = everything if devices else two[0]
    assert count == (1 if devices else -1)
    assert ranges == first.start.to_bytes(8, "little") + first.last.to_bytes(8, "little") + bytes(48)


def test_ioas_option_huge_pages(ioas: Ioas) -> None:
    assert ioas.huge_pages
    ioas.huge_pages = False
    assert not ioas.huge_pages
    with fails(errno.EINVAL):
        uapi.option_set(ioas.iommufd.fileno(), lib.IOMMU_OPTION_HUGE_PAGES, 2, ioas.id)
    ioas.huge_pages = True


def test_ioas_iova_alloc(devices: list[MockDevice], ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Map lengths near every multiple of 1K up to two pages. A domain takes multiples of the mock's page only."""
    for length in (near + i for near in range(0, 2 * PAGE + 1, 1024) for i in (-2, -1, 0, 1, 2) if near + i > 0):
        if devices and length % PAGE_BYTES:
            with fails(errno.EINVAL):
                ioas.map_user_va(shared_buffer.user_va, length)
        else:
            ioas.unmap(ioas.map_user_va(shared_buffer.user_va, length), length)


def test_ioas_align_change(devices: list[MockDevice], ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Without huge pages all maps are aligned to PAGE_SIZE. The option cannot change with a domain or a map."""
    if devices:
        return
    user_va, base = shared_buffer.user_va, APERTURE.start
    ioas.map_user_va(user_va, PAGE, base)
    ioas.huge_pages = False
    with fails(errno.EINVAL):
        ioas.map_user_va(user_va + PAGE_BYTES, PAGE, base + PAGE)
    ioas.huge_pages = False
    ioas.huge_pages = True
    ioas.map_user_va(user_va + PAGE_BYTES, PAGE, base + PAGE)
    with fails(errno.EADDRINUSE):
        ioas.huge_pages = False
    ioas.unmap(base + PAGE, PAGE)
    ioas.unmap(base, PAGE)


def test_copy_sweep(devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    start, length = APERTURE.start, shared_buffer.length - (0 if devices else 1)
    ioas.map(shared_buffer, start, length=length)
    with iommufd.alloc_ioas() as other:
        for iova in range(start - PAGE, start + length, 511):
            if iova < start or iova + PAGE_BYTES > start + length:
                with fails(errno.ENOENT):
                    other.copy_iova(ioas, iova, PAGE_BYTES, start)
            else:
                other.copy_iova(ioas, iova, PAGE_BYTES, start)
                other.unmap(start, PAGE_BYTES)
