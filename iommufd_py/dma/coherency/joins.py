# SPDX-License-Identifier: MIT
"""Cases of a type1 container that has mappings before the device joins it and after the device left it.

The group of an emulated device, which has no IOMMU, keeps the mappings. VFIO's own container pins and maps all memory
when the device joins (vfio_iommu_replay() in drivers/vfio/vfio_iommu_type1.c), and unpins it when the device leaves.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from iommufd_py.base.coherency import ATTACH_RULE
from iommufd_py.base.errors import SkipError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.objects.buffer import DmaBuffer
from iommufd_py.vfio.emulated import EmulatedDevice
from iommufd_py.vfio.type1 import Type1Container

_LENGTH = 2 * PAGE_BYTES


def joined_later(harness: CoherencyHarness) -> None:
    """A device that joins a container with mappings reads the data that the CPU wrote before the maps."""
    with _container(harness) as container, DmaBuffer(_LENGTH) as buffer:
        new, old = harness.write(buffer)
        container.map(buffer, harness.iova)
        with harness.moved(container):
            harness.device_reads("after it joins", new, [old], rule=ATTACH_RULE)


def joined_again(harness: CoherencyHarness) -> None:
    """A device that left a container and joins it again reads the data that the CPU wrote in between."""
    with _container(harness) as container, DmaBuffer(_LENGTH) as buffer:
        first = harness.content("the CPU's data of the first join", _LENGTH)
        harness.put(buffer, first, in_memory=True)
        container.map(buffer, harness.iova)
        with harness.moved(container):
            harness.device_reads("after it joins", first, [], rule=ATTACH_RULE)
        new, old = harness.write(buffer)
        with harness.moved(container):
            harness.device_reads("after it joins again", new, [old, first], rule=ATTACH_RULE)


def left_with_mappings(harness: CoherencyHarness) -> None:
    """After the device left a container with mappings the CPU reads its data, and a CLFLUSH does not change it."""
    with _container(harness) as container, DmaBuffer(_LENGTH) as buffer:
        mine = harness.content("the CPU's data", _LENGTH)
        harness.put(buffer, mine, in_memory=True)
        container.map(buffer, harness.iova)
        with harness.moved(container):
            # The CPU reads after the flush of the join, so that its caches hold the lines.
            harness.cpu_reads("after it joins", buffer, [mine])
            written = harness.device_writes(PAGE_BYTES, "the device's data")
        wanted = [written, mine.part(PAGE_BYTES)]
        harness.cpu_reads("after it left", buffer, wanted, [mine])
        buffer.flush()
        harness.cpu_reads("after a CLFLUSH", buffer, wanted, [mine])


@contextmanager
def _container(harness: CoherencyHarness) -> Iterator[Type1Container]:
    """Open another container of the same mode for the block. It has an emulated device and no IOMMU."""
    home = harness.space
    if not isinstance(home, Type1Container):
        raise SkipError("this case needs a type1 container: use --container vfio_type1v2")
    with (
        EmulatedDevice() as emulated,
        Type1Container(None, home.iommu_type, home.path, group=emulated.group) as container,
    ):
        yield container
