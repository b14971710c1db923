# SPDX-License-Identifier: MIT
"""The registers and queues of an NVMe controller, for commands that run one after the other.

Source: NVM Express Base Specification 2.0, 3.1 (registers), 3.3 (queues), 3.5 (initialization), 5 (admin commands).
"""

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from iommufd_py.base.errors import DmaError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.engine import COMPLETION_SECONDS, reset_remedy
from iommufd_py.vfio.interrupt import Interrupts
from iommufd_py.vfio.region import RegionMapping

COMMAND_BYTES = 64
COMPLETION_BYTES = 16

_CAP, _INTMS, _CC, _CSTS, _AQA, _ASQ, _ACQ, _DOORBELLS = 0x00, 0x0C, 0x14, 0x1C, 0x24, 0x28, 0x30, 0x1000
_CC_ENABLE = 1 << 0
# Entries of 2^6 and 2^4 bytes.
_CC_ENTRY_SIZES = 6 << 16 | 4 << 20
_CSTS_READY, _CSTS_FATAL = 1 << 0, 1 << 1
_GONE = 0xFFFF_FFFF
_CREATE_SQ, _DELETE_SQ, _CREATE_CQ = 0x01, 0x00, 0x05
_CONTIGUOUS, _INTERRUPTS_ENABLED = 1 << 0, 1 << 1

# Opcode, flags, command identifier, namespace, 8 bytes reserved, metadata, PRP entries 1 and 2, dwords 10 to 15.
_COMMAND = struct.Struct("<BBHI8xQQQ6I")
# Result, 4 bytes reserved, head and number of the submission queue, command identifier, status with the phase in bit 0.
_COMPLETION = struct.Struct("<I4xHHHH")
_STATUS = struct.Struct("<H")
_STATUS_AT = COMPLETION_BYTES - _STATUS.size
_POLL_SECONDS = 1e-4


@dataclass(frozen=True, slots=True)
class Completion:
    """Completion of one command. *status* is 0 for success, else the status code type (bits 8 to 10) and code."""

    queue: int
    command: int
    status: int


@dataclass(slots=True)
class QueuePair:
    """A submission queue and its completion queue, in memory that is mapped for the controller.

    Attributes:
        number: number of both queues.
        submissions: memory of the submission queue.
        completions: memory of the completion queue.
        iovas: IOVAs of both, in this order.
    """

    number: int
    submissions: memoryview
    completions: memoryview
    iovas: tuple[int, int]
    tail: int = 0
    head: int = 0
    phase: int = 1

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of entries of each queue."""
        return len(self.submissions) // COMMAND_BYTES, len(self.completions) // COMPLETION_BYTES

    def release(self) -> None:
        """Release both views of the memory."""
        self.submissions.release()
        self.completions.release()

    def clear(self) -> None:
        """Empty both queues. Clearing the memory keeps old completions from looking like new ones."""
        self.completions[:] = bytes(len(self.completions))
        self.tail, self.head, self.phase = 0, 0, 1


def encode_command(
    opcode: int, *, identifier: int = 0, nsid: int = 0, prp1: int = 0, prp2: int = 0, dwords: tuple[int, ...] = ()
) -> bytes:
    """Return a submission queue entry. *dwords* are the command's dwords 10 and following."""
    rest = (*dwords, 0, 0, 0, 0, 0, 0)[:6]
    return _COMMAND.pack(opcode, 0, identifier, nsid, 0, prp1, prp2, *rest)


def prps(iova: int, length: int, list_iova: int) -> tuple[int, int, tuple[int, ...]]:
    """Return PRP entries 1 and 2 for *length* bytes at *iova*, and the content of the PRP list at *list_iova*.

    The list is empty for one or two pages, which the entries name themselves. Source: NVMe Base 2.0, 4.1.1.
    """
    first_page = iova // PAGE_BYTES
    following = tuple(page * PAGE_BYTES for page in range(first_page + 1, (iova + length - 1) // PAGE_BYTES + 1))
    if len(following) < 2:
        return iova, following[0] if following else 0, ()
    return iova, list_iova, following


class Controller:
    """An NVMe controller, driven through a mapping of its registers.

    Attributes:
        admin: the admin queues.
        sync: function that flushes a part of the queues, given by IOVA and length. It is called before the controller
            reads that part, and before the CPU reads it.
    """

    def __init__(
        self,
        name: str,
        registers: RegionMapping,
        interrupts: Interrupts | None,
        admin: QueuePair,
        sync: Callable[[int, int], None],
    ) -> None:
        self.name = name
        self.sync = sync
        self.admin = admin
        self._registers = registers
        self._interrupts = interrupts
        capabilities = self._read64(_CAP)
        self._timeout = (capabilities >> 24 & 0xFF) * 0.5 or 0.5
        self._stride = 4 << (capabilities >> 32 & 0xF)
        self._smallest_page = PAGE_BYTES << (capabilities >> 48 & 0xF)

    def enable(self) -> None:
        """Reset the controller and enable it with empty admin queues."""
        if self._smallest_page != PAGE_BYTES:
            raise DmaError(f"{self.name} needs pages of {self._smallest_page} bytes or more: choose another device")
        self.disable()
        self._clear(self.admin)
        if self._interrupts is None:
            self._registers.write_int(_INTMS, 0xFFFF_FFFF, 4)
        submissions, completions = self.admin.sizes
        self._registers.write_int(_AQA, (completions - 1) << 16 | submissions - 1, 4)
        self._write64(_ASQ, self.admin.iovas[0])
        self._write64(_ACQ, self.admin.iovas[1])
        self._registers.write_int(_CC, _CC_ENABLE | _CC_ENTRY_SIZES, 4)
        self._await_ready(_CSTS_READY)

    def disable(self) -> None:
        """Reset the controller. It drops all queues and stops its DMA."""
        self._registers.write_int(_CC, self._registers.read_int(_CC, 4) & ~_CC_ENABLE, 4)
        self._await_ready(0)

    def _await_ready(self, wanted: int) -> None:
        deadline = time.monotonic() + self._timeout
        while (status := self._registers.read_int(_CSTS, 4)) & _CSTS_READY != wanted:
            if status == _GONE or (wanted and status & _CSTS_FATAL) or time.monotonic() > deadline:
                raise DmaError(
                    f"{self.name} does not become {'ready' if wanted else 'disabled'} (CSTS={status:#x}) within "
                    f"{self._timeout:g} s: {reset_remedy(self.name)}"
                )
            time.sleep(_POLL_SECONDS)

    def create_queues(self, queues: QueuePair) -> None:
        """Create the completion and the submission queue of a pair."""
        self._clear(queues)
        flags = _CONTIGUOUS | (_INTERRUPTS_ENABLED if self._interrupts is not None else 0)
        size = queues.sizes[1] - 1
        self.administer(
            encode_command(_CREATE_CQ, prp1=queues.iovas[1], dwords=(size << 16 | queues.number, flags)),
            "create a completion queue",
        )
        self.create_submissions(queues.number, queues.iovas[0], queues.sizes[0], queues.number)

    def create_submissions(self, number: int, iova: int, entries: int, completions: int) -> None:
        """Create a submission queue that uses completion queue number *completions*."""
        dwords = ((entries - 1) << 16 | number, completions << 16 | _CONTIGUOUS)
        self.administer(encode_command(_CREATE_SQ, prp1=iova, dwords=dwords), "create a submission queue")

    def delete_submissions(self, number: int) -> None:
        """Delete a submission queue."""
        self.administer(encode_command(_DELETE_SQ, dwords=(number,)), "delete a submission queue")

    def administer(self, command: bytes, purpose: str) -> None:
        """Submit one admin command and wait for its success.

        Raises:
            DmaError: the controller reports an error or does not answer.
        """
        self.submit(self.admin, command)
        self.check(self.complete(self.admin), purpose)

    def check(self, completion: Completion, purpose: str) -> None:
        """Raise DmaError if the command of *completion* failed."""
        if completion.status:
            raise DmaError(
                f"{self.name} did not {purpose}: status code type {completion.status >> 8:#x}, "
                f"code {completion.status & 0xFF:#04x}"
            )

    def submit(self, queues: QueuePair, command: bytes) -> None:
        """Write a command to a submission queue and ring the doorbell."""
        start = queues.tail * COMMAND_BYTES
        queues.submissions[start : start + COMMAND_BYTES] = command
        self.sync(queues.iovas[0] + start, COMMAND_BYTES)
        queues.tail = (queues.tail + 1) % queues.sizes[0]
        self.ring(queues.number, queues.tail)

    def ring(self, number: int, tail: int) -> None:
        """Ring the doorbell of a submission queue: write its new tail."""
        self._registers.write_int(_DOORBELLS + 2 * number * self._stride, tail, 4)

    def complete(self, queues: QueuePair, timeout: float = COMPLETION_SECONDS) -> Completion:
        """Wait for the next completion of a queue and consume it.

        Raises:
            DmaError: no completion comes within *timeout* seconds, or the controller reports a fatal error.
        """
        deadline = time.monotonic() + timeout
        at = queues.head * COMPLETION_BYTES
        while self._phase(queues, at) != queues.phase:
            status = self._registers.read_int(_CSTS, 4)
            if status & _CSTS_FATAL:
                raise DmaError(f"{self.name} reports a fatal error (CSTS={status:#x}): it cannot access its queues")
            left = deadline - time.monotonic()
            if left <= 0:
                raise DmaError(f"{self.name} did not complete a command within {timeout:g} s (CSTS={status:#x})")
            if self._interrupts is None:
                time.sleep(_POLL_SECONDS)
            else:
                self._interrupts.wait(timeout=min(left, 0.1))  # A fatal error causes no interrupt.
        _, _, queue, identifier, status = _COMPLETION.unpack_from(queues.completions, at)
        queues.head = (queues.head + 1) % queues.sizes[1]
        queues.phase ^= queues.head == 0
        self._registers.write_int(_DOORBELLS + (2 * queues.number + 1) * self._stride, queues.head, 4)
        return Completion(queue, identifier, status >> 1 & 0x7FF)

    def _clear(self, queues: QueuePair) -> None:
        queues.clear()
        self.sync(queues.iovas[1], len(queues.completions))

    def _phase(self, queues: QueuePair, at: int) -> int:
        self.sync(queues.iovas[1] + at, COMPLETION_BYTES)
        status: int = _STATUS.unpack_from(queues.completions, at + _STATUS_AT)[0]
        return status & 1

    def _read64(self, offset: int) -> int:
        low, high = (self._registers.read_int(at, 4) for at in (offset, offset + 4))
        return high << 32 | low

    def _write64(self, offset: int, value: int) -> None:
        self._registers.write_int(offset, value & 0xFFFF_FFFF, 4)
        self._registers.write_int(offset + 4, value >> 32, 4)
