# SPDX-License-Identifier: MIT
"""IOAS and mappings, on a bare IOAS and on one with a mock domain; the kernel compares the page tables for us."""

import errno
from collections.abc import Iterator

import pytest

from iommufd_py import (
    AlreadyMappedError,
    ArgumentValueError,
    Backing,
    ClosedError,
    DmaBuffer,
    InvalidFieldError,
    Ioas,
    Iommufd,
    IommufdError,
    IovaRange,
    MapFlags,
    MockDevice,
    ObjectNotFoundError,
)
from iommufd_py.host import pinned_bytes
from iommufd_py.mock import add_reserved, check_map
from iommufd_py.uapi import iommufd as uapi
from tests.conftest import need, need_ioctl

PAGE = 4096
# The mock domain's aperture starts here (MOCK_APERTURE_START).
BASE = 1 << 24
ALL = (1 << 64) - 1


@pytest.fixture(params=["no_domain", "mock_domain"])
def target(request: pytest.FixtureRequest, iommufd: Iommufd, ioas: Ioas) -> Ioas:
    if request.param == "mock_domain":
        request.getfixturevalue("mock").attach(ioas)
    return ioas


@pytest.fixture
def buffer() -> Iterator[DmaBuffer]:
    with DmaBuffer(16 * PAGE) as memory:
        yield memory


def test_map_unmap_at_a_fixed_iova(target: Ioas, buffer: DmaBuffer) -> None:
    mapping = target.map(buffer, BASE)
    assert (mapping.iova, mapping.length, mapping.user_va) == (BASE, buffer.length, buffer.user_va)
    assert target.unmap(BASE, buffer.length) == buffer.length
    assert mapping.closed
    mapping.close()


def test_map_where_the_kernel_likes(target: Ioas, buffer: DmaBuffer) -> None:
    first, second = target.map(buffer), target.map(buffer, offset=PAGE, length=PAGE)
    assert first.iova % PAGE == second.iova % PAGE == 0
    assert not IovaRange(first.iova, first.iova + first.length - 1).contains(second.iova)
    assert any(one.contains(first.iova, first.length) for one in target.iova_ranges().ranges)


def test_the_domain_holds_the_pages_of_the_buffer(mock: MockDevice, ioas: Ioas, buffer: DmaBuffer) -> None:
    hwpt = mock.alloc_hwpt(ioas)
    ioas.map(buffer, BASE)
    check_map(ioas.iommufd, hwpt.id, BASE, buffer.length, buffer.user_va)
    # The check can fail: the domain does not map this other memory.
    with DmaBuffer(buffer.length) as other, pytest.raises(IommufdError) as caught:
        check_map(ioas.iommufd, hwpt.id, BASE, other.length, other.user_va)
    assert caught.value.errno == errno.EINVAL


def test_pages_are_pinned_while_a_domain_has_them(mock: MockDevice, ioas: Ioas, buffer: DmaBuffer) -> None:
    before = pinned_bytes()
    mapping = ioas.map(buffer, BASE)
    assert pinned_bytes() == before  # no domain yet: nothing is pinned
    with mock.alloc_hwpt(ioas):
        assert pinned_bytes() == before + buffer.length
    assert pinned_bytes() == before
    mapping.close()


def test_overlap(target: Ioas, buffer: DmaBuffer) -> None:
    taken = BASE + buffer.length
    target.map(buffer, taken)
    for iova in (taken, taken + PAGE, taken - PAGE):
        with pytest.raises(AlreadyMappedError, match="is mapped already; unmap it first") as caught:
            target.map(buffer, iova)
        assert caught.value.errno == errno.EEXIST


@pytest.mark.parametrize(("iova", "length"), [(BASE + 1, PAGE), (BASE, PAGE + 1), (BASE, 0)])
def test_misaligned_or_empty(mock: MockDevice, ioas: Ioas, buffer: DmaBuffer, iova: int, length: int) -> None:
    mock.attach(ioas)
    with pytest.raises(InvalidFieldError, match="zero, misaligned or outside") as caught:
        ioas.map(buffer, iova, length=length)
    assert caught.value.errno == errno.EINVAL
    assert pinned_bytes() == 0


def test_flags_that_allow_no_access(ioas: Ioas) -> None:
    with DmaBuffer(PAGE, Backing.MEMFD) as buffer, ioas.map(buffer, BASE) as mapping:
        for call, what in ((ioas.map, buffer), (ioas.map_file, buffer), (ioas.copy, mapping)):
            with pytest.raises(InvalidFieldError, match="or the flags allow neither reads nor writes"):
                call(what, BASE + (1 << 20), flags=MapFlags(0))


def test_outside_the_allowed_ranges(mock: MockDevice, ioas: Ioas, buffer: DmaBuffer) -> None:
    mock.attach(ioas)
    allowed = ioas.iova_ranges()
    assert (allowed.ranges, allowed.alignment) == ((IovaRange(BASE, (1 << 31) - 1),), 2048)
    with pytest.raises(InvalidFieldError):
        ioas.map(buffer, 1 << 31)
    with pytest.raises(IommufdError) as caught:
        ioas.map_user_va(buffer.user_va, 2 * PAGE, ALL - PAGE + 1)
    assert caught.value.errno == errno.EOVERFLOW


def test_no_memory_behind_the_pointer(mock: MockDevice, ioas: Ioas) -> None:
    mock.attach(ioas)
    buffer = DmaBuffer(PAGE)
    gone = buffer.user_va
    buffer.close()
    with pytest.raises(IommufdError, match="part of the user memory is not mapped") as caught:
        ioas.map_user_va(gone, PAGE, BASE)
    assert caught.value.errno == errno.EFAULT
    with pytest.raises(ClosedError):
        ioas.map(buffer)


def test_unmap_of_nothing_and_of_a_part(target: Ioas, buffer: DmaBuffer) -> None:
    with pytest.raises(ObjectNotFoundError, match="nothing is mapped in this range") as caught:
        target.unmap(BASE, PAGE)
    assert caught.value.errno == errno.ENOENT
    mapping = target.map(buffer, BASE)
    with pytest.raises(ObjectNotFoundError):
        target.unmap(BASE, PAGE)
    with pytest.raises(InvalidFieldError, match="the length is zero"):
        target.unmap(BASE, 0)
    assert not mapping.closed


def test_unmap_of_several(target: Ioas, buffer: DmaBuffer) -> None:
    mappings = [target.map(buffer, BASE + i * 4 * PAGE, offset=i * PAGE, length=PAGE) for i in range(4)]
    assert target.unmap(BASE, 5 * PAGE) == 2 * PAGE
    assert [one.closed for one in mappings] == [True, True, False, False]
    assert target.unmap_all() == 2 * PAGE
    assert all(one.closed for one in mappings)
    assert target.unmap_all() == 0


def test_a_refused_unmap_takes_what_lies_before(target: Ioas, buffer: DmaBuffer) -> None:
    low = target.map(buffer, BASE, length=PAGE)
    high = target.map(buffer, BASE + PAGE, length=2 * PAGE)
    with pytest.raises(ObjectNotFoundError):
        target.unmap(BASE - PAGE, 3 * PAGE)
    assert (low.closed, high.closed) == (True, False)
    # Nothing is unmapped if the lowest mapping reaches past the lower end.
    above = target.map(buffer, BASE + 3 * PAGE, length=PAGE)
    with pytest.raises(ObjectNotFoundError):
        target.unmap(BASE + 2 * PAGE, 2 * PAGE)
    assert (high.closed, above.closed) == (False, False)
    assert target.unmap_all() == 3 * PAGE


def test_unmap_of_everything_by_its_range(ioas: Ioas, buffer: DmaBuffer) -> None:
    """The last byte of the space is beyond the range of 2^64 - 1 bytes, but the kernel takes this range for all."""
    low, high = ioas.map(buffer, BASE, length=PAGE), ioas.map(buffer, (1 << 64) - PAGE, length=PAGE)
    assert ioas.unmap(0, (1 << 64) - 1) == 2 * PAGE
    assert (low.closed, high.closed) == (True, True)


def test_a_buffer_cannot_go_under_a_mapping(target: Ioas) -> None:
    buffer = DmaBuffer(PAGE)
    mapping = target.map(buffer, BASE)
    buffer.close()
    assert mapping.closed
    with pytest.raises(ObjectNotFoundError):
        target.unmap(BASE, PAGE)


def test_a_mapping_keeps_a_dropped_buffer(mock: MockDevice, ioas: Ioas) -> None:
    hwpt = mock.alloc_hwpt(ioas)
    mapping = ioas.map(DmaBuffer(PAGE), BASE)
    mapping.buffer.view[:4] = b"kept"
    check_map(ioas.iommufd, hwpt.id, BASE, PAGE, mapping.user_va)
    assert bytes(mapping.buffer.view[:4]) == b"kept"


def test_read_only(mock: MockDevice, ioas: Ioas, buffer: DmaBuffer) -> None:
    hwpt = mock.alloc_hwpt(ioas)
    assert ioas.map(buffer, BASE, flags=MapFlags.READABLE).flags == MapFlags.READABLE
    check_map(ioas.iommufd, hwpt.id, BASE, buffer.length, buffer.user_va)
    with pytest.raises(InvalidFieldError):
        ioas.map(buffer, flags=MapFlags(0))


def test_copy_shares_the_pages(mock: MockDevice, iommufd: Iommufd, ioas: Ioas, buffer: DmaBuffer) -> None:
    source = ioas.map(buffer, BASE)
    other = iommufd.alloc_ioas()
    hwpt = mock.alloc_hwpt(other)
    copied = other.copy(source, BASE, offset=PAGE, length=2 * PAGE)
    check_map(other.iommufd, hwpt.id, BASE, 2 * PAGE, buffer.user_va + PAGE)
    source.close()
    check_map(other.iommufd, hwpt.id, BASE, 2 * PAGE, buffer.user_va + PAGE)
    assert copied.user_va == buffer.user_va + PAGE
    with pytest.raises(ClosedError):
        other.copy(source)


def test_copy_of_what_is_not_mapped(iommufd: Iommufd, ioas: Ioas, buffer: DmaBuffer) -> None:
    ioas.map(buffer, BASE, length=PAGE)
    with pytest.raises(ObjectNotFoundError, match="source range is not wholly mapped") as caught:
        iommufd.alloc_ioas().copy_iova(ioas, BASE, 2 * PAGE)
    assert caught.value.errno == errno.ENOENT


def test_a_copy_does_not_reach_the_memory_behind_its_source(iommufd: Iommufd, ioas: Ioas, buffer: DmaBuffer) -> None:
    """The kernel would copy both mappings; the end of the second buffer would not unmap the copy of its pages."""
    with DmaBuffer(PAGE) as behind:
        source = ioas.map(buffer, BASE)
        ioas.map(behind, BASE + buffer.length)
        other = iommufd.alloc_ioas()
        for offset, length in ((0, buffer.length + PAGE), (buffer.length, PAGE), (-PAGE, PAGE)):
            with pytest.raises(ArgumentValueError, match=r"not inside DmaMapping\("):
                other.copy(source, offset=offset, length=length)


def test_map_file(mock: MockDevice, ioas: Ioas, iommufd: Iommufd) -> None:
    need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    hwpt = mock.alloc_hwpt(ioas)
    with DmaBuffer(4 * PAGE, Backing.MEMFD) as memory:
        ioas.map_file(memory, BASE)
        check_map(ioas.iommufd, hwpt.id, BASE, memory.length, memory.user_va)
    with DmaBuffer(PAGE) as anonymous, pytest.raises(ValueError, match="memfd"):
        ioas.map_file(anonymous)


def test_allow_iovas(mock: MockDevice, ioas: Ioas, buffer: DmaBuffer) -> None:
    allowed = IovaRange(BASE, BASE + 64 * PAGE - 1)
    ioas.allow_iovas([allowed])
    assert allowed.contains(ioas.map(buffer).iova, buffer.length)
    mock.attach(ioas)
    with pytest.raises(IommufdError) as caught:
        ioas.allow_iovas([IovaRange(0, PAGE - 1)])
    assert caught.value.errno == errno.EADDRINUSE


def test_a_range_that_no_device_can_have(mock: MockDevice, ioas: Ioas) -> None:
    ioas.allow_iovas([IovaRange(0, PAGE - 1)])
    with pytest.raises(IommufdError, match=r"or a range that Ioas\.allow_iovas\(\) demands") as caught:
        mock.alloc_hwpt(ioas)
    assert caught.value.errno == errno.EADDRINUSE
    ioas.allow_iovas([])
    mock.alloc_hwpt(ioas)


def test_a_mapping_that_no_device_can_have(mock: MockDevice, ioas: Ioas, buffer: DmaBuffer) -> None:
    """Without a device the kernel chooses any IOVA; the mock devices reach none below 16M."""
    mapping = ioas.map(buffer)
    with pytest.raises(IommufdError, match=r"a mapping of the IOAS, .* unmap it first") as caught:
        mock.attach(ioas)
    assert caught.value.errno == errno.EADDRINUSE
    mapping.close()
    mock.attach(ioas)


def test_huge_pages_option(mock: MockDevice, ioas: Ioas) -> None:
    assert ioas.huge_pages
    ioas.huge_pages = False
    assert not ioas.huge_pages


def test_many_ranges_are_all_returned(ioas: Ioas, iommufd: Iommufd) -> None:
    need(iommufd.probe()["IOMMU_TEST_CMD"], "needs a kernel with CONFIG_IOMMUFD_TEST: run it in the lab")
    holes = 40
    for i in range(holes):
        add_reserved(ioas, (2 * i + 1) * PAGE, PAGE)
    ranges = ioas.iova_ranges().ranges
    assert ranges[0] == IovaRange(0, PAGE - 1)
    assert ranges[-1] == IovaRange(2 * holes * PAGE, ALL)
    assert len(ranges) == holes + 1


def test_range_outside_the_buffer(ioas: Ioas, buffer: DmaBuffer) -> None:
    with pytest.raises(ValueError, match="not inside"):
        ioas.map(buffer, offset=PAGE, length=buffer.length)


def test_noiommu_get_pa_of_an_ioas_with_an_iommu(mock: MockDevice, ioas: Ioas) -> None:
    need_ioctl(mock.iommufd, "IOMMU_IOAS_NOIOMMU_GET_PA", "7.3")
    mock.attach(ioas)
    with DmaBuffer(PAGE) as buffer, ioas.map(buffer, BASE), pytest.raises(IommufdError) as caught:
        uapi.ioas_noiommu_get_pa(mock.iommufd.fileno(), ioas.id, BASE, PAGE)
    assert caught.value.errno == errno.EOPNOTSUPP
