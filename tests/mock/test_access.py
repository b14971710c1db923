# SPDX-License-Identifier: MIT
"""In-kernel users of an IOAS, as objects; iommufd_ioas/test_accesses.py has the kernel's own cases."""

import pytest

from iommufd_py import DmaBuffer, Ioas, Iommufd, MockAccess, MockDevice, NotSupportedError, ObjectNotFoundError
from iommufd_py.host import pinned_bytes
from iommufd_py.mock import MockDmabuf, check_map, check_refs, limit_memory
from tests.conftest import need_ioctl

pytestmark = pytest.mark.usefixtures("mock_driver")

PAGE = 4096
BASE = 1 << 24


@pytest.mark.parametrize("slow_path", [False, True])
def test_reading_and_writing_by_iova(ioas: Ioas, slow_path: bool) -> None:
    with DmaBuffer(2 * PAGE) as buffer, ioas.map(buffer, BASE), MockAccess(ioas) as access:
        buffer.view[PAGE - 2 : PAGE + 2] = b"page"
        assert access.read(BASE + PAGE - 2, 4, slow_path=slow_path) == b"page"
        access.write(BASE + 1, b"written", slow_path=slow_path)
        assert bytes(buffer.view[:9]) == b"\0written\0"
        with pytest.raises(ObjectNotFoundError):
            access.read(BASE + 2 * PAGE - 1, 2)


def test_pins_are_counted_and_given_back(iommufd: Iommufd, ioas: Ioas) -> None:
    before = pinned_bytes()
    with DmaBuffer(4 * PAGE) as buffer, ioas.map(buffer, BASE):
        with MockAccess(ioas, pins=True) as access:
            access.pin(BASE + PAGE, 2 * PAGE, buffer.user_va + PAGE)
            check_refs(iommufd, buffer.user_va, PAGE, 0)
            check_refs(iommufd, buffer.user_va + PAGE, 2 * PAGE, 1)
            assert pinned_bytes() == before + 2 * PAGE
        check_refs(iommufd, buffer.user_va, buffer.length, 0)
    assert pinned_bytes() == before


def test_an_unmap_takes_the_pins(ioas: Ioas) -> None:
    with DmaBuffer(PAGE) as buffer, MockAccess(ioas, pins=True) as access:
        ioas.map(buffer, BASE)
        closed_later = access.pin(BASE, PAGE, buffer.user_va)
        unpinned_later = access.pin(BASE, PAGE, buffer.user_va)
        ioas.unmap(BASE, PAGE)
        closed_later.close()
        with pytest.raises(ObjectNotFoundError):
            unpinned_later.unpin()


def test_an_access_that_does_not_pin(ioas: Ioas) -> None:
    with (
        DmaBuffer(PAGE) as buffer,
        ioas.map(buffer, BASE),
        MockAccess(ioas) as access,
        pytest.raises(NotSupportedError),
    ):
        access.pin(BASE, PAGE, buffer.user_va)


def test_replacing_the_ioas(iommufd: Iommufd, ioas: Ioas) -> None:
    other = iommufd.alloc_ioas()
    with DmaBuffer(PAGE) as buffer:
        other.map(buffer, BASE)
        access = MockAccess(ioas)
        access.replace(other)
        buffer.view[:5] = b"other"
        assert access.read(BASE, 5) == b"other"
        ioas.close()
        assert not access.closed
        other.close()
        assert access.closed


def test_a_limit_on_the_batches_changes_nothing_that_is_seen(mock: MockDevice, ioas: Ioas) -> None:
    hwpt_id = mock.attach(ioas).hwpt_id
    limit_memory(mock.iommufd, 16)
    try:
        with DmaBuffer(64 * PAGE) as buffer, ioas.map(buffer, BASE):
            check_map(mock.iommufd, hwpt_id, BASE, buffer.length, buffer.user_va)
    finally:
        limit_memory(mock.iommufd, None)


def test_a_dmabuf_can_be_revoked(iommufd: Iommufd, mock: MockDevice, ioas: Ioas) -> None:
    need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    try:
        dmabuf = MockDmabuf(iommufd, 4 * PAGE)
    except NotSupportedError:
        pytest.skip("this kernel's mock driver makes no dma-buf (since Linux 6.19)")
    mock.attach(ioas)
    ioas.map_fd(dmabuf.fileno(), 0, dmabuf.length, BASE)
    dmabuf.revoke()
    with pytest.raises(OSError, match="exporter has revoked its memory"):
        ioas.map_fd(dmabuf.fileno(), 0, dmabuf.length, 2 * BASE)
    dmabuf.revoke(False)
    ioas.map_fd(dmabuf.fileno(), 0, dmabuf.length, 2 * BASE)
    ioas.unmap_all()
