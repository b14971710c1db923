# SPDX-License-Identifier: MIT
"""The cases of tools/testing/selftests/vfio/vfio_dma_mapping_mmio_test.c: fixture vfio_dma_mapping_mmio_test."""

import ctypes
import mmap
from collections.abc import Iterator

import pytest

from iommufd_py import Container, ContainerMode, IommufdError, Region, RegionFlags, RegionIndex

PAGE = mmap.PAGESIZE
GIB = 1 << 30
MAP_FIXED = 0x10

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


@pytest.fixture
def largest_mapped_bar(container: Container) -> Region:
    wanted = RegionFlags.READ | RegionFlags.WRITE | RegionFlags.MMAP
    bars = [container.device.region(index) for index in range(RegionIndex.BAR0, RegionIndex.BAR5 + 1)]
    mappable = [bar for bar in bars if bar.info.flags & wanted == wanted]
    if not mappable:
        pytest.skip(f"no BAR of {container.device.bdf} can be mapped")
    return max(mappable, key=lambda bar: bar.info.size)


def mmio_map(container: Container, mode: ContainerMode, user_va: int, size: int) -> None:
    """Map device memory: VFIO's own containers map it, iommufd refuses it."""
    iova = container.iova_ranges().first_fit(size, size)
    assert iova is not None
    if mode in (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2):
        container.map_user_va(user_va, size, iova)
        assert container.unmap(iova, size) == size
    else:
        with pytest.raises(IommufdError, match=r"device memory \(BARs\) cannot be mapped"):
            container.map_user_va(user_va, size, iova)


def test_map_full_bar(container: Container, mode: ContainerMode, largest_mapped_bar: Region) -> None:
    with largest_mapped_bar.mmap() as mapping:
        mmio_map(container, mode, mapping.user_va, mapping.length)


def test_map_partial_bar(container: Container, mode: ContainerMode, largest_mapped_bar: Region) -> None:
    if largest_mapped_bar.info.size < 2 * PAGE:
        pytest.skip(f"{largest_mapped_bar} is too small")
    with largest_mapped_bar.mmap(length=PAGE) as mapping:
        mmio_map(container, mode, mapping.user_va, PAGE)


@pytest.fixture
def misaligned_va(container: Container, largest_mapped_bar: Region) -> Iterator[int]:
    """Map the BAR (at most 1 GiB) at an address one page after a multiple of 1 GiB."""
    size = min(largest_mapped_bar.info.size, GIB)
    # Python's mmap cannot choose the address.
    reserved = libc.mmap(None, size + GIB + PAGE, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    user_va = -(-reserved // GIB) * GIB + PAGE
    access, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | MAP_FIXED
    fd, offset = container.device.fileno(), largest_mapped_bar.info.offset
    assert libc.mmap(user_va, size, access, flags, fd, offset) == user_va
    yield user_va
    assert libc.munmap(reserved, size + GIB + PAGE) == 0


def test_map_bar_misaligned(
    container: Container, mode: ContainerMode, largest_mapped_bar: Region, misaligned_va: int
) -> None:
    mmio_map(container, mode, misaligned_va, min(largest_mapped_bar.info.size, GIB))
