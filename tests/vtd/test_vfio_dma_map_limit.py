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
    with Iommufd() as iommufd:
        # VFIO's type1 of 6.12 answers EINVAL. Other missing features identify such a kernel.
        old = not iommufd.probe()["IOMMU_HW_QUEUE_ALLOC"]
    legacy = mode in (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
    expected = errno.EINVAL if legacy and old else errno.EOVERFLOW
    iova = (1 << 64) - PAGE
    with DmaBuffer(2 * PAGE) as buffer:
        with pytest.raises(IommufdError) as caught:
            container.map(buffer, iova)
        assert caught.value.errno == expected
        with pytest.raises(IommufdError) as caught:
            container.unmap(iova, buffer.length)
        assert caught.value.errno == expected
