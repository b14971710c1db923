# SPDX-License-Identifier: MIT
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import SkipError
from iommufd_py.host.tracefs import parse_trace
from iommufd_py.validate.events import (
    Flush,
    Map,
    MapFailed,
    NewDomain,
    PageStructs,
    StepBegin,
    StepEnd,
    Unmap,
    Unpin,
    begin_mark,
    end_mark,
    parse_events,
)

STRUCTS = PageStructs(base=0xFFD4000000000000, size=64)

DOMAIN = 0xFF11000002628540

# As in a patched 7.3 in the lab, the places of calls left out, and what another process did meanwhile.
TRACE = f"""\
  python-81  [001] .....  10: tracing_mark_write: {begin_mark(3)}
  python-81  [001] .....  11: domain__mock_domain_alloc_paging_flags: (f+0x0) domain={DOMAIN:#x}
  python-81  [001] .....  12: flush__arch_flush_cache_phys: (f+0x0) phys=0x1d888000 length=4096
  python-81  [001] .....  13: map__iommu_map: (f+0x0) domain={DOMAIN:#x} iova=0x1000000 phys=0x1d888000 length=4096
  qemu-99    [000] .....  14: mapped__iommu_map: (f+0x186/0x260 <- iommu_map) result=-12
  python-81  [001] .....  15: mapped__iommu_map: (f+0x186/0x260 <- iommu_map) result=-12
  python-81  [001] .....  16: unmap__iommu_unmap: (f+0x0) domain={DOMAIN:#x} iova=0x1000000 length=16384
  qemu-99    [000] .....  17: flush__arch_flush_cache_phys: (f+0x0) phys=0x1000 length=4096
  python-81  [001] .....  18: unpin__unpin_user_page_range_dirty_lock: (f+0x0) page=0xffd4000000762200 count=2
  python-81  [001] .....  19: tracing_mark_write: {end_mark(3)}
"""


def test_parse() -> None:
    assert list(parse_events(parse_trace(TRACE.splitlines()), STRUCTS, {81})) == [
        StepBegin(3),
        NewDomain(DOMAIN),
        Flush(0x1D888000, 4096),
        Map(DOMAIN, 0x1000000, 0x1D888000, 4096),
        MapFailed(DOMAIN, 0x1000000, 4096),
        Unmap(DOMAIN, 0x1000000, 16384),
        Unpin(0x1D888, 2),
        StepEnd(3),
    ]


@given(
    base=st.integers(1 << 40, 1 << 60),
    size=st.sampled_from([64, 80]),
    frames=st.lists(st.integers(1, 1 << 36), min_size=2, max_size=5, unique=True),
)
def test_page_structs_from_known_pages(base: int, size: int, frames: list[int]) -> None:
    known = [(base + frame * size, frame) for frame in frames]
    structs = PageStructs.solve(known)
    assert structs == PageStructs(base, size)
    assert [structs.frame(address) for address, _ in known] == frames


@pytest.mark.parametrize("known", [[], [(64, 1)], [(64, 1), (128, 2), (4096, 3)], [(64, 2), (128, 1)]])
def test_no_array_of_page_structs(known: list[tuple[int, int]]) -> None:
    with pytest.raises(SkipError, match="unpin"):
        PageStructs.solve(known)
