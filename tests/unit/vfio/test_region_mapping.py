# SPDX-License-Identifier: MIT
"""Parts of a region that are mapped, at places and of lengths that a program can choose."""

import mmap
import os
from collections.abc import Iterator

import pytest

from iommufd_py import ArgumentValueError
from iommufd_py.uapi.enums import RegionFlags
from iommufd_py.uapi.vfio import RegionInfo
from iommufd_py.vfio.file import VfioFile
from iommufd_py.vfio.region import Region, RegionMapping

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
                with pytest.raises(ArgumentValueError, match=f"no {width}-byte register at offset 0x0"):
                    part.read_int(0, width)
                continue
            part.write_int(last, 0x5A, width)
            assert part.read_int(last, width) == 0x5A
            with pytest.raises(ArgumentValueError, match=f"no {width}-byte register"):
                part.read_int(last + width, width)


def test_a_part_begins_at_a_page(region: Region) -> None:
    with pytest.raises(ArgumentValueError, match=f"give a multiple of the page size, {PAGE:#x}"):
        region.mmap(PAGE // 2)
    region.mmap(PAGE).close()
