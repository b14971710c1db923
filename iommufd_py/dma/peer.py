# SPDX-License-Identifier: MIT
"""Peer-to-peer DMA: a device writes to and reads from the BAR of another one, through a dma-buf in its IOAS."""

import contextlib
from collections.abc import Callable, Iterator

from iommufd_py.base.errors import SkipError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.checks import Case, CaseResult, run_case
from iommufd_py.dma.harness import Harness, MismatchError, first_difference
from iommufd_py.objects.ioas import Ioas
from iommufd_py.uapi.enums import DeviceFlags, MapFlags, RegionIndex
from iommufd_py.vfio.dmabuf import RegionDmabuf
from iommufd_py.vfio.pci_device import PciCommand, VfioPciDevice
from iommufd_py.vfio.region import Region

# PCI configuration space: the first BAR, and the bit of a BAR that is memory without side effects.
_BARS, _PREFETCHABLE = 0x10, 1 << 3

_BYTES = 2 * PAGE_BYTES


def peer_memory(peer: VfioPciDevice) -> Region:
    """Return the largest BAR of *peer* that is memory: prefetchable, so that a write changes nothing but its bytes.

    Raises:
        SkipError: it has none. Another BAR is registers, and a write to it can do anything.
    """
    bars = []
    for index in range(RegionIndex.BAR0, RegionIndex.BAR5 + 1):
        bar = peer.region(index)
        if bar.info.size >= _BYTES and peer.config.read_int(_BARS + 4 * index, 4) & _PREFETCHABLE:
            bars.append(bar)
    if not bars:
        raise SkipError(
            f"{peer.bdf} has no prefetchable BAR of {_BYTES} bytes or more: its BARs are registers, which no check "
            "writes to; choose a device with memory of its own"
        )
    return max(bars, key=lambda bar: bar.info.size)


class PeerCheck:
    """Cases of one device that reaches the memory of another. What was in that memory is put back.

    Args:
        harness: of the device that does the DMA; its space is an Ioas.
        peer: the device whose BAR is reached, open on the same host.

    Attributes:
        bar: the BAR; its first two pages are used.
    """

    def __init__(self, harness: Harness, peer: VfioPciDevice) -> None:
        assert isinstance(harness.space, Ioas)
        self.harness = harness
        self.peer = peer
        self._ioas = harness.space
        peer.change_command(set_bits=PciCommand.MEMORY)
        self.bar = peer_memory(peer)

    def run(self) -> list[CaseResult]:
        """Run all cases."""
        passing: tuple[Case, ...] = (self.peer_write, self.peer_read)
        stopping: tuple[Case, ...] = (
            self.peer_read_only,
            self.peer_after_unmap,
            self.peer_memory_off,
            self.peer_reset,
            self.peer_closed,
        )
        saved = self.bar.read(0, _BYTES)
        try:
            results = [run_case(case, self.harness) for case in passing]
            for case in stopping:
                self.harness.await_fault_room()
                results.append(run_case(case, self.harness, stops=True))
            return results
        finally:
            self.bar.write(0, saved)

    def peer_write(self, harness: Harness) -> str:
        """What the device writes to the IOVA of a BAR is in that BAR, and nowhere else in it."""
        with self._mapped() as iova:
            self._lands(iova, 0x100, 0x200)
            self._lands(iova, PAGE_BYTES - 0x40, 0x80)
        return f"in {self.bar!r}"

    def peer_read(self, harness: Harness) -> str:
        """What the CPU wrote to a BAR is what the device reads at its IOVA."""
        if not harness.engine.reads.max_bytes:
            raise SkipError(f"{harness.bdf} reads nothing of its own accord")
        content = harness.engine.readable(harness.engine.reads.fit(0x200))
        with self._mapped() as iova:
            self.bar.write(0, content)
            if not harness.engine.read(iova, content):
                raise MismatchError(f"the device did not find at IOVA {iova:#x} what lies in {self.bar!r}")
        return f"from {self.bar!r}"

    def peer_read_only(self, harness: Harness) -> str:
        """A BAR that is mapped without MapFlags.WRITEABLE stays as it is."""
        with self._mapped(MapFlags.READABLE) as iova:
            return self._is_stopped(iova, "through a read-only mapping")

    def peer_after_unmap(self, harness: Harness) -> str:
        """After the unmap the BAR is out of reach at once."""
        with self._mapped() as iova:
            self._lands(iova, 0, 0x100)
        return self._is_stopped(iova, "after the unmap")

    def peer_memory_off(self, harness: Harness) -> str:
        """Memory decoding of the peer goes off and on: the kernel takes the BAR out of the domain, until a new map."""
        return self._is_revoked(lambda: self.peer.change_command(clear_bits=PciCommand.MEMORY))

    def peer_reset(self, harness: Harness) -> str:
        """The peer is reset: the kernel takes the BAR out of the domain, until a new map."""
        if not self.peer.info().flags & DeviceFlags.RESET:
            raise SkipError(f"{self.peer.bdf} cannot be reset through VFIO")
        return self._is_revoked(self.peer.reset)

    def peer_closed(self, harness: Harness) -> str:
        """The dma-buf is closed while it is mapped: that unmaps it first, and the BAR is out of reach."""
        dmabuf = RegionDmabuf(self.bar, 0, _BYTES)
        iova = harness.place(_BYTES)
        mapping = self._ioas.map_file(dmabuf, iova)
        self._lands(iova, 0, 0x100)
        dmabuf.close()
        if not mapping.closed:
            raise MismatchError("the mapping outlived its dma-buf")
        return self._is_stopped(iova, "after the dma-buf was closed")

    @contextlib.contextmanager
    def _mapped(self, flags: MapFlags = MapFlags.READ_WRITE) -> Iterator[int]:
        """Have the first pages of the BAR mapped, and yield their IOVA."""
        iova = self.harness.place(_BYTES)
        with RegionDmabuf(self.bar, 0, _BYTES) as dmabuf:
            self._ioas.map_file(dmabuf, iova, flags=flags)
            yield iova

    def _lands(self, iova: int, at: int, length: int) -> None:
        """Have the device write to offset *at* of the BAR at *iova*, and compare all that is mapped of the BAR."""
        before = self._fill()
        content = self.harness.write(iova + at, length)
        self._expect(before[:at] + content + before[at + length :], "is not what the device wrote")

    def _is_stopped(self, iova: int, when: str) -> str:
        """Have the device write to the BAR at *iova*, which must stay as it is; return what the device says."""
        before = self._fill()
        said = self.harness.try_write(iova, 0x100)
        self._expect(before, f"was written by the device {when}")
        return said or "the BAR is untouched"

    def _is_revoked(self, revoke: Callable[[], None]) -> str:
        iova = self.harness.place(_BYTES)
        with RegionDmabuf(self.bar, 0, _BYTES) as dmabuf:
            with self._ioas.map_file(dmabuf, iova):
                self._lands(iova, 0, 0x100)
                try:
                    revoke()
                finally:
                    self.peer.change_command(set_bits=PciCommand.MEMORY)
                said = self._is_stopped(iova, "through a mapping whose dma-buf was revoked")
            with self._ioas.map_file(dmabuf, iova):
                self._lands(iova, 0, 0x100)
        return f"{said}; reached again after a new map"

    def _fill(self) -> bytes:
        before = self.harness.random.randbytes(_BYTES)
        self.bar.write(0, before)
        return before

    def _expect(self, wanted: bytes, otherwise: str) -> None:
        found = self.bar.read(0, _BYTES)
        if found != wanted:
            at, count = first_difference(found, wanted)
            raise MismatchError(f"what lies at {at:#x} of {self.bar!r} {otherwise} ({count} bytes differ)")
