# SPDX-License-Identifier: MIT
"""A device behind a real or emulated VT-d: the lab's, or IOMMUFD_BDF=0000:3b:00.0 on hardware."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py import Backing, ContainerMode, VfioDevice
from iommufd_py.testing.devices import DevicePool
from tests.programs import IOMMUFD
from tests.vtd.dma import address as address
from tests.vtd.dma import mode_harness as mode_harness
from tests.vtd.pci_drivers import as_it_was as as_it_was


@pytest.fixture
def device(vfio_device: VfioDevice) -> VfioDevice:
    return vfio_device


@pytest.fixture
def mode(container_mode: ContainerMode) -> ContainerMode:
    return container_mode


@pytest.fixture
def all_given_back(device_pool: DevicePool) -> None:
    """Give back all devices of the pool, for tests that bind and restore. Later tests take them again."""
    device_pool.close()


@pytest.fixture
def nobody() -> list[str]:
    """The words before a command that another user than root runs."""
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*words, "test", "-x", IOMMUFD], check=False).returncode:
        pytest.skip(f"{IOMMUFD} is not for other users to run: use a checkout that they can read")
    return words


@contextlib.contextmanager
def huge_pages(backing: Backing, count: int = 1) -> Iterator[None]:
    """Provide *count* free huge pages of a backing during the block; skip if the kernel has too few."""
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
            pytest.skip(
                f"{count} free huge pages cannot be reserved: see {total}, or reserve them at boot (hugepagesz=)"
            )
        yield
    finally:
        total.write_text(before)
