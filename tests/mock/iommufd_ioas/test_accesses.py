# SPDX-License-Identifier: MIT
"""The cases of fixture `iommufd_ioas` about in-kernel users, and about memory of other processes."""

import errno
import os
import random

from iommufd_py import (
    Backing,
    DmaBuffer,
    Ioas,
    Iommufd,
    MockAccess,
    MockDevice,
)
from iommufd_py.mock import (
    APERTURE,
    PAGE_BYTES,
    check_map,
)
from tests.conftest import fails, need_huge_pages, need_mock_driver
from tests.mock.iommufd_ioas.conftest import IoasVariant
from tests.mock.processes import fork, in_child, wait

PAGE = 4096


def test_access_domain_destory(devices: list[MockDevice], ioas: Ioas, base: int) -> None:
    """[sic] Destroy the domain while an access pins one page in the middle of a huge page."""
    need_huge_pages()
    with DmaBuffer(4 << 20, Backing.HUGETLB_2M) as buffer:
        ioas.map(buffer, base)
        with MockAccess(ioas, pins=True) as access:
            access.pin(base + PAGE, PAGE, buffer.user_va + PAGE)
            if devices:
                devices[-1].close()


def test_access_pin(iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer, variant: IoasVariant) -> None:
    need_mock_driver(iommufd)
    with MockAccess(ioas, pins=True) as access:
        for pages in range(1, shared_buffer.length // PAGE):

            def pin(length: int = pages * PAGE) -> object:
                return access.pin(APERTURE.start, length, shared_buffer.user_va)

            with ioas.map(shared_buffer, APERTURE.start):
                pin().unpin()
                first, second = pin(), pin()
                second.unpin()
                first.unpin()
                held = pin()
                with MockDevice(iommufd, target=ioas) as device:
                    hwpt_id = device.attachments[None].hwpt_id
                    check_map(iommufd, hwpt_id, APERTURE.start, shared_buffer.length, shared_buffer.user_va)
                held.unpin()


def test_access_pin_unmap(ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    with MockAccess(ioas, pins=True) as access:
        ioas.map(shared_buffer, APERTURE.start)
        pin = access.pin(APERTURE.start, shared_buffer.length, shared_buffer.user_va)
        ioas.unmap(APERTURE.start, shared_buffer.length)
        with fails(errno.ENOENT):
            pin.unpin()


def check_access_rw(access: MockAccess, buffer: DmaBuffer, iova: int, *, slow_path: bool = False) -> None:
    """Read and write near a page boundary, from every offset, with lengths that end before and after it."""
    with buffer.view as memory:
        memory[:] = random.randbytes(buffer.length)
        for offset in range(PAGE - 50, PAGE + 50):
            for length in (1, 2, 7, 31, 49, 51, 63):
                there = slice(offset, offset + length)
                assert access.read(iova + offset, length, slow_path=slow_path) == memory[there]
                written = random.randbytes(length)
                access.write(iova + offset, written, slow_path=slow_path)
                assert memory[there] == written
        assert access.read(iova, buffer.length, slow_path=slow_path) == memory


def test_access_rw(ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    with MockAccess(ioas) as access, ioas.map(shared_buffer) as mapping:
        check_access_rw(access, shared_buffer, mapping.iova)
        check_access_rw(access, shared_buffer, mapping.iova, slow_path=True)


def test_access_rw_unaligned(ioas: Ioas, shared_buffer: DmaBuffer, base: int) -> None:
    with MockAccess(ioas) as access, ioas.map(shared_buffer, base + PAGE_BYTES) as mapping:
        check_access_rw(access, shared_buffer, mapping.iova)


def test_fork_gone(devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Memory mapped by a process that has ended: pages pinned by a domain stay usable, others are lost."""
    need_mock_driver(iommufd)
    with MockAccess(ioas) as access:
        in_child(lambda: ioas.map_user_va(shared_buffer.user_va, shared_buffer.length, APERTURE.start))
        if devices:
            MockDevice(iommufd, target=ioas)
            check_access_rw(access, shared_buffer, APERTURE.start)
        else:
            with fails(errno.EFAULT):
                MockDevice(iommufd, target=ioas)


def test_fork_present(iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    """Memory mapped by a process that still exists: this process pins its pages."""
    need_mock_driver(iommufd)
    may_end, end = os.pipe()
    is_mapped, mapped = os.pipe()

    def other_process() -> None:
        os.close(end)
        ioas.map_user_va(shared_buffer.user_va, shared_buffer.length, APERTURE.start)
        os.write(mapped, b"!")
        os.read(may_end, 1)

    with MockAccess(ioas) as access:
        child = fork(other_process)
        os.close(may_end)
        assert os.read(is_mapped, 1)
        MockDevice(iommufd, target=ioas)
        check_access_rw(access, shared_buffer, APERTURE.start)
        os.close(end)
        wait(child)
    os.close(is_mapped)
    os.close(mapped)
