# SPDX-License-Identifier: MIT
"""Dirty tracking of type1, and mappings whose user address changes."""

import errno
from collections.abc import Iterator

import pytest

from iommufd_py import (
    ArgumentValueError,
    Backing,
    ClosedError,
    ContainerMode,
    DmaBuffer,
    IommufdError,
    IovaRange,
    MapFlags,
    ToolError,
    Type1Container,
    Type1DirtyTracking,
    VfioExtension,
)
from iommufd_py.testing.requirements import need_container
from iommufd_py.uapi import vfio
from tests.conftest import fails

IOVA = 1 << 32
PAGE = 4096
# The bits of these pages end inside the second word of the kernel's bitmap.
PAGES = 70
LENGTH = PAGES * PAGE


@pytest.fixture
def container(bdf: str) -> Iterator[Type1Container]:
    with need_container(ContainerMode.VFIO_TYPE1V2, bdf) as found:
        assert isinstance(found, Type1Container)
        yield found


def test_every_mapped_page_is_dirty(container: Type1Container) -> None:
    with DmaBuffer(LENGTH) as buffer, container.track_dirty() as tracking:
        assert not tracking.read(IOVA, LENGTH)
        first = container.map(buffer, IOVA, length=5 * PAGE)
        container.map(buffer, IOVA + 64 * PAGE, length=2 * PAGE, flags=MapFlags.READABLE)
        for _ in range(2):  # A device can write at any time, so the pages stay dirty.
            assert list(tracking.read(IOVA, LENGTH).ranges()) == [
                IovaRange(IOVA, IOVA + 5 * PAGE - 1),
                IovaRange(IOVA + 64 * PAGE, IOVA + 66 * PAGE - 1),
            ]
        first.close()
        assert len(tracking.read(IOVA, LENGTH)) == 2


def test_no_page_outside_of_the_range_is_reported(container: Type1Container) -> None:
    with DmaBuffer(LENGTH) as buffer, container.track_dirty() as tracking:
        container.map(buffer, IOVA + 3 * PAGE, length=5 * PAGE)
        mapped = IovaRange(IOVA + 3 * PAGE, IOVA + 8 * PAGE - 1)
        assert list(tracking.read(IOVA, LENGTH).ranges()) == [mapped]
        # The kernel still has the bits that it shifted by three for the first read.
        assert list(tracking.read(mapped.start, 5 * PAGE).ranges()) == [mapped]


def test_unmap_returns_the_dirty_pages(container: Type1Container) -> None:
    with DmaBuffer(LENGTH) as buffer, container.track_dirty() as tracking:
        mapping = container.map(buffer, IOVA)
        dirty = tracking.unmap(mapping)
        assert len(dirty) == PAGES
        assert list(dirty.ranges()) == [IovaRange(IOVA, IOVA + LENGTH - 1)]
        with pytest.raises(ClosedError):
            tracking.unmap(mapping)
        container.map(buffer, IOVA).close()


def test_ranges_that_the_kernel_refuses(container: Type1Container) -> None:
    with DmaBuffer(LENGTH) as buffer:
        mapping = container.map(buffer, IOVA)
        with container.track_dirty() as tracking:
            for iova, length, page_bytes in (
                (IOVA + PAGE, PAGE, PAGE),
                (IOVA, LENGTH, 2 * PAGE),
                (IOVA + 1, PAGE, PAGE),
            ):
                with fails(errno.EINVAL):
                    tracking.read(iova, length, page_bytes=page_bytes)
            with fails(errno.EINVAL):
                tracking.unmap(mapping, page_bytes=2 * PAGE)
            with pytest.raises(ArgumentValueError, match="length"):
                tracking.read(IOVA, 0)
            assert len(tracking.read(IOVA, LENGTH)) == PAGES
        with pytest.raises(ClosedError):
            tracking.read(IOVA, LENGTH)
        # Tracking is off now. The kernel reports an error rather than clean pages.
        bits = bytearray(16)
        with fails(errno.EINVAL):
            vfio.iommu_get_dirty_bitmap(container.fileno(), IOVA, LENGTH, PAGE, bits)
        assert not any(bits)


def test_two_trackings_would_end_each_other(container: Type1Container) -> None:
    first = container.track_dirty()
    with pytest.raises(ToolError, match="already: use the present Type1DirtyTracking, or close it first"):
        container.track_dirty()
    first.close()
    container.track_dirty().close()


@pytest.mark.parametrize(
    ("mode", "error"), [(ContainerMode.VFIO_TYPE1, errno.EACCES), (ContainerMode.COMPAT_TYPE1V2, errno.ENOTTY)]
)
def test_containers_without_dirty_tracking(bdf: str, mode: ContainerMode, error: int) -> None:
    with need_container(mode, bdf) as container, pytest.raises(IommufdError, match="VFIO_IOMMU_DIRTY_PAGES") as caught:
        assert isinstance(container, Type1Container)
        Type1DirtyTracking(container)
    assert caught.value.errno == error


def test_the_user_address_of_a_mapping_changes(container: Type1Container) -> None:
    assert vfio.check_extension(container.fileno(), VfioExtension.UPDATE_VADDR)
    with DmaBuffer(LENGTH, Backing.MEMFD) as buffer:
        container.map(buffer, IOVA)
        with fails(errno.EINVAL):
            container.update_user_va(buffer.user_va, LENGTH, IOVA)
        assert container.invalidate_user_va(IOVA, LENGTH) == LENGTH
        with fails(errno.EINVAL):
            container.invalidate_user_va(IOVA, LENGTH)
        with fails(errno.EINVAL):
            container.update_user_va(buffer.user_va, LENGTH - PAGE, IOVA)
        container.update_user_va(buffer.user_va, LENGTH, IOVA)
        assert container.unmap(IOVA, LENGTH) == LENGTH
