# SPDX-License-Identifier: MIT
"""The addresses of struct pages and of the direct map are found from known pages, also on a busy host."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iommufd_py import SkipError
from iommufd_py.validate.addresses import PageStructs, direct_map_base
from iommufd_py.validate.unknown_flush import suspects

BASE = 0xFFD4000000000000
FRAMES = (0x1D888, 0x1D889, 0x70001, 0x33)


# Drawing examples may be slow on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
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
    assert PageStructs.find([({address}, frame) for address, frame in known]) == structs


@pytest.mark.parametrize("known", [[], [(64, 1)], [(64, 1), (128, 2), (4096, 3)], [(64, 2), (128, 1)]])
def test_no_array_of_page_structs(known: list[tuple[int, int]]) -> None:
    with pytest.raises(SkipError, match="unpin"):
        PageStructs.solve(known)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(noise=st.lists(st.integers(1, 1 << 20), max_size=12))
def test_unpins_of_others_do_not_disturb(noise: list[int]) -> None:
    """Unpins as by a process with O_DIRECT: its pages are in the same array, at any distance from ours."""
    others = {BASE + frame * 64 for frame in noise}
    assert PageStructs.find([(others | {BASE + frame * 64}, frame) for frame in FRAMES]) == PageStructs(BASE, 64)


def test_nothing_fits() -> None:
    for seen in ([(set(), frame) for frame in FRAMES], [({BASE + frame}, frame) for frame in FRAMES]):
        with pytest.raises(SkipError, match="unpin"):
            PageStructs.find(seen)


def test_direct_map() -> None:
    base = 0xFF11000000000000
    seen = [(frozenset({base + frame * 4096, base + 0x123456000}), frame) for frame in FRAMES]
    assert direct_map_base(seen) == base
    assert direct_map_base([*seen, (frozenset(), 5)]) is None
    assert direct_map_base([]) is None


def test_suspects() -> None:
    of_series = [
        "iopt_cache_flush_pfn_batch",
        "batch_flush_cache",
        "vfio_flush_pages",
        "arch_clean_nonsnoop_dma",
        "flush_noncoherent",
        "iommufd_clflush",
    ]
    of_stock = [
        "vfio_iommu_type1_cleanup",
        "vfio_virqfd_flush_thread",
        "vfio_pci_dma_buf_cleanup",
        "flush_tlb_all",
        "clflush_cache_range",
        "intel_flush_iotlb_all",
        "iopt_map_pages",
    ]
    assert suspects([*of_series, *of_stock]) == sorted(of_series)
