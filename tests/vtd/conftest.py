# SPDX-License-Identifier: MIT
"""A device behind a real or emulated VT-d: the lab's, or IOMMUFD_BDF=0000:3b:00.0 on hardware."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py import Backing, Container, ContainerMode, Iommufd, SkipError, VfioDevice, open_container, pci
from iommufd_py.lab.machine import TEST_DEVICES
from tests.conftest import IN_LAB, need

# The modes by the names of their variants in tools/testing/selftests/vfio.
KERNEL_MODES = {
    "vfio_type1_iommu": ContainerMode.VFIO_TYPE1,
    "vfio_type1v2_iommu": ContainerMode.VFIO_TYPE1V2,
    "iommufd_compat_type1": ContainerMode.COMPAT_TYPE1,
    "iommufd_compat_type1v2": ContainerMode.COMPAT_TYPE1V2,
    "iommufd": ContainerMode.IOMMUFD,
}


@pytest.fixture(scope="session")
def bdf() -> Iterator[str]:
    address = os.environ.get("IOMMUFD_BDF") or (TEST_DEVICES[0] if IN_LAB else "")
    need(bool(address), "needs a device: run 'iommufd lab run -- pytest tests/vtd', or set IOMMUFD_BDF to one to spare")
    with pci.vfio_bound(address):
        yield address


@pytest.fixture
def device(iommufd: Iommufd, bdf: str) -> VfioDevice:
    return VfioDevice(iommufd, bdf)


@pytest.fixture(params=KERNEL_MODES)
def mode(request: pytest.FixtureRequest) -> ContainerMode:
    return KERNEL_MODES[request.param]


@pytest.fixture
def container(mode: ContainerMode, bdf: str) -> Iterator[Container]:
    """A container of each of the five modes in turn, with the device in it."""
    with opened(mode, bdf) as one:
        yield one


def opened(mode: ContainerMode, bdf: str) -> Container:
    try:
        return open_container(mode, bdf)
    except SkipError as reason:
        need(False, str(reason))
        raise


@contextlib.contextmanager
def huge_pages(backing: Backing, count: int = 1) -> Iterator[None]:
    """See that *count* free huge pages of a backing are there meanwhile; skip where they cannot be had."""
    if backing not in (Backing.HUGETLB_2M, Backing.HUGETLB_1G):
        yield
        return
    pool = Path(f"/sys/kernel/mm/hugepages/hugepages-{backing.page_bytes >> 10}kB")
    if not pool.exists():
        pytest.skip(f"there is no {pool}: the CPU or this kernel has no such huge pages")
    total, free = pool / "nr_hugepages", pool / "free_hugepages"
    before = total.read_text()
    total.write_text(str(int(before) + max(0, count - int(free.read_text()))))
    try:
        if int(free.read_text()) < count:
            pytest.skip(f"{count} free huge pages cannot be had: see {total}, or reserve them at boot (hugepagesz=)")
        yield
    finally:
        total.write_text(before)
