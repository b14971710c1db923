# SPDX-License-Identifier: MIT
"""The three rules for flushing DMA pages in non-coherent domains, by the counters of the patched kernel.

Rule 1: a map into an IOAS with a non-coherent domain flushes each page once, before it enters any domain.
Rule 2: a non-coherent domain that joins a populated IOAS flushes each page before it enters that domain, always.
Rule 3: pages that were ever marked so are flushed before they are unpinned, and at no other time.
"""

from collections.abc import Callable, Iterator

import pytest

from iommufd_py import (
    Backing,
    Coherency,
    CoherencyError,
    DmaBuffer,
    DmaMapping,
    FlushCount,
    HwptAllocFlags,
    Ioas,
    Iommufd,
    MockAccess,
    MockDevice,
    MockDeviceFlags,
)
from iommufd_py.objects.pagemap import contiguous_runs
from tests.conftest import need_flush_count, need_huge_pages, need_ioctl, need_mock_driver

PAGE = 4096
BASE = 1 << 24
PAGES = 16


@pytest.fixture
def flushed(iommufd: Iommufd) -> Callable[[], int]:
    """Return the number of pages flushed since the last call."""
    last = need_flush_count(iommufd)
    need_mock_driver(iommufd)

    def since() -> int:
        nonlocal last
        before, last = last, need_flush_count(iommufd)
        return (last - before).pages

    return since


@pytest.fixture
def non_coherent(iommufd: Iommufd, flushed: Callable[[], int]) -> MockDevice:
    return MockDevice(iommufd)


@pytest.fixture
def coherent(iommufd: Iommufd, flushed: Callable[[], int]) -> MockDevice:
    return MockDevice(iommufd, MockDeviceFlags.COHERENT)


@pytest.fixture(params=[Backing.ANON_4K, Backing.MEMFD])
def buffer(request: pytest.FixtureRequest, iommufd: Iommufd) -> Iterator[DmaBuffer]:
    if request.param is Backing.MEMFD:
        need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    with DmaBuffer(PAGES * PAGE, request.param) as memory:
        yield memory


def mapped(ioas: Ioas, buffer: DmaBuffer) -> DmaMapping:
    """Map a memfd as a file, which pins its folios; map anonymous memory by its address."""
    return ioas.map(buffer, BASE) if buffer.fd is None else ioas.map_file(buffer, BASE)


def test_coherency_of_the_mocks(coherent: MockDevice, non_coherent: MockDevice, ioas: Ioas) -> None:
    for device, is_, is_not in (
        (coherent, Coherency.COHERENT, Coherency.NON_COHERENT),
        (non_coherent, Coherency.NON_COHERENT, Coherency.COHERENT),
    ):
        hwpt = device.alloc_hwpt(ioas, coherency=is_)
        assert hwpt.evidence.coherency is is_
        with pytest.raises(CoherencyError, match=f"is {is_}, not {is_not}"):
            device.alloc_hwpt(ioas, coherency=is_not)


def test_coherent_never_flushes(
    coherent: MockDevice, ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int]
) -> None:
    hwpt = coherent.alloc_hwpt(ioas)
    with mapped(ioas, buffer):
        second = coherent.alloc_hwpt(ioas)
        hwpt.close()
        second.close()
    assert flushed() == 0


def test_no_domain_never_flushes(ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int]) -> None:
    mapped(ioas, buffer).close()
    assert flushed() == 0


def test_map_and_unmap(non_coherent: MockDevice, ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int]) -> None:
    non_coherent.attach(ioas)
    mapping = mapped(ioas, buffer)
    assert flushed() == PAGES
    mapping.close()
    assert flushed() == PAGES


@pytest.mark.parametrize("domains", [2, 3])
def test_map_flushes_once_however_many_domains(
    non_coherent: MockDevice, ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int], domains: int
) -> None:
    for _ in range(domains):
        non_coherent.alloc_hwpt(ioas)
    mapping = mapped(ioas, buffer)
    assert flushed() == PAGES
    mapping.close()
    assert flushed() == PAGES


def test_one_of_each(
    coherent: MockDevice, non_coherent: MockDevice, ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int]
) -> None:
    coherent.alloc_hwpt(ioas)
    non_coherent.alloc_hwpt(ioas)
    with mapped(ioas, buffer):
        assert flushed() == PAGES
    assert flushed() == PAGES


def test_non_coherent_joins_pages_from_nowhere(
    non_coherent: MockDevice, ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int]
) -> None:
    mapped(ioas, buffer)
    hwpt = non_coherent.alloc_hwpt(ioas)
    assert flushed() == PAGES
    hwpt.close()  # the last holder unpins
    assert flushed() == PAGES


def test_non_coherent_joins_a_coherent_one_and_leaves_first(
    coherent: MockDevice, non_coherent: MockDevice, ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int]
) -> None:
    keeps = coherent.alloc_hwpt(ioas)
    mapped(ioas, buffer)
    assert flushed() == 0
    joins = non_coherent.alloc_hwpt(ioas)
    assert flushed() == PAGES
    joins.close()  # unmapped, but the coherent domain keeps the pages pinned
    assert flushed() == 0
    keeps.close()  # the mark outlives the domain that set it
    assert flushed() == PAGES


def test_coherent_joins_a_non_coherent_one(
    coherent: MockDevice, non_coherent: MockDevice, ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int]
) -> None:
    non_coherent.alloc_hwpt(ioas)
    mapped(ioas, buffer)
    assert flushed() == PAGES
    coherent.alloc_hwpt(ioas)
    assert flushed() == 0


def test_second_non_coherent_joins_and_flushes_again(
    non_coherent: MockDevice, ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int]
) -> None:
    non_coherent.alloc_hwpt(ioas)
    mapped(ioas, buffer)
    assert flushed() == PAGES
    non_coherent.alloc_hwpt(ioas)  # the mark is no reason to skip the flush
    assert flushed() == PAGES


def test_disjoint_parts_of_shared_pages(
    coherent: MockDevice, non_coherent: MockDevice, iommufd: Iommufd, ioas: Ioas, flushed: Callable[[], int]
) -> None:
    """Two areas map different parts of one iopt_pages: the mark set by one does not excuse the other."""
    first, second = iommufd.alloc_ioas(), iommufd.alloc_ioas()
    with DmaBuffer(PAGES * PAGE) as buffer:
        whole = ioas.map(buffer, BASE)
        first.copy(whole, BASE, length=4 * PAGE)
        second.copy(whole, BASE, offset=8 * PAGE, length=4 * PAGE)
        non_coherent.alloc_hwpt(first)
        assert flushed() == 4
        non_coherent.alloc_hwpt(second)
        assert flushed() == 4
        coherent.alloc_hwpt(ioas)
        assert flushed() == 0


def test_copy_into_a_non_coherent_ioas(
    coherent: MockDevice, non_coherent: MockDevice, iommufd: Iommufd, ioas: Ioas, flushed: Callable[[], int]
) -> None:
    other = iommufd.alloc_ioas()
    coherent.alloc_hwpt(ioas)
    non_coherent.alloc_hwpt(other)
    with DmaBuffer(PAGES * PAGE) as buffer:
        source = ioas.map(buffer, BASE)
        assert flushed() == 0
        copy = other.copy(source, BASE)
        assert flushed() == PAGES
        copy.close()
        assert flushed() == 0  # the source still pins them
        source.close()
        assert flushed() == PAGES


def test_access_keeps_the_pages_after_the_domain(
    non_coherent: MockDevice, ioas: Ioas, flushed: Callable[[], int]
) -> None:
    with DmaBuffer(PAGES * PAGE) as buffer:
        ioas.map(buffer, BASE)
        hwpt = non_coherent.alloc_hwpt(ioas)
        access = MockAccess(ioas, pins=True)
        access.pin(BASE, 4 * PAGE, buffer.user_va)
        assert flushed() == PAGES
        hwpt.close()
        assert flushed() == PAGES - 4  # the access still pins the others
        access.close()
        assert flushed() == 4


def test_replace_detach_and_close(
    coherent: MockDevice,
    non_coherent: MockDevice,
    iommufd: Iommufd,
    ioas: Ioas,
    buffer: DmaBuffer,
    flushed: Callable[[], int],
) -> None:
    mapped(ioas, buffer)
    hwpt = non_coherent.alloc_hwpt(ioas)
    assert flushed() == PAGES
    non_coherent.attach(hwpt)
    non_coherent.attach(non_coherent.alloc_hwpt(iommufd.alloc_ioas()))
    non_coherent.detach()
    assert flushed() == 0  # attaches move no pages; only new and destroyed domains do
    hwpt.close()
    assert flushed() == PAGES


def test_close_of_the_iommufd(flushed: Callable[[], int]) -> None:
    with Iommufd() as other:
        device = MockDevice(other)
        ioas = other.alloc_ioas()
        device.attach(device.alloc_hwpt(ioas))
        ioas.map(DmaBuffer(PAGES * PAGE), BASE)
        assert flushed() == PAGES
    assert flushed() == PAGES


def test_nest_parent(non_coherent: MockDevice, ioas: Ioas, buffer: DmaBuffer, flushed: Callable[[], int]) -> None:
    parent = non_coherent.alloc_hwpt(ioas, flags=HwptAllocFlags.NEST_PARENT)
    with mapped(ioas, buffer):
        assert flushed() == PAGES
    assert flushed() == PAGES
    parent.close()
    assert flushed() == 0


@pytest.mark.parametrize("backing", [Backing.HUGETLB_2M, Backing.THP])
def test_a_huge_page_is_one_call(
    iommufd: Iommufd, non_coherent: MockDevice, ioas: Ioas, backing: Backing, flushed: Callable[[], int]
) -> None:
    need_huge_pages()
    non_coherent.attach(ioas)
    with DmaBuffer(2 << 20, backing) as buffer:
        before = need_flush_count(iommufd)
        mapping = ioas.map(buffer, BASE)
        between = need_flush_count(iommufd)
        mapping.close()
        after = need_flush_count(iommufd)
    assert between - before == FlushCount(calls=1, pages=512)
    assert after - between == FlushCount(calls=1, pages=512)


def test_the_pinned_tail_of_a_run_is_no_call(iommufd: Iommufd, non_coherent: MockDevice, ioas: Ioas) -> None:
    """An access pins the last page of a contiguous run. When the domain goes, the kernel skips this page, and the run
    that is left is empty."""
    hwpt = non_coherent.alloc_hwpt(ioas)
    # Among so many pages, two are neighbours, and the next one is not.
    with DmaBuffer(4 << 20, Backing.FRAGMENTED_16) as buffer:
        ioas.map(buffer, BASE)
        frames = buffer.frames()
        tail = next(
            page
            for page in range(1, len(frames) - 1)
            if frames[page] == frames[page - 1] + 1 and frames[page + 1] != frames[page] + 1
        )
        access = MockAccess(ioas, pins=True)
        access.pin(BASE + tail * PAGE, PAGE, buffer.user_va + tail * PAGE)
        before = need_flush_count(iommufd)
        hwpt.close()
        calls = contiguous_runs(frames[:tail]).total() + contiguous_runs(frames[tail + 1 :]).total()
        assert need_flush_count(iommufd) - before == FlushCount(calls=calls, pages=len(frames) - 1)
        access.close()


def test_part_of_a_page_is_flushed_as_a_page(non_coherent: MockDevice, ioas: Ioas, flushed: Callable[[], int]) -> None:
    """The mock driver's pages are 2 KiB, so a mapping may start and end inside a page of the CPU."""
    non_coherent.attach(ioas)
    with DmaBuffer(4 * PAGE) as buffer:
        mapping = ioas.map(buffer, BASE, offset=2048, length=2 * PAGE)
        assert flushed() == 3
        mapping.close()
        assert flushed() == 3
