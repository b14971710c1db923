# SPDX-License-Identifier: MIT
"""Fixture `iommufd_mock_domain` of the kernel's selftests: translations of domains, for every kind of page."""

import errno
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from iommufd_py import Backing, DmaBuffer, DmaMapping, HwptAllocFlags, Ioas, Iommufd, MapFlags, MockAccess, MockDevice
from iommufd_py.mock import APERTURE, PAGE_BYTES, check_map, check_refs
from iommufd_py.uapi import iommufd as uapi
from iommufd_py.uapi.call import address_of_buffer
from iommufd_py.uapi.iommufd_test import issue_test_op
from tests.conftest import fails, need_huge_pages, need_ioctl, need_mock_driver
from tests.mock.conftest import check_device_cache

PAGE = 4096


@dataclass(frozen=True)
class MockDomainVariant:
    domains: int
    hugepages: bool = False
    file: bool = False

    @property
    def backing(self) -> Backing:
        # The variant "file_hugepage" of the kernel's cases also maps a memfd of small pages.
        if self.file:
            return Backing.MEMFD
        return Backing.HUGETLB_2M if self.hugepages else Backing.ANON_4K

    @property
    def buffer_bytes(self) -> int:
        return 4 << 20 if self.hugepages else 8 * PAGE


VARIANTS = {
    "one_domain": MockDomainVariant(1),
    "two_domains": MockDomainVariant(2),
    "one_domain_hugepage": MockDomainVariant(1, hugepages=True),
    "two_domains_hugepage": MockDomainVariant(2, hugepages=True),
    "one_domain_file": MockDomainVariant(1, file=True),
    "one_domain_file_hugepage": MockDomainVariant(1, hugepages=True, file=True),
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> MockDomainVariant:
    return VARIANTS[request.param]


@pytest.fixture(autouse=True)
def devices(variant: MockDomainVariant, iommufd: Iommufd, ioas: Ioas) -> list[MockDevice]:
    need_mock_driver(iommufd)
    if variant.file:
        need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    made = [MockDevice(iommufd, target=ioas) for _ in range(variant.domains)]
    check_device_cache(made[0])
    return made


def need_backing(variant: MockDomainVariant) -> None:
    if variant.hugepages:
        need_huge_pages()


def map_it(variant: MockDomainVariant, ioas: Ioas, buffer: DmaBuffer, offset: int, length: int) -> DmaMapping:
    return (ioas.map_file if variant.file else ioas.map)(buffer, offset=offset, length=length)


def check_domains(devices: list[MockDevice], iova: int, length: int, user_va: int) -> None:
    """Make the kernel compare the translations of each device's domain with the pages of *user_va*."""
    for device in devices:
        check_map(device.iommufd, device.attachments[None].hwpt_id, iova, length, user_va)


def test_basic(variant: MockDomainVariant, devices: list[MockDevice], ioas: Ioas, shared_buffer: DmaBuffer) -> None:
    mapping = map_it(variant, ioas, shared_buffer, 0, PAGE)
    check_domains(devices, mapping.iova, PAGE, shared_buffer.user_va)

    # Memory that ends halfway, then no memory at all: there are no pages past the end of the file.
    need_backing(variant)
    length, huge = variant.buffer_bytes, variant.backing is Backing.HUGETLB_2M
    fd = os.memfd_create("iommufd-py", os.MFD_CLOEXEC | (os.MFD_HUGETLB | os.MFD_HUGE_2MB if huge else 0))
    os.ftruncate(fd, length)
    with mmap.mmap(fd, length) as memory:
        if variant.file:
            with fails(errno.EINVAL):
                ioas.map_fd(fd, 0, length + 1)
        for left in (length // 2, 0):
            os.ftruncate(fd, left)
            if variant.file:
                with fails(errno.EINVAL):
                    ioas.map_fd(fd, 0, length)
            else:
                with fails(errno.EFAULT):
                    ioas.map_user_va(address_of_buffer(memory), length)
    os.close(fd)


def test_ro_unshare(devices: list[MockDevice], ioas: Ioas) -> None:
    """A write after a read-only map of a private page must not give the process another page than the domain has."""
    with Path("/proc/self/exe").open("rb") as file, mmap.mmap(file.fileno(), PAGE, access=mmap.ACCESS_COPY) as page:
        user_va = address_of_buffer(page)
        iova = ioas.map_user_va(user_va, PAGE, flags=MapFlags.READABLE)
        check_domains(devices, iova, PAGE, user_va)
        page[:] = b"\1" * PAGE
        check_domains(devices, iova, PAGE, user_va)
        ioas.unmap(iova, PAGE)


def alignments(variant: MockDomainVariant) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of every range of the buffer in steps of the mock's page; coarser ones of huge pages."""
    size = variant.buffer_bytes
    if variant.hugepages:
        yield from ((start, size - start) for start in range(0, size, size // 16))
        return
    for start in range(0, size, PAGE_BYTES):
        yield from ((start, end - start) for end in range(start + PAGE_BYTES, size, PAGE_BYTES))


def check_pins(iommufd: Iommufd, buffer: DmaBuffer, offset: int, length: int) -> None:
    """Make the kernel confirm that the pages wholly inside a range are pinned once, for any number of domains."""
    first, end = offset // PAGE * PAGE, (offset + length) // PAGE * PAGE
    check_refs(iommufd, buffer.user_va + first, end - first, 1)


def test_all_aligns(variant: MockDomainVariant, devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas) -> None:
    need_backing(variant)
    with DmaBuffer(variant.buffer_bytes, variant.backing) as buffer:
        check_refs(iommufd, buffer.user_va, buffer.length, 0)
        for offset, length in alignments(variant):
            with map_it(variant, ioas, buffer, offset, length) as mapping:
                check_domains(devices, mapping.iova, length, mapping.user_va)
                check_pins(iommufd, buffer, offset, length)
        check_refs(iommufd, buffer.user_va, buffer.length, 0)


def test_all_aligns_copy(variant: MockDomainVariant, devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas) -> None:
    """The same with a second domain that is added and removed during the mapping, and gets its pages from the first."""
    need_backing(variant)
    with DmaBuffer(variant.buffer_bytes, variant.backing) as buffer:
        for offset, length in alignments(variant):
            with map_it(variant, ioas, buffer, offset, length) as mapping, MockDevice(iommufd, target=ioas) as late:
                check_domains([devices[0], late], mapping.iova, length, mapping.user_va)
                check_pins(iommufd, buffer, offset, length)
        check_refs(iommufd, buffer.user_va, buffer.length, 0)


def test_user_copy(
    variant: MockDomainVariant, devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas, shared_buffer: DmaBuffer
) -> None:
    """Copy pages that an access pinned in an IOAS without domains to one with domains; then it changes its IOAS."""
    first, second = iommufd.alloc_ioas(), iommufd.alloc_ioas()
    length, user_va = shared_buffer.length, shared_buffer.user_va
    access = MockAccess(first, pins=True)
    for source in (first, second):
        mapping = map_it(variant, source, shared_buffer, 0, length)
        if source is second:
            access.replace(second)
            first.close()
        pin = access.pin(mapping.iova, length, user_va)
        with ioas.copy(mapping, APERTURE.start, flags=MapFlags.WRITEABLE):
            check_domains(devices, APERTURE.start, length, user_va)
            if source is second:
                pin.unpin()


def test_replace(variant: MockDomainVariant, devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas) -> None:
    device, other = devices[0], iommufd.alloc_ioas()
    hwpt_ids = [one.attachments[None].hwpt_id for one in devices]

    def replace(pt_id: int) -> None:
        issue_test_op(iommufd.fileno(), "MOCK_DOMAIN_REPLACE", device.id, "mock_domain_replace", pt_id=pt_id)

    replace(other.id)
    if variant.domains == 1:
        # The kernel destroyed its HWPT with the last device.
        with fails(errno.ENOENT):
            replace(hwpt_ids[0])
    replace(other.id)
    if variant.domains >= 2:
        for hwpt_id in (hwpt_ids[1], hwpt_ids[1], hwpt_ids[0]):
            replace(hwpt_id)
    replace(ioas.id)
    other.close()


def test_alloc_hwpt(devices: list[MockDevice], iommufd: Iommufd, ioas: Ioas) -> None:
    for device in devices:
        with fails(errno.EOPNOTSUPP):
            uapi.hwpt_alloc(iommufd.fileno(), device.dev_id, ioas.id, 0xFFFF_FFFF ^ HwptAllocFlags.NEST_PARENT.value)
        hwpts = [device.alloc_hwpt(ioas, flags=flags) for flags in (HwptAllocFlags(0), HwptAllocFlags.NEST_PARENT)]
        for hwpt in hwpts:
            device.attach(hwpt)
            with fails(errno.EBUSY):
                uapi.destroy(iommufd.fileno(), hwpt.id)
        device.attach(ioas)
        hwpts[1].close()
        MockDevice(iommufd, target=hwpts[0]).close()
        hwpts[0].close()
