# SPDX-License-Identifier: MIT
"""The cost model of the flush rules on a VFIO device: what is flushed, by the counters of the patched kernel."""

import pytest

from iommufd_py import Backing, Coherency, FlushCount, Iommufd
from iommufd_py.bench import runner
from iommufd_py.sysinfo import NONCOHERENT_KNOB
from tests.conftest import need_flush_count

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "backing", "calls"),
    [
        (4096, Backing.ANON_4K, 1),
        (2 * MIB, Backing.ANON_4K, None),
        (2 * MIB, Backing.HUGETLB_2M, 1),
        (2 * MIB, Backing.THP, 1),
    ],
)
def test_each_page_once_at_map_and_once_at_unpin(
    iommufd: Iommufd, bdf: str, size: int, backing: Backing, calls: int | None
) -> None:
    need_flush_count(iommufd)
    result = runner.run(runner.Plan(bdf, (size,), backing=backing, rounds=1))
    (row,) = result.rows
    non_coherent = result.target.evidence.coherency is Coherency.NON_COHERENT
    for flush in (row.map_flush, row.unmap_flush):
        assert flush is not None
        assert flush.pages == (size // 4096 if non_coherent else 0)
        if calls is not None:
            assert flush.calls == (calls if non_coherent else 0)


def test_knob_makes_an_iommu_that_could_enforce_coherency_non_coherent(iommufd: Iommufd, bdf: str) -> None:
    need_flush_count(iommufd)
    before = NONCOHERENT_KNOB.read_text()
    NONCOHERENT_KNOB.write_text("Y")
    try:
        result = runner.run(runner.Plan(bdf, (4096,), coherency=Coherency.NON_COHERENT, rounds=1))
    finally:
        NONCOHERENT_KNOB.write_text(before)
    assert result.environment.noncoherent_knob
    assert not result.target.evidence.dma_cc
    assert result.rows[0].map_flush == result.rows[0].unmap_flush == FlushCount(calls=1, pages=1)
