# SPDX-License-Identifier: MIT
"""A signal at any moment of map and unmap: no page stays pinned without an object for it."""

from collections.abc import Callable

import pytest

from iommufd_py import Backing, DmaBuffer, Ioas, Iommufd, MockDevice, ObjectNotFoundError, Type1Container
from iommufd_py.mock import APERTURE, check_refs
from iommufd_py.objects.iommufd import DEV_IOMMU
from iommufd_py.vfio.emulated import EmulatedDevice
from tests.conftest import need_ioctl
from tests.storm import signal_storm

PAGE = 4096
IOVA = APERTURE.start
# The attachment of the device is one of the dependents of the IOAS.
ATTACHMENTS = 1


@pytest.fixture
def attached(mock: MockDevice, iommufd: Iommufd) -> Ioas:
    """An IOAS with a domain, so that the kernel pins mapped pages."""
    ioas = iommufd.alloc_ioas()
    mock.attach(ioas)
    return ioas


def map_and_close(ioas: Ioas, buffer: DmaBuffer) -> None:
    ioas.map(buffer).close()


def map_and_unmap(ioas: Ioas, buffer: DmaBuffer) -> None:
    # not the IOVA of an interrupted round
    iova = IOVA + sum(mapping.length for mapping in ioas._mapped.values())
    ioas.map(buffer, iova)
    ioas.unmap(iova, buffer.length)


def map_and_unmap_all(ioas: Ioas, buffer: DmaBuffer) -> None:
    ioas.map(buffer)
    ioas.unmap_all()


def map_file(ioas: Ioas, buffer: DmaBuffer) -> None:
    ioas.map_file(buffer).close()


@pytest.mark.parametrize("work", [map_and_close, map_and_unmap, map_and_unmap_all, map_file])
def test_the_open_mappings_are_pinned_and_nothing_else(
    iommufd: Iommufd, attached: Ioas, work: Callable[[Ioas, DmaBuffer], None]
) -> None:
    if work is map_file:
        need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    with DmaBuffer(PAGE, Backing.MEMFD) as buffer:

        def check() -> None:
            check_refs(iommufd, buffer.user_va, PAGE, pins=len(buffer._dependents))
            assert len(attached._mapped) == len(buffer._dependents) == len(attached._dependents) - ATTACHMENTS
            # closing the buffer does the same
            for mapping in tuple(buffer._dependents):
                mapping.close()
            check_refs(iommufd, buffer.user_va, PAGE, pins=0)

        assert signal_storm(lambda: work(attached, buffer), check) > 20


def test_an_interrupted_copy_leaves_nothing_mapped(attached: Ioas, iommufd: Iommufd) -> None:
    with DmaBuffer(PAGE, Backing.MEMFD) as buffer, iommufd.alloc_ioas() as other, attached.map(buffer) as mapping:

        def check() -> None:
            for one in tuple(other._mapped.values()):
                one.close()
            # The kernel has no mapping without an object.
            with pytest.raises(ObjectNotFoundError):
                other.unmap(0, 1 << 63)

        assert signal_storm(lambda: other.copy(mapping).close(), check) > 20


def test_a_group_that_an_interrupted_container_opened_can_be_used() -> None:
    """The kernel lets a group be opened once, so the container must know every group that it has open."""
    with (
        EmulatedDevice() as first,
        EmulatedDevice() as second,
        Type1Container(None, path=DEV_IOMMU, group=first.group) as container,
    ):

        def check() -> None:
            group = container._groups.get(second.group) or container._join(second.group)
            group.close()

        assert signal_storm(lambda: container._join(second.group).close(), check) > 20
