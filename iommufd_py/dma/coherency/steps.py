# SPDX-License-Identifier: MIT
"""Steps that several cases share, and the objects that a case needs."""

from collections.abc import Callable

from iommufd_py.base.errors import SkipError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.dma.coherency.readings import Content
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.device import BoundDevice
from iommufd_py.objects.ioas import Ioas
from iommufd_py.objects.mapping import Mapping

PAGES = 2
"""Number of base pages of a buffer, for a case in which the number does not matter."""


def after_an_unmap(harness: CoherencyHarness, mapped: Callable[[DmaBuffer, int], Mapping]) -> None:
    """Let the device write to memory of which the caches hold clean lines; let the CPU read it after the unmap."""
    with DmaBuffer(PAGES * PAGE_BYTES) as buffer:
        mine = harness.content("the CPU's data", PAGES * PAGE_BYTES)
        harness.put(buffer, mine, in_memory=True)
        harness.cpu_reads("before the map", buffer, [mine])
        mapping = mapped(buffer, harness.iova)
        written_by_the_device(harness, buffer, mapping, mine)


def both_ways(
    harness: CoherencyHarness, mapped: Callable[[DmaBuffer, int], Mapping], backing: Backing, length: int
) -> None:
    """Let the device read data that the CPU wrote before the map; then do as :func:`written_by_the_device`."""
    with DmaBuffer(length, backing) as buffer:
        new, old = harness.write(buffer, PAGES * PAGE_BYTES)
        mapping = mapped(buffer, harness.iova)
        harness.device_reads("after the map", new, [old])
        # Without this flush, stale lines of the map would look like a fault of the unmap.
        buffer.flush(0, PAGES * PAGE_BYTES)
        written_by_the_device(harness, buffer, mapping, new)


def written_by_the_device(harness: CoherencyHarness, buffer: DmaBuffer, mapping: Mapping, before: Content) -> None:
    """Let the device write to a mapped buffer that contains *before*; let the CPU read it after the unmap."""
    at = PAGE_BYTES // 4
    written = harness.device_writes(PAGE_BYTES // 2, "the device's data", at)
    mapping.close()
    wanted = [before.part(0, at), written, before.part(at + PAGE_BYTES // 2)]
    harness.cpu_reads("after the unmap", buffer, wanted, [before])
    buffer.flush(0, PAGES * PAGE_BYTES)
    harness.cpu_reads("after a CLFLUSH", buffer, wanted, [before])


def the_ioas(harness: CoherencyHarness) -> Ioas:
    """Return the IOAS of the device's DMA. SkipError if a container has the device."""
    if not isinstance(harness.space, Ioas):
        raise SkipError("this case needs an iommufd: use --container iommufd")
    return harness.space


def the_device(harness: CoherencyHarness) -> BoundDevice:
    """Return the device, bound to an iommufd. SkipError if a container has the device."""
    device = harness.engine.device
    if not isinstance(device, BoundDevice):
        raise SkipError("this case needs a device that is bound to an iommufd: use --container iommufd")
    return device
