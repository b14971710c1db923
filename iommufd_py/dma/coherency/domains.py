# SPDX-License-Identifier: MIT
"""Cases of several IOASes and HWPTs: domains that get pages by a map, and domains that get them by an attach."""

from collections.abc import Iterator
from contextlib import contextmanager

from iommufd_py.base.coherency import ATTACH_RULE
from iommufd_py.base.errors import SkipError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.dma.coherency.steps import PAGES, after_an_unmap, both_ways, the_device, the_ioas, written_by_the_device
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.hwpt import Hwpt
from iommufd_py.objects.ioas import DmaMapping, Ioas
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.uapi.enums import HwptAllocFlags

_HALF = 4 * PAGE_BYTES


def attach_to_populated(harness: CoherencyHarness) -> None:
    """A device that attaches to an IOAS with mappings reads the data that the CPU wrote before the maps."""
    with other_ioas(harness) as other, DmaBuffer(PAGES * PAGE_BYTES) as buffer:
        new, old = harness.write(buffer)
        other.map(buffer, harness.iova)
        with new_hwpt(harness, other) as domain, attached(harness, domain):
            harness.device_reads("after the attach", new, [old], rule=ATTACH_RULE)


def unmap_after_an_attach(harness: CoherencyHarness) -> None:
    """After the unmap the CPU reads data of a device that attached to the IOAS after the map."""
    with other_ioas(harness) as other, DmaBuffer(PAGES * PAGE_BYTES) as buffer:
        mapping = other.map(buffer, harness.iova)
        with new_hwpt(harness, other) as domain, attached(harness, domain):
            mine = harness.content("the CPU's data", PAGES * PAGE_BYTES)
            # Do this only now, because the flush of the attach removes the lines from the caches.
            harness.put(buffer, mine, in_memory=True)
            written_by_the_device(harness, buffer, mapping, mine)


def half_mapped_later(harness: CoherencyHarness) -> None:
    """Two IOASes each map half of a buffer, by IOAS_COPY. The device reads the half that its IOAS has just mapped."""
    ioas = the_ioas(harness)
    with other_ioas(harness) as source, other_ioas(harness) as other, DmaBuffer(2 * _HALF) as buffer:
        new, old = harness.write(buffer)
        whole = source.map(buffer, harness.iova)
        other.copy(whole, harness.iova, offset=_HALF, length=_HALF)
        with new_hwpt(harness, other) as domain:
            with attached(harness, domain):
                harness.device_reads("after the attach", new.part(_HALF), [old.part(_HALF)], rule=ATTACH_RULE)
            with ioas.copy(whole, harness.iova, length=_HALF):
                harness.device_reads("after the copy", new.part(0, _HALF), [old.part(0, _HALF)])


def half_attached_later(harness: CoherencyHarness) -> None:
    """Two IOASes each map half of a buffer, by IOAS_COPY. The device reads the half of the IOAS that it joins last."""
    ioas = the_ioas(harness)
    with other_ioas(harness) as source, other_ioas(harness) as other, DmaBuffer(2 * _HALF) as buffer:
        new, old = harness.write(buffer)
        whole = source.map(buffer, harness.iova)
        with ioas.copy(whole, harness.iova, length=_HALF):
            harness.device_reads("after the copy", new.part(0, _HALF), [old.part(0, _HALF)])
            other.copy(whole, harness.iova, offset=_HALF, length=_HALF)
            with new_hwpt(harness, other) as domain, attached(harness, domain):
                harness.device_reads("after the attach", new.part(_HALF), [old.part(_HALF)], rule=ATTACH_RULE)


def one_of_two_hwpts(harness: CoherencyHarness) -> None:
    """After the unmap the CPU reads the device's data, although one of the IOAS's two HWPTs was destroyed before."""
    ioas = the_ioas(harness)

    def mapped(buffer: DmaBuffer, iova: int) -> DmaMapping:
        with new_hwpt(harness, ioas):
            return ioas.map(buffer, iova)

    after_an_unmap(harness, mapped)


def map_after_a_hwpt_went(harness: CoherencyHarness) -> None:
    """The device reads the data that the CPU wrote before a map, after one of the IOAS's two HWPTs was destroyed."""
    ioas = the_ioas(harness)
    with new_hwpt(harness, ioas):
        pass
    with DmaBuffer(PAGES * PAGE_BYTES) as buffer:
        new, old = harness.write(buffer)
        with ioas.map(buffer, harness.iova):
            harness.device_reads("after the map", new, [old])


def replaced_hwpt(harness: CoherencyHarness) -> None:
    """Device and CPU read each other's writes although another HWPT replaces the first one after the map."""
    ioas, device, pasid = the_ioas(harness), the_device(harness), harness.engine.pasid
    before = device.attachments[pasid].target
    with new_hwpt(harness, ioas) as second:

        def mapped(buffer: DmaBuffer, iova: int) -> DmaMapping:
            mapping = ioas.map(buffer, iova)
            device.attach(second, pasid)
            return mapping

        try:
            both_ways(harness, mapped, Backing.ANON_4K, PAGES * PAGE_BYTES)
        finally:
            device.attach(before, pasid)


def new_hwpt(harness: CoherencyHarness, ioas: Ioas) -> Hwpt:
    """Make a HWPT that the device, or the PASID of its DMA, can be attached to."""
    flags = HwptAllocFlags(0) if harness.engine.pasid is None else HwptAllocFlags.PASID
    return the_device(harness).alloc_hwpt(ioas, flags=flags)


@contextmanager
def other_ioas(harness: CoherencyHarness) -> Iterator[Ioas]:
    """Allocate another IOAS that maps the memory of the device's engine, for the block; its mappings end with it."""
    memory = harness.engine.memory
    iommufd = the_ioas(harness).iommufd
    if not isinstance(iommufd, Iommufd) or not isinstance(memory, DmaMapping):
        raise SkipError("this case needs an iommufd: use --container iommufd")
    with iommufd.alloc_ioas() as other:
        other.copy(memory, memory.iova)
        yield other


@contextmanager
def attached(harness: CoherencyHarness, target: Ioas | Hwpt) -> Iterator[None]:
    """Attach the device, or the PASID of its DMA, to another IOAS or HWPT during the block."""
    device, pasid = the_device(harness), harness.engine.pasid
    before = device.attachments[pasid].target
    device.attach(target, pasid)
    try:
        yield
    finally:
        device.attach(before, pasid)
