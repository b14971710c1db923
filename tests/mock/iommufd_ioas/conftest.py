# SPDX-License-Identifier: MIT
"""Fixture `iommufd_ioas` of the kernel's selftests: an IOAS without and with domains, and with tiny batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from iommufd_py import (
    Ioas,
    Iommufd,
    MockDevice,
)
from iommufd_py.mock import (
    APERTURE,
    limit_memory,
)
from tests.conftest import need_ioctl, need_mock_driver
from tests.mock.conftest import check_device_cache


@dataclass(frozen=True)
class IoasVariant:
    domains: int = 0
    memory_limit: int | None = None
    pasid: bool = False


VARIANTS = {
    "no_domain": IoasVariant(),
    "mock_domain": IoasVariant(domains=1, pasid=True),
    "two_mock_domain": IoasVariant(domains=2),
    "mock_domain_limit": IoasVariant(domains=1, memory_limit=16),
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> IoasVariant:
    return VARIANTS[request.param]


@pytest.fixture(autouse=True)
def devices(variant: IoasVariant, iommufd: Iommufd, ioas: Ioas) -> Iterator[list[MockDevice]]:
    """The variant's devices, each with a separate domain on the IOAS."""
    need_ioctl(iommufd, "IOMMU_TEST_CMD", "with CONFIG_IOMMUFD_TEST")
    if variant.domains:
        need_mock_driver(iommufd)
    limit_memory(iommufd, variant.memory_limit)
    made = [MockDevice(iommufd, target=ioas) for _ in range(variant.domains)]
    for device in made:
        check_device_cache(device)
    yield made
    with Iommufd() as another:
        limit_memory(another, None)


@pytest.fixture
def base(devices: list[MockDevice]) -> int:
    """The lowest IOVA that the variant can map."""
    return APERTURE.start if devices else 0
