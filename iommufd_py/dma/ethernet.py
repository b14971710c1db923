# SPDX-License-Identifier: MIT
"""An Intel gigabit Ethernet controller as a DMA engine: it transmits memory to itself.

Source: Intel 82576EB Gigabit Ethernet Controller Datasheet, chapters 3.5.6 (loopback), 7.1, 7.2 and 8; Intel 82574 GbE
Controller Family Datasheet, chapters 7.1, 7.2 and 10.
"""

import os
import time
from typing import ClassVar

from iommufd_py.base.errors import ArgumentValueError, DmaError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.descriptor_ring import (
    DONE,
    LAST,
    DescriptorRing,
    page_pieces,
    receive_descriptor,
    transmit_descriptors,
)
from iommufd_py.dma.engine import DmaEngine, TransferLimits, reset_remedy
from iommufd_py.uapi.enums import IrqIndex

_CTRL, _MDIC, _ICR, _IMS, _IMC, _RCTL, _TCTL = 0x0000, 0x0020, 0x00C0, 0x00D0, 0x00D8, 0x0100, 0x0400
_QUEUE_CONTROL = 0x28
# CTRL: full duplex, set link up, a speed of 1000 Mb/s, force speed and duplex; software reset.
_FULL_DUPLEX, _LINK_UP, _SPEED_1000, _SPEEDS, _FORCE = 1 << 0, 1 << 6, 2 << 8, 3 << 8, 3 << 11
_RESET = 1 << 26
# RCTL: enable, all destination addresses, long frames, buffers of 1024 bytes, no FCS at the end of a frame.
_RECEIVE_ON, _PROMISCUOUS, _LONG_FRAMES, _BUFFERS_OF_1024, _STRIP_FCS = 1 << 1, 3 << 3, 1 << 5, 1 << 16, 1 << 26
_TRANSMIT_ON, _PAD_SHORT = 1 << 1, 1 << 3
_RECEIVED_CAUSE, _ALL_CAUSES = 1 << 7, 0xFFFF_FFFF
_MDIC_WRITE, _MDIC_PHY, _MDIC_READY, _MDIC_ERROR = 1 << 26, 1 << 21, 1 << 28, 1 << 30
_PHY_CONTROL = 0
_GONE = 0xFFFF_FFFF

BUFFER_BYTES = 1024
# A frame has at most 8 KiB and the FCS. Both controllers pass 9018 bytes.
_MOST_BYTES = 7 * BUFFER_BYTES

# Ethernet header of every frame: locally administered addresses, and the EtherType for local experiments (IEEE 802).
_HEADER = bytes.fromhex("020000000001 020000000002 88b5")

# The engine's memory, by page.
_RECEIVE_RING, _TRANSMIT_RING, _HEAD, _SINK, _CONTENT, _RECEIVED, _PAGES = 0, 1, 2, 3, 4, 6, 8

_POLL_SECONDS = 1e-4
_RESET_SECONDS = 1.0
# A frame that the IOMMU stopped never comes, so each such case takes this long.
_FRAME_SECONDS = 5.0


class EthernetEngine(DmaEngine):
    """An Intel gigabit Ethernet controller in loopback. No frame leaves it.

    Each transfer is one frame from memory to memory. Its first 1024 bytes are a header and zeros of the engine's own
    memory, and fill exactly one receive buffer there. The rest of the frame is the content: the device reads it from
    one place and writes it to the other, without a byte before or after it. Its length can be any from 1 byte on.

    The device does not report that the IOMMU stops a transfer. A stopped write changes no memory. After a stopped read
    the device receives other bytes (QEMU's devices: zeros) or no frame.

    Attributes:
        receive_queue: offset of the first register of the receive queue.
        transmit_queue: offset of the first register of the transmit queue.
        receive_control: bits to set in the control register of the receive queue.
        transmit_control: bits to set in the control register of the transmit queue.
        loopback: bits of RCTL that select the loopback.
    """

    memory_bytes: ClassVar[int] = _PAGES * PAGE_BYTES
    interrupt_kind: ClassVar[IrqIndex] = IrqIndex.MSI
    receive_queue: ClassVar[int]
    transmit_queue: ClassVar[int]
    receive_control: ClassVar[int]
    transmit_control: ClassVar[int]
    loopback: ClassVar[int] = 0
    address_mask = (1 << 64) - 1
    writes = TransferLimits(_MOST_BYTES, 1, 1)
    reads = writes

    def _start(self) -> None:
        # Place of the last receive descriptor of the transfer under way, and number of bytes in its buffer.
        self._pending: tuple[int, int] | None = None
        self._receive = self._ring(self.receive_queue, _RECEIVE_RING)
        self._transmit = self._ring(self.transmit_queue, _TRANSMIT_RING)
        head = _HEAD * PAGE_BYTES
        self._view[head : head + len(_HEADER)] = _HEADER
        self._sync(head, BUFFER_BYTES)
        self.restart()
        content = self.write(self._iova(_RECEIVED), _MOST_BYTES)
        if self._received(_MOST_BYTES) != content:
            raise DmaError(f"{self.device.name} receives other bytes than it transmits: choose another device")

    def _stop(self) -> None:
        """Stop the queues and reset the device."""
        self._write(_IMC, _ALL_CAUSES)
        self._write(_RCTL, 0)
        self._write(_TCTL, self._read(_TCTL) & ~_TRANSMIT_ON)
        self._write(_CTRL, self._read(_CTRL) | _RESET)
        self._await(_CTRL, _RESET, 0, "end its reset")
        # A reset leaves all interrupts disabled. The datasheets nevertheless ask to disable them again.
        self._write(_IMC, _ALL_CAUSES)

    def restart(self) -> None:
        """Implement :meth:`DmaEngine.restart`: reset the device and enable its queues again."""
        self._pending = None
        self._stop()
        self._write(_CTRL, self._read(_CTRL) & ~_SPEEDS | _FULL_DUPLEX | _LINK_UP | _SPEED_1000 | _FORCE)
        self._prepare()
        for ring, queue, bits in (
            (self._receive, self.receive_queue, self.receive_control),
            (self._transmit, self.transmit_queue, self.transmit_control),
        ):
            ring.reset()
            control = queue + _QUEUE_CONTROL
            self._write(control, self._read(control) | bits)
            self._await(control, bits, bits, "enable a queue")
        self._write(_TCTL, self._read(_TCTL) | _TRANSMIT_ON | _PAD_SHORT)
        mode = _PROMISCUOUS | _LONG_FRAMES | _BUFFERS_OF_1024 | _STRIP_FCS | self.loopback
        self._write(_RCTL, _RECEIVE_ON | mode)
        self._read(_ICR)  # Reading the register clears it.
        if self._interrupts is not None:
            self._write(_IMS, _RECEIVED_CAUSE)

    def _prepare(self) -> None:
        """Write the registers that only this controller has. The queues are not enabled yet."""
        raise NotImplementedError

    def start_write(self, iova: int, length: int) -> bytes:
        """Implement :meth:`DmaEngine.start_write`."""
        self._check(self.writes, iova, length)
        if not iova:
            raise ArgumentValueError(f"{self!r} cannot write to IOVA 0: it skips a receive buffer with this address")
        content = os.urandom(length)
        at = _CONTENT * PAGE_BYTES
        self._view[at : at + length] = content
        self._sync(at, length)
        self._transfer(self._iova(_CONTENT), iova, length)
        return content

    def _transfer(self, source: int, destination: int, length: int) -> None:
        """Start the transfer of *length* bytes from one IOVA to another."""
        # Reading the register clears it. The cause of an earlier transfer would prevent the next interrupt.
        self._read(_ICR)
        buffers = (self._iova(_SINK), *range(destination, destination + length, BUFFER_BYTES))
        last = self._receive.put([receive_descriptor(iova) for iova in buffers])
        self._pending = last, (length - 1) % BUFFER_BYTES + 1
        # QEMU drops a frame with a descriptor that crosses a page boundary behind an IOMMU.
        self._transmit.put(transmit_descriptors([(self._iova(_HEAD), BUFFER_BYTES), *page_pieces(source, length)]))

    def wait(self, timeout: float = _FRAME_SECONDS) -> None:
        """Implement :meth:`DmaEngine.wait`: wait for the frame's last receive descriptor."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        place, wanted = pending
        deadline = time.monotonic() + timeout
        while not (found := self._receive.received(place))[0] & DONE:
            left = deadline - time.monotonic()
            if left <= 0:
                raise DmaError(
                    f"{self.device.name} did not receive the frame that it transmits to itself within {timeout:g} s"
                )
            if self._interrupts is None:
                time.sleep(_POLL_SECONDS)
            else:
                self._interrupts.wait(timeout=left)
        status, length = found
        if status >> 24 or not status & LAST or length != wanted:
            raise DmaError(
                f"{self.device.name} received another frame than it transmitted: the last buffer has {length} bytes "
                f"instead of {wanted}, status {status:#x}"
            )

    def readable(self, length: int) -> bytes:
        """Implement :meth:`DmaEngine.readable`."""
        return os.urandom(length)

    def read(self, iova: int, content: bytes) -> bool:
        """Implement :meth:`DmaEngine.read`."""
        self.start_fetch(iova, len(content))
        return self._arrives() and self._received(len(content)) == content

    def start_fetch(self, iova: int, length: int) -> None:
        """Implement :meth:`DmaEngine.start_fetch`."""
        self._check(self.reads, iova, length)
        self._transfer(iova, self._iova(_RECEIVED), length)

    def fetched(self, length: int) -> bytes:
        """Implement :meth:`DmaEngine.fetched`."""
        return self._received(length) if self._arrives() else os.urandom(length)

    def _arrives(self) -> bool:
        """Wait for the started read, and return whether its frame arrived. If it did not, restart the device."""
        try:
            self.wait()
        except DmaError:
            self.restart()
            return False
        return True

    def _received(self, length: int) -> bytes:
        at = _RECEIVED * PAGE_BYTES
        self._sync(at, length)
        return bytes(self._view[at : at + length])

    def _ring(self, queue: int, page: int) -> DescriptorRing:
        return DescriptorRing(self._registers, queue, self._view, page * PAGE_BYTES, self._iova(page), self._sync)

    def _set_phy_control(self, value: int) -> None:
        """Write the control register of the PHY."""
        self._write(_MDIC, _MDIC_WRITE | _MDIC_PHY | _PHY_CONTROL << 16 | value)
        self._await(_MDIC, _MDIC_READY | _MDIC_ERROR, _MDIC_READY, "write a register of its PHY")

    def _await(self, register: int, bits: int, wanted: int, purpose: str) -> None:
        """Wait until the *bits* of a register are as *wanted*."""
        deadline = time.monotonic() + _RESET_SECONDS
        while True:
            value = self._read(register)
            if value != _GONE and value & bits == wanted:
                return
            if value == _GONE or time.monotonic() > deadline:
                raise DmaError(
                    f"{self.device.name} does not {purpose} within {_RESET_SECONDS:g} s (register {register:#x} is "
                    f"{value:#x}): {reset_remedy(self.device.name)}"
                )
            time.sleep(_POLL_SECONDS)

    def _read(self, register: int) -> int:
        return self._registers.read_int(register, 4)

    def _write(self, register: int, value: int) -> None:
        self._registers.write_int(register, value, 4)

    def _iova(self, page: int) -> int:
        return self.memory.iova + page * PAGE_BYTES
