# SPDX-License-Identifier: MIT
"""Check peer-to-peer DMA: a device writes and reads the BAR of another device, through a dma-buf in its IOAS."""

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
    """Return the largest prefetchable BAR of *peer*. It is memory: a write changes only the written bytes.

    Raises:
        SkipError: the device has no such BAR. Other BARs hold registers, and a write to a register can have any effect.
    """
    bars = []
    for index in range(RegionIndex.BAR0, RegionIndex.BAR5 + 1):
        bar = peer.region(index)
        if bar.info.size >= _BYTES and peer.config.read_int(_BARS + 4 * index, 4) & _PREFETCHABLE:
            bars.append(bar)
    if not bars:
        raise SkipError(
            f"{peer.bdf} has no prefetchable BAR of {_BYTES} bytes or more: its BARs hold registers, to which the "
            "checks do not write; choose a device with memory of its own"
        )
    return max(bars, key=lambda bar: bar.info.size)


class PeerCheck:
    """Cases of one device that reaches the memory of another one. At the end the memory has its old content again.

    Args:
        harness: harness of the device that does the DMA; its space is an Ioas.
        peer: the open device whose BAR is the target.

    Attributes:
        bar: the BAR. The cases use its first two pages.
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
            return results + [run_case(case, self.harness, stops=True) for case in stopping]
        finally:
            self.bar.write(0, saved)

    def peer_write(self, harness: Harness) -> str:
        """The device's write to the IOVA of a BAR changes the written bytes of that BAR and no others."""
        with self._mapped() as iova:
            self._lands(iova, 0x100, 0x200)
            self._lands(iova, PAGE_BYTES - 0x40, 0x80)
        return f"in {self.bar!r}"

    def peer_read(self, harness: Harness) -> str:
        """The device reads at the IOVA of a BAR the bytes that the CPU wrote to the BAR."""
        if not harness.engine.reads.max_bytes:
            raise SkipError(f"the engine of {harness.bdf} cannot read memory and return the bytes")
        content = harness.engine.readable(harness.engine.reads.fit(0x200))
        with self._mapped() as iova:
            self.bar.write(0, content)
            if not harness.engine.read(iova, content):
                raise MismatchError(f"the device read other bytes at IOVA {iova:#x} than {self.bar!r} holds")
        return f"from {self.bar!r}"

    def peer_read_only(self, harness: Harness) -> str:
        """The device cannot change a BAR that is mapped without MapFlags.WRITEABLE."""
        with self._mapped(MapFlags.READABLE) as iova:
            return self._is_stopped(iova, "through a read-only mapping")

    def peer_after_unmap(self, harness: Harness) -> str:
        """The device cannot reach the BAR from the unmap on."""
        with self._mapped() as iova:
            self._lands(iova, 0, 0x100)
        return self._is_stopped(iova, "after the unmap")

    def peer_memory_off(self, harness: Harness) -> str:
        """If memory decoding of the peer is switched off, the kernel unmaps the BAR. A new map after it is on works."""
        return self._is_revoked(lambda: self.peer.change_command(clear_bits=PciCommand.MEMORY))

    def peer_reset(self, harness: Harness) -> str:
        """If the peer is reset, the kernel unmaps the BAR. A new map works."""
        if not self.peer.info().flags & DeviceFlags.RESET:
            raise SkipError(f"{self.peer.bdf} cannot be reset through VFIO")
        return self._is_revoked(self.peer.reset)

    def peer_closed(self, harness: Harness) -> str:
        """Closing a mapped dma-buf unmaps it, and the device cannot reach the BAR any more."""
        dmabuf = RegionDmabuf(self.bar, 0, _BYTES)
        iova = harness.place(_BYTES)
        mapping = self._ioas.map_file(dmabuf, iova)
        self._lands(iova, 0, 0x100)
        dmabuf.close()
        if not mapping.closed:
            raise MismatchError("the mapping still exists after its dma-buf was closed")
        return self._is_stopped(iova, "after the dma-buf was closed")

    @contextlib.contextmanager
    def _mapped(self, flags: MapFlags = MapFlags.READ_WRITE) -> Iterator[int]:
        """Map the first pages of the BAR during the block, and yield their IOVA."""
        iova = self.harness.place(_BYTES)
        with RegionDmabuf(self.bar, 0, _BYTES) as dmabuf:
            self._ioas.map_file(dmabuf, iova, flags=flags)
            yield iova

    def _lands(self, iova: int, at: int, length: int) -> None:
        """Let the device write to offset *at* of the BAR at *iova*, and compare the whole mapped part of the BAR."""
        before = self._fill()
        content = self.harness.write(iova + at, length)
        self._expect(before[:at] + content + before[at + length :], "is not the content that the device wrote")

    def _is_stopped(self, iova: int, when: str) -> str:
        """Let the device write to the BAR at *iova*, which must not change. Return the device's report."""
        before = self._fill()
        said = self.harness.try_write(iova, 0x100)
        self._expect(before, f"was written by the device {when}")
        return said or "the BAR is unchanged"

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
        return f"{said}; the device reaches the BAR again after a new map"

    def _fill(self) -> bytes:
        before = self.harness.random.randbytes(_BYTES)
        self.bar.write(0, before)
        return before

    def _expect(self, wanted: bytes, otherwise: str) -> None:
        found = self.bar.read(0, _BYTES)
        if found != wanted:
            at, count = first_difference(found, wanted)
            raise MismatchError(f"the content at {at:#x} of {self.bar!r} {otherwise} ({count} bytes differ)")
