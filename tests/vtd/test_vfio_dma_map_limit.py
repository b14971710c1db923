# SPDX-License-Identifier: MIT
"""The cases of tools/testing/selftests/vfio/vfio_dma_mapping_test.c: fixture vfio_dma_map_limit_test."""

import errno

import pytest

from iommufd_py import Container, ContainerMode, DmaBuffer, Iommufd, IommufdError

PAGE = 4096


@pytest.fixture
def last_page(container: Container) -> int:
    return container.iova_ranges().ranges[-1].last & -PAGE


def test_unmap_range(container: Container, last_page: int) -> None:
    with DmaBuffer(PAGE) as buffer:
        mapping = container.map(buffer, last_page)
        assert container.unmap(last_page, PAGE) == PAGE
        assert mapping.closed


def test_unmap_all(container: Container, last_page: int) -> None:
    with DmaBuffer(PAGE) as buffer:
        mapping = container.map(buffer, last_page)
        assert container.unmap_all() == PAGE
        assert mapping.closed


def test_overflow(container: Container, mode: ContainerMode) -> None:
    legacy = mode in (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
    with Iommufd() as iommufd:
        # Until 6.18 VFIO's type1 said EINVAL. What such a kernel lacks besides tells it from one that is broken.
        old = not iommufd.probe()["IOMMU_HW_QUEUE_ALLOC"]
    if legacy and old:
        pytest.skip("this kernel's type1 answers EINVAL to an overflow (EOVERFLOW since Linux 6.19)")
    iova = (1 << 64) - PAGE
    with DmaBuffer(2 * PAGE) as buffer:
        with pytest.raises(IommufdError, match="EOVERFLOW: the IOVA plus the length goes past the end") as caught:
            container.map(buffer, iova)
        assert caught.value.errno == errno.EOVERFLOW
        with pytest.raises(IommufdError, match="EOVERFLOW: the IOVA plus the length goes past the end") as caught:
            container.unmap(iova, buffer.length)
        assert caught.value.errno == errno.EOVERFLOW
