# SPDX-License-Identifier: MIT
"""Faults of mainline that iommufd_py/lab/patches/*/fixes repair, as far as a guest can show them."""

import itertools
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from iommufd_py import Backing, DmaBuffer, Iommufd, IommufdError, MockDevice
from iommufd_py.base.environment import Platform
from iommufd_py.host import environment
from iommufd_py.mock import MockAccess, limit_memory
from tests.conftest import need, need_flush_count, need_ioctl, need_mock_driver, need_tracing
from tests.mock.test_flush_unwind import DEBUGFS, INJECTION, TRACING, setting

PAGE = 4096
HALF = PAGE // 2
HUGE = 2 << 20
BASE = 1 << 24
MADV_HUGEPAGE, MADV_NOHUGEPAGE = 14, 15
SHMEM_HUGE = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")


@contextmanager
def first_maps() -> Iterator[list[tuple[int, int]]]:
    """Yield a list. After the block it has (address, length) of the first maps into domains by this process."""
    instance = TRACING / "instances/iommufd-py-fixes"
    instance.mkdir()
    try:
        (instance / "options/overwrite").write_text("0")
        (instance / "set_event_pid").write_text(str(os.getpid()))
        (instance / "events/iommu/map/enable").write_text("1")
        found: list[tuple[int, int]] = []
        yield found
        (instance / "events/iommu/map/enable").write_text("0")
        for line in (instance / "trace").read_text().splitlines():
            if " paddr=" in line:
                fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
                found.append((int(fields["paddr"], 16), int(fields["size"])))
    finally:
        instance.rmdir()


def test_no_copy_maps_memory_beyond_its_pages(iommufd: Iommufd) -> None:
    """Copy two areas of half a page each, aligned only together, to an IOAS that maps page by page."""
    need_mock_driver(iommufd)
    need_flush_count(iommufd)  # the fix is in the same series
    need_tracing()
    source, target = iommufd.alloc_ioas(), iommufd.alloc_ioas()
    MockDevice(iommufd).alloc_hwpt(target)
    target.huge_pages = False
    with DmaBuffer(2 * PAGE) as buffer:
        source.map_user_va(buffer.user_va, HALF, BASE)
        source.map_user_va(buffer.user_va + PAGE, HALF, BASE + HALF)
        with first_maps() as found, pytest.raises(IommufdError):
            target.copy_iova(source, BASE, PAGE, BASE)
    assert found == []


def test_fallocated_memory_of_a_memfd_is_zeroed_before_it_is_mapped(iommufd: Iommufd) -> None:
    """Map a memfd whose pages fallocate() has added. It does not zero them, and nobody has touched them since."""
    need_mock_driver(iommufd)
    need_flush_count(iommufd)  # the fix is in the same series
    need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    length = 64 * PAGE
    with mmap.mmap(-1, 64 << 20) as freed:  # so that free memory is not all zeros
        freed.write(b"\xa5" * len(freed))
    ioas = iommufd.alloc_ioas()
    MockDevice(iommufd).attach(ioas)
    with DmaBuffer(length, Backing.MEMFD) as buffer:
        assert buffer.fd is not None
        os.ftruncate(buffer.fd, 0)  # drops the pages that the buffer has touched
        os.ftruncate(buffer.fd, length)
        os.posix_fallocate(buffer.fd, 0, length)
        mapping = ioas.map_file(buffer)
        access = MockAccess(ioas)
        assert access.read(mapping.iova, length) == bytes(length)
        access.write(mapping.iova, b"A" * length)
        seen = bytes(buffer.view)
        assert seen == b"A" * length, "the first page fault zeroed what the device wrote"


def pinned() -> int:
    """Return the number of pinned pages in the whole guest."""
    # Each CPU counts for itself, and this read adds the counts up. Without it a page that was pinned on one CPU and
    # unpinned on another can count as -1 for a second.
    Path("/proc/sys/vm/stat_refresh").read_text()
    counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(counters["nr_foll_pin_acquired"]) - int(counters["nr_foll_pin_released"])


def need_shmem_huge_pages() -> None:
    """Skip on User-Mode Linux, which has no huge pages. Other kernels must have them and fault injection."""
    if environment().platform == Platform.UML:
        pytest.skip("User-Mode Linux has no huge pages")
    need(SHMEM_HUGE.exists(), "needs CONFIG_TRANSPARENT_HUGEPAGE")
    need((DEBUGFS / "failslab").exists(), "needs CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS")


@contextmanager
def small_pages_then_a_large_one() -> Iterator[int]:
    """Make a memfd with four scattered pages before offset 2 MiB and one folio of 2 MiB after it."""
    with ExitStack() as stack:
        before = SHMEM_HUGE.read_text().partition("[")[2].partition("]")[0]
        SHMEM_HUGE.write_text("advise")
        stack.callback(SHMEM_HUGE.write_text, before)
        fd, other = os.memfd_create("fixes"), os.memfd_create("between")
        stack.callback(os.close, fd)
        stack.callback(os.close, other)
        os.ftruncate(fd, 2 * HUGE)
        os.ftruncate(other, HUGE)
        view, between = mmap.mmap(fd, 2 * HUGE), mmap.mmap(other, HUGE)
        stack.callback(view.close)
        stack.callback(between.close)
        between.madvise(MADV_NOHUGEPAGE)
        view.madvise(MADV_NOHUGEPAGE, 0, HUGE)
        view.madvise(MADV_HUGEPAGE, HUGE, HUGE)
        for number in range(4):
            view[HUGE - (1 + number) * PAGE] = 1
            between[number * PAGE] = 1
        view[HUGE] = 1
        yield fd


def test_a_failed_map_of_a_file_unpins_its_folios_and_no_others(iommufd: Iommufd) -> None:
    """The batch holds only the small pages, so the large folio waits in an array that is not full."""
    need_mock_driver(iommufd)
    need_flush_count(iommufd)  # the fix is in the same series
    need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    need_shmem_huge_pages()
    device = MockDevice(iommufd)
    failed = 0
    with ExitStack() as stack:
        for name, value in INJECTION.items():
            stack.enter_context(setting(DEBUGFS / name, value))
        fd = stack.enter_context(small_pages_then_a_large_one())
        own = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
        stack.callback(os.close, own)
        limit_memory(iommufd, 48)  # four runs in a batch, six folios in the array
        stack.callback(limit_memory, iommufd, None)
        for nth in itertools.count(1):
            with iommufd.alloc_ioas() as ioas:
                device.alloc_hwpt(ioas)
                before = pinned()
                os.pwrite(own, str(nth).encode(), 0)
                try:
                    ioas.map_fd(fd, HUGE - 4 * PAGE, 6 * PAGE, BASE)
                except IommufdError:
                    failed += 1
                    done = False
                else:
                    done = int(os.pread(own, 16, 0)) != 0
                os.pwrite(own, b"0", 0)
                ioas.unmap_all()
                assert pinned() == before, f"with allocation {nth} failing"
            if done:
                break
    assert failed, "no map failed"


def test_the_large_page_of_the_file_is_one_folio() -> None:
    """The large page of the file is one folio."""
    need_shmem_huge_pages()
    with small_pages_then_a_large_one():
        meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        assert int(meminfo["ShmemHugePages"].split()[0]) >= HUGE >> 10
