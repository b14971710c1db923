# SPDX-License-Identifier: MIT
"""The descriptor rings of Ethernet controllers. tests/machines/test_ethernet.py tests the controllers."""

import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.dma.descriptor_ring import (
    DESCRIPTOR_BYTES,
    DONE,
    LAST,
    RING_BYTES,
    DescriptorRing,
    page_pieces,
    receive_descriptor,
    transmit_descriptors,
)

PAGE = 4096
ENTRIES = RING_BYTES // DESCRIPTOR_BYTES
QUEUE, OFFSET, IOVA = 0xC000, PAGE, 0x12_3456_7000
LOW, HIGH, LENGTH, HEAD, TAIL = 0x00, 0x04, 0x08, 0x10, 0x18


@given(st.integers(0, 1 << 40), st.integers(1, 16 * PAGE))
def test_pieces_have_all_bytes_in_order_and_none_crosses_a_page(iova: int, length: int) -> None:
    at = iova
    for start, part in page_pieces(iova, length):
        assert start == at
        assert 0 < part <= PAGE - start % PAGE
        at += part
    assert at == iova + length


def test_transmit_descriptors_are_laid_out_as_the_datasheet_has_them() -> None:
    """Bytes 8 and 9 are the length, byte 11 the command: IFCS in each descriptor, EOP in the last."""
    first, last = transmit_descriptors([(0x1122334455667788, 0x400), (0x99, 1)])
    assert first == bytes.fromhex("8877665544332211 0004 00 02 00 00 0000")
    assert last == bytes.fromhex("9900000000000000 0100 00 03 00 00 0000")


def test_a_receive_descriptor_is_not_done_before_its_use() -> None:
    assert receive_descriptor(0x1122334455667788) == bytes.fromhex("8877665544332211 0000000000000000")


class RecordingDevice:
    """Registers that are only written, and a record of everything that the ring does, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, int]] = []
        self.memory = bytearray(3 * PAGE)
        registers: Any = self
        self.ring = DescriptorRing(registers, QUEUE, memoryview(self.memory), OFFSET, IOVA, self.sync)

    def write_int(self, register: int, value: int, width: int) -> None:
        assert width == 4
        self.events.append(("write", register - QUEUE, value))

    def sync(self, offset: int, length: int) -> None:
        self.events.append(("sync", offset, length))

    def taken(self) -> list[tuple[str, int, int]]:
        events, self.events = self.events, []
        return events


def test_a_ring_is_given_to_the_device_whole_and_empty() -> None:
    device = RecordingDevice()
    device.ring.reset()
    assert device.taken() == [
        ("write", LOW, 0x3456_7000),
        ("write", HIGH, 0x12),
        ("write", LENGTH, RING_BYTES),
        ("write", HEAD, 0),
        ("write", TAIL, 0),
    ]


def test_descriptors_are_in_memory_before_the_device_hears_of_them() -> None:
    device = RecordingDevice()
    assert device.ring.put([b"a" * 16, b"b" * 16]) == 1
    assert device.memory[OFFSET : OFFSET + 48] == b"a" * 16 + b"b" * 16 + bytes(16)
    assert device.taken() == [("sync", OFFSET, 16), ("sync", OFFSET + 16, 16), ("write", TAIL, 2)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=200))
def test_the_ring_goes_round(counts: list[int]) -> None:
    device, total = RecordingDevice(), 0
    for count in counts:
        assert device.ring.put([receive_descriptor(total + at) for at in range(count)]) == (total + count - 1) % ENTRIES
        assert device.taken()[-1] == ("write", TAIL, (total + count) % ENTRIES)
        for at in range(total, total + count):
            (found,) = struct.unpack_from("<Q", device.memory, OFFSET + at % ENTRIES * DESCRIPTOR_BYTES)
            assert found == at
        total += count
    assert not any(device.memory[:OFFSET])
    assert not any(device.memory[OFFSET + RING_BYTES :])
    device.ring.reset()
    assert device.ring.put([bytes(16)]) == 0


def test_a_used_descriptor_has_status_errors_and_length() -> None:
    device = RecordingDevice()
    struct.pack_into("<QIHH", device.memory, OFFSET + 5 * DESCRIPTOR_BYTES, 0xABCD, 0x80 << 24 | DONE | LAST, 77, 9)
    assert device.ring.received(5) == (0x80 << 24 | 3, 77)
    assert device.taken() == [("sync", OFFSET + 5 * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES)]
