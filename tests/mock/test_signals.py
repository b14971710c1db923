# SPDX-License-Identifier: MIT
"""A signal at any moment of map and unmap: no page stays pinned that the objects do not know of."""

from collections.abc import Callable

import pytest

from iommufd_py import Backing, DmaBuffer, Ioas, Iommufd, MockDevice
from iommufd_py.mock import APERTURE, check_refs
from iommufd_py.objects.mapping import Mapping
from tests.conftest import need_ioctl
from tests.storm import storm

PAGE = 4096
IOVA = APERTURE.start


@pytest.fixture
def attached(mock: MockDevice, iommufd: Iommufd) -> Ioas:
    """An IOAS with a domain, for which the kernel pins what is mapped."""
    ioas = iommufd.alloc_ioas()
    mock.attach(ioas)
    return ioas


def map_any(ioas: Ioas, buffer: DmaBuffer) -> Mapping:
    return ioas.map(buffer)


def map_fixed(ioas: Ioas, buffer: DmaBuffer) -> Mapping:
    return ioas.map(buffer, IOVA)


def map_file(ioas: Ioas, buffer: DmaBuffer) -> Mapping:
    return ioas.map_file(buffer)


def close(mapping: Mapping) -> None:
    mapping.close()


def unmap(mapping: Mapping) -> None:
    assert isinstance(mapping._space, Ioas)
    mapping._space.unmap(mapping.iova, mapping.length)


def unmap_all(mapping: Mapping) -> None:
    assert isinstance(mapping._space, Ioas)
    mapping._space.unmap_all()


@pytest.mark.parametrize("work", [map_any, map_fixed, map_file])
def test_an_interrupted_map_leaves_nothing_pinned(
    iommufd: Iommufd, attached: Ioas, work: Callable[[Ioas, DmaBuffer], Mapping]
) -> None:
    if work is map_file:
        need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    with DmaBuffer(PAGE, Backing.MEMFD) as buffer:

        def check() -> None:
            # As closing the buffer does.
            for mapping in tuple(buffer._dependents):
                mapping.close()
            check_refs(iommufd, buffer.user_va, PAGE, pins=0)

        assert storm(lambda: None, lambda: work(attached, buffer), check) > 50


def test_an_interrupted_copy_leaves_nothing_mapped(attached: Ioas, iommufd: Iommufd) -> None:
    with DmaBuffer(PAGE) as buffer, iommufd.alloc_ioas() as other, attached.map(buffer) as mapping:

        def check() -> None:
            for one in tuple(buffer._dependents):
                if one is not mapping:
                    one.close()
            assert other.unmap_all() == 0

        assert storm(lambda: None, lambda: other.copy(mapping), check) > 50


@pytest.mark.parametrize("work", [close, unmap, unmap_all])
def test_a_mapping_is_open_as_long_as_it_is_mapped(
    iommufd: Iommufd, attached: Ioas, work: Callable[[Mapping], None]
) -> None:
    with DmaBuffer(PAGE) as buffer:
        made: list[Mapping] = []

        def prepare() -> None:
            made[:] = [attached.map(buffer, IOVA)]

        def check() -> None:
            (mapping,) = made
            check_refs(iommufd, buffer.user_va, PAGE, pins=0 if mapping.closed else 1)
            mapping.close()
            check_refs(iommufd, buffer.user_va, PAGE, pins=0)

        assert storm(prepare, lambda: work(made[0]), check) > 50
