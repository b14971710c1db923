# SPDX-License-Identifier: MIT
"""The cases of tools/testing/selftests/vfio/vfio_dma_mapping_test.c: fixture vfio_dma_mapping_test."""

import pytest

from iommufd_py import Backing, Container, ContainerMode, vtd
from iommufd_py.objects.buffer import DmaBuffer
from tests.vtd.conftest import huge_pages

VARIANTS = {
    "anonymous": Backing.ANON_4K,
    "anonymous_hugetlb_2mb": Backing.HUGETLB_2M,
    "anonymous_hugetlb_1gb": Backing.HUGETLB_1G,
}


@pytest.mark.parametrize("backing", VARIANTS.values(), ids=VARIANTS)
def test_dma_map_unmap(container: Container, mode: ContainerMode, backing: Backing) -> None:
    size = backing.page_bytes
    iova = container.iova_ranges().first_fit(size, size)
    assert iova is not None
    with huge_pages(backing), DmaBuffer(size, backing) as buffer:
        mapping = container.map(buffer, iova)
        assert mapping.user_va == buffer.user_va
        leaves = vtd.leaf_sizes(container.device.bdf, iova, size)
        if leaves is not None:
            # v1 may unmap any part of a mapping. iommufd imitates this by mapping 4K pages only.
            leaf = 4096 if mode is ContainerMode.COMPAT_TYPE1 else size
            assert leaves == {leaf: size // leaf}
        assert container.unmap(iova, size) == size
        assert mapping.closed
        assert not vtd.leaf_sizes(container.device.bdf, iova, size)
