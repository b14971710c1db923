# SPDX-License-Identifier: MIT
"""The descriptor rings of Intel's gigabit Ethernet controllers, as the 82574 and the 82576 have them.

Source: Intel 82576EB Gigabit Ethernet Controller Datasheet, 7.1 (receive) and 7.2 (transmit); Intel 82574 GbE
Controller Family Datasheet, 7.1 and 7.2.
"""

import struct
from collections.abc import Callable, Sequence

from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.vfio.region import RegionMapping

DESCRIPTOR_BYTES = 16
RING_BYTES = PAGE_BYTES
_ENTRIES = RING_BYTES // DESCRIPTOR_BYTES

# Offsets from the first register of a queue, the same for receive and transmit.
_BASE_LOW, _BASE_HIGH, _LENGTH, _HEAD, _TAIL = 0x00, 0x04, 0x08, 0x10, 0x18

# Legacy transmit descriptor: address, length, checksum offset, command, status, checksum start, VLAN.
_TRANSMIT = struct.Struct("<QHBBBBH")
_END_OF_PACKET, _INSERT_FCS = 1 << 0, 1 << 1
# Receive descriptor before its use: address, and zero for the header's address and for the status.
_RECEIVE = struct.Struct("<QQ")
# Receive descriptor after its use: 8 bytes of other fields, status and errors, length, VLAN.
_RECEIVED = struct.Struct("<8xIHH")

DONE, LAST = 1 << 0, 1 << 1
"""Bits of a receive descriptor's status: the device has written the buffer; the frame ends in it."""


def transmit_descriptors(pieces: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return the descriptors of one frame, whose bytes are *pieces* of memory, each an IOVA and a length."""
    last = len(pieces) - 1
    return [
        _TRANSMIT.pack(iova, length, 0, _INSERT_FCS | (_END_OF_PACKET if at == last else 0), 0, 0, 0)
        for at, (iova, length) in enumerate(pieces)
    ]


def receive_descriptor(iova: int) -> bytes:
    """Return the descriptor of a receive buffer at *iova*. The queue gives the size of its buffers."""
    return _RECEIVE.pack(iova, 0)


def page_pieces(iova: int, length: int) -> list[tuple[int, int]]:
    """Divide *length* bytes at *iova* at page boundaries, into pairs of IOVA and length."""
    pieces = []
    while length:
        part = min(length, PAGE_BYTES - iova % PAGE_BYTES)
        pieces.append((iova, part))
        iova, length = iova + part, length - part
    return pieces


class DescriptorRing:
    """One ring, in a page of memory that is mapped for the device.

    Args:
        registers: the device's registers.
        queue: offset of the queue's first register.
        memory: memory that holds the ring.
        offset: offset of the ring in *memory*.
        iova: IOVA of the ring.
        sync: function that flushes a part of *memory*, given by offset and length. It is called before the device
            reads that part, and before the CPU reads it.
    """

    def __init__(
        self,
        registers: RegionMapping,
        queue: int,
        memory: memoryview,
        offset: int,
        iova: int,
        sync: Callable[[int, int], None],
    ) -> None:
        self._registers = registers
        self._queue = queue
        self._memory = memory
        self._offset = offset
        self._iova = iova
        self._sync = sync
        self._tail = 0

    def reset(self) -> None:
        """Give the empty ring to the device. The queue must be off."""
        self._tail = 0
        for register, value in (
            (_BASE_LOW, self._iova & 0xFFFF_FFFF),
            (_BASE_HIGH, self._iova >> 32),
            (_LENGTH, RING_BYTES),
            (_HEAD, 0),
            (_TAIL, 0),
        ):
            self._registers.write_int(self._queue + register, value, 4)

    def put(self, descriptors: Sequence[bytes]) -> int:
        """Append descriptors, and tell the device; return the place of the last one."""
        last = self._tail
        for descriptor in descriptors:
            last = self._tail
            at = self._offset + last * DESCRIPTOR_BYTES
            self._memory[at : at + DESCRIPTOR_BYTES] = descriptor
            self._sync(at, DESCRIPTOR_BYTES)
            self._tail = (last + 1) % _ENTRIES
        self._registers.write_int(self._queue + _TAIL, self._tail, 4)
        return last

    def received(self, place: int) -> tuple[int, int]:
        """Return status, with the errors in bits 24 to 31, and length of the receive descriptor at *place*."""
        at = self._offset + place * DESCRIPTOR_BYTES
        self._sync(at, DESCRIPTOR_BYTES)
        status, length, _vlan = _RECEIVED.unpack_from(self._memory, at)
        return status, length
