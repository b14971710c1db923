# SPDX-License-Identifier: MIT
"""Devices of the kernel's mock driver for the tests here, and the kernel's own check of the order of flushes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iommufd_py import (
    Backing,
    DmaBuffer,
    HwptAllocFlags,
    Ioas,
    Iommufd,
    MediatedDevice,
    MockDevice,
    NotSupportedError,
    SkipError,
)
from iommufd_py.mock import DEVICE_CACHE_DEFAULT, DEVICE_CACHE_ENTRIES, hwpt_data
from iommufd_py.testing.requirements import need, need_mock_driver
from iommufd_py.uapi.enums import MockPageTable
from iommufd_py.vfio.emulated import EmulatedDevice

PAGE = 4096


@pytest.fixture(scope="session", autouse=True)
def _kernel_checks_the_order() -> Iterator[None]:
    """Let a kernel with the series check the order of flush, map, unmap and unpin in every test.

    A fault is a report in the kernel log, which fails the test.
    """
    switch = Path("/sys/module/iommufd/parameters/test_flush_order")
    if not switch.exists():
        yield
        return
    before = switch.read_text()
    switch.write_text("Y")
    yield
    switch.write_text(before)


@pytest.fixture
def mock_driver(iommufd: Iommufd) -> None:
    """The kernel's mock driver, for modules in which every test needs it."""
    need_mock_driver(iommufd)


@pytest.fixture
def mock(mock_device: MockDevice) -> MockDevice:
    return mock_device


@pytest.fixture
def mediated(iommufd: Iommufd) -> Iterator[MediatedDevice]:
    """A new serial port, which the kernel's sample driver mtty emulates."""
    with new_mediated(iommufd) as device:
        yield device


@contextmanager
def new_mediated(iommufd: Iommufd) -> Iterator[MediatedDevice]:
    try:
        emulated = EmulatedDevice()
    except SkipError as reason:
        need(False, str(reason))
        raise
    with emulated, MediatedDevice(iommufd, emulated.uuid) as device:
        yield device


@pytest.fixture
def shared_buffer(dma_buffer: Callable[..., DmaBuffer]) -> DmaBuffer:
    """16 pages of shared memory, as in the kernel's cases."""
    return dma_buffer(16 * PAGE, Backing.MEMFD)


def check_device_cache(device: MockDevice) -> None:
    """Make the kernel confirm that no entry of the cache was invalidated. The cache exists since 6.13, with vIOMMUs."""
    if device.iommufd.probe()["IOMMU_VIOMMU_ALLOC"]:
        for index in range(DEVICE_CACHE_ENTRIES):
            device.check_cache(index, DEVICE_CACHE_DEFAULT)


def need_page_tables(device: MockDevice, ioas: Ioas) -> None:
    """Skip on a kernel whose mock domain is an xarray instead of a page table, with a dirty bit for every 2 KiB."""
    data = hwpt_data(page_table=MockPageTable.HUGE)
    try:
        device.alloc_hwpt(ioas, flags=HwptAllocFlags.DIRTY_TRACKING, data=data).close()
    except NotSupportedError:
        pytest.skip("the mock driver of this kernel has no page tables (since Linux 6.19)")
