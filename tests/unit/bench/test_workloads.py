# SPDX-License-Identifier: MIT
"""Points that can be measured, and the IOVAs of their rounds."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import ToolError
from iommufd_py.base.iova import IovaRange, IovaRanges
from iommufd_py.bench.ioctl_rounds import ThreadIovas
from iommufd_py.bench.workloads import points
from iommufd_py.results import model


def test_points_that_cannot_exist_are_left_out_with_the_reason() -> None:
    found, left_out = points(
        workload=[model.Workload.MAP, model.Workload.MAP_FILE],
        size_bytes=[4096, 2 << 20],
        backing=["4k", "thp", "memfd"],
        chunk_bytes=[0, 64 << 10],
    )
    assert all(point.backing == "memfd" for point in found if point.workload is model.Workload.MAP_FILE)
    assert not any(point.backing == "thp" and point.size_bytes == 4096 for point in found)
    assert "4K is not a multiple of the 2M pages of thp" in left_out
    assert "4K cannot be mapped in chunks of 64K" in left_out
    assert "map-file needs a memfd, not 4k" in left_out
    assert len(found) == len(set(found)) == 3 + 5 + 3


RANGES = IovaRanges((IovaRange(0x100_0000, 0x7FFF_FFFF),), 4096)


@given(
    st.sampled_from([model.Workload.MAP, model.Workload.COPY]),
    st.integers(1, 0x4000),
    st.sampled_from([0, 4096, 65536]),
    st.sampled_from(model.IovaUse),
    st.integers(1, 4),
)
def test_places_are_allowed_aligned_and_apart(
    workload: model.Workload, pages: int, alignment: int, use: model.IovaUse, threads: int
) -> None:
    size = pages * 4096
    point = model.Point(workload, size, alignment=alignment, iova_use=use, threads=threads)
    places = [ThreadIovas.find("mock", RANGES, point, thread, None) for thread in range(threads)]
    taken: list[IovaRange] = []
    for place in places:
        if alignment:
            assert place.iova % (alignment * 2) == alignment
        else:
            assert place.iova % (1 << (size.bit_length() - 1)) == 0
        for number in {0, place.places - 1}:
            firsts = [place.iova, place.other] if workload is model.Workload.COPY else [place.iova]
            taken += [IovaRange(at + number * place.stride, at + number * place.stride + size - 1) for at in firsts]
    assert all(RANGES.ranges[0].contains(one.start, one.length) for one in taken)
    taken.sort()
    assert all(before.last < after.start for before, after in pairwise(taken))


def test_the_whole_of_a_range_can_be_mapped() -> None:
    point = model.Point(model.Workload.MAP, 1 << 30)
    assert ThreadIovas.find("mock", RANGES, point, 0, None).iova == 1 << 30
    with pytest.raises(ToolError, match="no allowed IOVA range holds 2G"):
        ThreadIovas.find("mock", RANGES, replace(point, workload=model.Workload.COPY), 0, None)


def test_an_alignment_that_cannot_be_had_is_refused() -> None:
    point = model.Point(model.Workload.MAP, 4096, alignment=1 << 30)
    assert ThreadIovas.find("mock", RANGES, point, 0, 1 << 30).iova == 1 << 30
    with pytest.raises(ToolError, match="IOVA 0x10000000 is not aligned to exactly 1G: leave out --iova"):
        ThreadIovas.find("mock", RANGES, point, 0, 0x1000_0000)
    with pytest.raises(ToolError, match="aligned to 64T"):
        ThreadIovas.find("mock", RANGES, replace(point, alignment=64 << 40), 0, None)
    _, left_out = points(workload=[model.Workload.MAP], size_bytes=[4096], backing=["4k"], alignment=[3 << 12])
    assert left_out == ["12K is not an alignment: give a power of two of at least 4K"]


def test_a_wanted_iova_that_is_not_allowed_names_the_allowed_ranges() -> None:
    point = model.Point(model.Workload.MAP, 8192)
    first = RANGES.ranges[0].start
    with pytest.raises(ToolError, match=rf"8K from IOVA .* are not in a range that mock allows: {first:#x}-"):
        ThreadIovas.find("mock", RANGES, point, 0, (1 << 64) - 4096)
    with pytest.raises(ToolError, match="IOVA 0x40000001 is not a multiple of 4K"):
        ThreadIovas.find("mock", RANGES, point, 0, (1 << 30) + 1)
    last = next(one.last for one in RANGES.ranges if one.length > 1 << 20)
    copied = replace(point, workload=model.Workload.COPY)
    assert ThreadIovas.find("mock", RANGES, copied, 0, last + 1 - 4 * 4096).other == last + 1 - 2 * 4096
