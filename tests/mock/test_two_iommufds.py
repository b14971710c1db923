# SPDX-License-Identifier: MIT
"""Objects of two iommufds have the same ids. A call that mixes them is refused; without that it would take another."""

from typing import TYPE_CHECKING

import pytest

from iommufd_py import Backing, DmaBuffer, HwptAllocFlags, Iommufd, MockAccess, MockDevice, NotSupportedError
from iommufd_py.base.errors import ArgumentValueError
from iommufd_py.mock import APERTURE, hwpt_data

if TYPE_CHECKING:
    from collections.abc import Callable


def test_objects_of_another_iommufd_are_refused(iommufd: Iommufd) -> None:
    with Iommufd() as other, DmaBuffer(4096, Backing.ANON_4K) as buffer:
        ours, theirs = iommufd.alloc_ioas(), other.alloc_ioas()
        assert ours.id == theirs.id
        device, their_device = MockDevice(iommufd), MockDevice(other)
        hwpt = device.alloc_hwpt(ours, flags=HwptAllocFlags.NEST_PARENT)
        their_hwpt = their_device.alloc_hwpt(theirs, flags=HwptAllocFlags.NEST_PARENT)
        assert hwpt.id == their_hwpt.id
        ours.map(buffer, APERTURE.start)
        mapping = theirs.map(buffer, APERTURE.start)
        calls: dict[str, Callable[[], object]] = {
            "ioas": lambda: device.alloc_hwpt(theirs),
            "target": lambda: device.attach(theirs),
            "parent": lambda: device.alloc_nested(their_hwpt, hwpt_data()),
            "source": lambda: ours.copy(mapping),
        }
        calls |= {
            "attach.*target": lambda: device.attach(their_hwpt),
            "MockDevice.*target": lambda: MockDevice(iommufd, target=their_hwpt),
            "replace.*ioas": lambda: MockAccess(ours).replace(theirs),
            "dma_cc.*ioas": lambda: iommufd.dma_cc(theirs),
            "alloc_viommu.*parent": lambda: device.alloc_viommu(their_hwpt, 0),
        }
        for name, call in calls.items():
            with pytest.raises(ArgumentValueError, match=f"{name} is .* of another iommufd"):
                call()
        try:
            queue = other.alloc_fault_queue()
        except NotSupportedError:
            return
        with pytest.raises(ArgumentValueError, match=r"fault_queue is .* of another iommufd"):
            device.alloc_hwpt(ours, fault_queue=queue)
