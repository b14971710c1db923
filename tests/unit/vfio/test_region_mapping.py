# SPDX-License-Identifier: MIT
"""Parts of a region that are mapped, at places and of lengths that a program can choose."""

import mmap
import os
from collections.abc import Iterator

import numpy as np
import pytest

from iommufd_py import ArgumentValueError
from iommufd_py.uapi.enums import RegionFlags
from iommufd_py.uapi.vfio import RegionInfo
from iommufd_py.vfio.file import VfioFile
from iommufd_py.vfio.region import Region, RegionMapping
from tests.bad_values import ADDRESS, Case, hold

PAGE = mmap.PAGESIZE


class MemoryFile(VfioFile):
    """A file in memory instead of a device."""

    name = "0000:3b:00.0"

    def __init__(self) -> None:
        super().__init__()
        with self._opening():
            self._fd = os.memfd_create("region")
        os.ftruncate(self._fd, 2 * PAGE)


@pytest.fixture
def region() -> Iterator[Region]:
    with MemoryFile() as device:
        found = Region.__new__(Region)
        found.device = device
        found.info = RegionInfo(0, RegionFlags.MMAP, 2 * PAGE, 0, ((0, 2 * PAGE),), {})
        yield found


@pytest.mark.parametrize("length", [1, 2, 3, 6, 12, PAGE + 4])
def test_a_part_that_ends_inside_a_register(region: Region, length: int) -> None:
    with RegionMapping(region, 0, length) as part:
        for width in (1, 2, 4, 8):
            last = (length - width) // width * width
            if width > length:
                with pytest.raises(ArgumentValueError, match=f"no {width}-byte register at offset 0 "):
                    part.read_int(0, width)
                continue
            part.write_int(last, 0x5A, width)
            assert part.read_int(last, width) == 0x5A
            with pytest.raises(ArgumentValueError, match=f"no {width}-byte register"):
                part.read_int(last + width, width)


def test_an_integer_of_numpy_is_an_integer(region: Region) -> None:
    with RegionMapping(region, 0, PAGE) as part:
        for width in (1, 2, 4, 8):
            part.write_int(np.int64(width), np.uint8(0x5A), np.int32(width))
            assert part.read_int(np.int64(width), np.int32(width)) == 0x5A


def test_a_wrong_access_of_a_mapping_is_refused_in_one_sentence(region: Region) -> None:
    with RegionMapping(region, 0, PAGE) as part:
        hold(Case(part.read_int, {"offset": ADDRESS, "width": ADDRESS}, {"offset": 0, "width": 4}))
        hold(
            Case(
                part.write_int,
                {"offset": ADDRESS, "value": ADDRESS, "width": ADDRESS},
                {"offset": 0, "value": 1, "width": 4},
            )
        )
        with pytest.raises(ArgumentValueError, match=r"^an access must be 1, 2, 4 or 8 bytes wide, not 3$"):
            part.read_int(0, 3)


def test_a_part_begins_at_a_page(region: Region) -> None:
    with pytest.raises(ArgumentValueError, match=f"give a multiple of the page size, {PAGE:#x}"):
        region.mmap(PAGE // 2)
    region.mmap(PAGE).close()
