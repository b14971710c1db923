# SPDX-License-Identifier: MIT
"""The number of flushes on a VFIO device, by the counters of the patched kernel."""

import pytest

from iommufd_py import Backing, Coherency, FlushCount, Iommufd
from iommufd_py.bench import runner
from iommufd_py.host import NONCOHERENT_KNOB
from iommufd_py.results.model import BenchResult, Point, Workload
from tests.conftest import need_flush_count
from tests.vtd.conftest import huge_pages

MIB = 1 << 20


def measured(bdf: str, point: Point, coherency: Coherency = Coherency.ANY) -> BenchResult:
    return runner.measure(runner.Plan(bdf, (point,), coherency, retry=False, processes=1, values=1))


def flushes(result: BenchResult) -> list[FlushCount | None]:
    """Return the flushes of one map and one unmap."""
    operations = result.rows[0].runs[0].operations
    return [operations[name].flush for name in ("map", "unmap")]


@pytest.mark.parametrize(
    ("size", "backing", "calls"),
    [
        (4096, Backing.ANON_4K, 1),
        (2 * MIB, Backing.ANON_4K, None),
        (2 * MIB, Backing.HUGETLB_2M, 1),
        (2 * MIB, Backing.THP, 1),
        (1024 * MIB, Backing.HUGETLB_1G, 1),
    ],
)
def test_each_page_once_at_map_and_once_at_unpin(
    iommufd: Iommufd, bdf: str, size: int, backing: Backing, calls: int | None
) -> None:
    need_flush_count(iommufd)
    with huge_pages(backing):
        result = measured(bdf, Point(Workload.MAP, size, backing))
    non_coherent = result.target.evidence.coherency is Coherency.NON_COHERENT
    for flush in flushes(result):
        assert flush is not None
        assert flush.pages == (size // 4096 if non_coherent else 0)
        if calls is not None:
            assert flush.calls == (calls if non_coherent else 0)


def test_knob_makes_an_iommu_that_could_enforce_coherency_non_coherent(iommufd: Iommufd, bdf: str) -> None:
    need_flush_count(iommufd)
    before = NONCOHERENT_KNOB.read_text()
    NONCOHERENT_KNOB.write_text("Y")
    try:
        result = measured(bdf, Point(Workload.MAP, 4096), Coherency.NON_COHERENT)
    finally:
        NONCOHERENT_KNOB.write_text(before)
    assert result.environment.noncoherent_knob
    assert not result.target.evidence.dma_cc
    assert flushes(result) == [FlushCount(calls=1, pages=1)] * 2
