# SPDX-License-Identifier: MIT
import pytest

from iommufd_py import Backing, vtd


@pytest.mark.vtd(own_group=True)
def test_huge_pages_become_2m_leaves(vfio_device, ioas, dma_buffer):
    vfio_device.attach(vfio_device.alloc_hwpt(ioas))
    mapping = ioas.map(dma_buffer(4 << 20, Backing.HUGETLB_2M))
    assert vtd.leaf_sizes(vfio_device.bdf, mapping.iova, mapping.length) == {2 << 20: 2}
