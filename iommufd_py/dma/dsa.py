# SPDX-License-Identifier: MIT
"""Intel's Data Streaming Accelerator, which copies and compares memory, as a DMA engine.

Source: Intel Data Streaming Accelerator Architecture Specification (341204), chapters 3 (work queues), 8 and 9.
"""

import os
import time
from typing import ClassVar

from iommufd_py.base.errors import DmaError, SkipError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.dsa_registers import (
    CMD,
    CMDCAP,
    CMDSTATUS,
    ENABLED,
    ENGCAP,
    GENCAP,
    GENCFG,
    GENSTS,
    GRPCAP,
    OFFSETS,
    OPCAP,
    RECORD_BYTES,
    SUCCESS,
    SWERR,
    SWERR_CLEAR,
    SWERR_WORDS,
    USER_INTERRUPTS,
    WQCAP,
    CompletionRecord,
    DsaCapabilities,
    DsaCommand,
    DsaOperation,
    SoftwareError,
    command_active,
    command_failure,
    command_value,
    command_word,
    device_state,
    dsa_descriptor,
    group_words,
    permission_word,
    queue_words,
)
from iommufd_py.dma.engine import COMPLETION_SECONDS, DmaEngine, TransferLimits, reset_remedy
from iommufd_py.uapi.enums import IrqIndex, RegionIndex
from iommufd_py.uapi.portal import has_movdir64b, submit_descriptor
from iommufd_py.vfio.region import RegionMapping

# The engine's memory: a page of completion records, each in a cache line of its own, then the data.
_LINE_BYTES = 64
_RECORDS = PAGE_BYTES // _LINE_BYTES
_DATA = PAGE_BYTES
_MOST_BYTES = 128 << 10

_QUEUE = 0
_PERMISSION_BYTES = 8
_GONE = 0xFFFF_FFFF
_COMMAND_SECONDS = 5.0
_POLL_SECONDS = 1e-4
# An error causes no interrupt.
_LOOK_SECONDS = 0.1


class _StoppedError(DmaError):
    """A transfer failed as it does if the IOMMU stops it."""


class DsaEngine(DmaEngine):
    """An Intel Data Streaming Accelerator. It copies from one IOVA to another, and compares the bytes at two IOVAs.

    One work queue is configured, for this engine alone. With a PASID, each request of this queue carries it.
    """

    # Sapphire Rapids, Granite Rapids D, Diamond Rapids.
    ids: ClassVar[frozenset[str]] = frozenset({"8086:0b25", "8086:11fb", "8086:1212"})
    memory_bytes: ClassVar[int] = _DATA + _MOST_BYTES
    register_bytes: ClassVar[int | None] = None
    interrupt_kind: ClassVar[IrqIndex] = IrqIndex.MSIX
    # Vector 0 is for errors and commands.
    interrupt_vector: ClassVar[int] = 1
    has_pasids: ClassVar[bool] = True
    address_mask = (1 << 64) - 1
    _portal: RegionMapping | None = None

    def _start(self) -> None:
        if not has_movdir64b():
            raise SkipError(
                f"this CPU has no MOVDIR64B, the instruction that gives work to {self.device.name}: use a CPU whose "
                "flags in /proc/cpuinfo contain movdir64b"
            )
        self._portal = self.device.region(RegionIndex.BAR2).mmap(0, PAGE_BYTES)
        self._number = 0
        self.restart()
        # A page of the engine's own memory, from one place to another.
        content = self.write(self._iova(_DATA + PAGE_BYTES), PAGE_BYTES)
        self._sync()
        if bytes(self._view[_DATA + PAGE_BYTES : _DATA + 2 * PAGE_BYTES]) != content:
            raise DmaError(f"{self.device.name} copies other bytes than memory has: choose another device")

    def _stop(self) -> None:
        try:
            self._command(DsaCommand.RESET_DEVICE, "reset itself")
        finally:
            if self._portal is not None:
                self._portal.close()

    def restart(self) -> None:
        """Implement :meth:`DmaEngine.restart`: reset the device, configure and enable it again."""
        # Offset of the completion record of the transfer under way.
        self._pending: int | None = None
        self._command(DsaCommand.RESET_DEVICE, "reset itself")
        self._write(SWERR, SWERR_CLEAR, 8)
        found = DsaCapabilities.decoded(*(self._read(at, 8) for at in (GENCAP, WQCAP, GRPCAP, ENGCAP, OFFSETS)))
        self._require(found)
        longest = min(_MOST_BYTES, 1 << found.max_transfer_shift)
        self.writes = self.reads = TransferLimits(longest, 1, 1)
        for table, words, width in (
            (found.queue_table, queue_words(found, self.pasid), 4),
            (found.group_table, group_words(found), 8),
        ):
            for at, word in enumerate(words):
                self._write(table + at * width, word, width)
        self._write(GENCFG, USER_INTERRUPTS, 4)
        self._command(DsaCommand.ENABLE_DEVICE, "enable itself")
        self._command(DsaCommand.ENABLE_WQ, "enable a work queue", _QUEUE)
        self._handle = None if self._interrupts is None else self._interrupt_handle(found)

    def _require(self, found: DsaCapabilities) -> None:
        operations = self._read(OPCAP, 8)
        lacking = [one.name.lower() for one in DsaOperation if not operations >> one & 1]
        if missing := found.missing or (f"the operation '{lacking[0]}'" if lacking else ""):
            raise DmaError(f"{self.device.name} has not {missing}, which this engine needs: choose another device")

    def _interrupt_handle(self, found: DsaCapabilities) -> int:
        """Permit the interrupt for descriptors of the work queue, and return its handle."""
        self._write(found.permission_table + self.interrupt_vector * _PERMISSION_BYTES, permission_word(self.pasid), 4)
        if not (found.has_command_list and self._read(CMDCAP, 4) >> DsaCommand.REQUEST_INTERRUPT_HANDLE & 1):
            return self.interrupt_vector
        return self._command(
            DsaCommand.REQUEST_INTERRUPT_HANDLE, "give a handle for an interrupt", self.interrupt_vector
        )

    def start_write(self, iova: int, length: int) -> bytes:
        """Implement :meth:`DmaEngine.start_write`."""
        self._check(self.writes, iova, length)
        content = os.urandom(length)
        self._put(content)
        self._submit(DsaOperation.MOVE, (self._iova(_DATA), iova), length)
        return content

    def wait(self, timeout: float = COMPLETION_SECONDS) -> None:
        """Implement :meth:`DmaEngine.wait`."""
        self._complete(timeout)

    def readable(self, length: int) -> bytes:
        """Implement :meth:`DmaEngine.readable`."""
        return os.urandom(length)

    def read(self, iova: int, content: bytes) -> bool:
        """Implement :meth:`DmaEngine.read`: the device compares the bytes at *iova* with the engine's memory."""
        self._check(self.reads, iova, len(content))
        self._put(content)
        self._submit(DsaOperation.COMPARE, (self._iova(_DATA), iova), len(content))
        try:
            return not self._complete().result
        except _StoppedError:
            self.restart()
            return False

    def start_fetch(self, iova: int, length: int) -> None:
        """Implement :meth:`DmaEngine.start_fetch`."""
        self._check(self.reads, iova, length)
        # After a stopped read nobody must find the bytes of an earlier one.
        self._put(os.urandom(length))
        self._submit(DsaOperation.MOVE, (iova, self._iova(_DATA)), length)

    def fetched(self, length: int) -> bytes:
        """Implement :meth:`DmaEngine.fetched`."""
        try:
            self._complete()
        except _StoppedError:
            self.restart()
        self._sync(_DATA, length)
        return bytes(self._view[_DATA : _DATA + length])

    def _put(self, content: bytes) -> None:
        self._view[_DATA : _DATA + len(content)] = content
        self._sync(_DATA, len(content))

    def _submit(self, operation: DsaOperation, operands: tuple[int, int], length: int) -> None:
        assert self._portal is not None
        # A record of its own for each transfer: the device may still write the record of one that nobody waits for.
        self._number = (self._number + 1) % _RECORDS
        at = self._number * _LINE_BYTES
        self._view[at : at + RECORD_BYTES] = bytes(RECORD_BYTES)
        self._sync(at, RECORD_BYTES)
        if self._interrupts is not None:
            # The interrupt of a transfer that nobody waited for.
            self._interrupts.wait(self.interrupt_vector, timeout=0)
        self._pending = at
        submit_descriptor(
            self._portal.user_va, dsa_descriptor(operation, operands, length, self._iova(at), self._handle)
        )

    def _complete(self, timeout: float = COMPLETION_SECONDS) -> CompletionRecord:
        """Wait for the end of the transfer under way, and return its completion record.

        Raises:
            _StoppedError: the transfer failed as it does if the IOMMU stops it.
            DmaError: it failed for another reason.
        """
        at, self._pending = self._pending, None
        if at is None:
            return CompletionRecord(SUCCESS)
        deadline = time.monotonic() + timeout
        while not (record := self._record(at)).status:
            self._check_errors()
            left = deadline - time.monotonic()
            if left <= 0:
                raise _StoppedError(
                    f"{self.device.name} wrote no completion record{self._by_pasid()} to IOVA {self._iova(at):#x} "
                    f"within {timeout:g} s: if that IOVA is mapped, {reset_remedy(self.device.name)}"
                )
            if self._interrupts is None:
                time.sleep(_POLL_SECONDS)
            else:
                self._interrupts.wait(self.interrupt_vector, timeout=min(left, _LOOK_SECONDS))
        if not record.good:
            failure = f"{self.device.name} did not end a transfer{self._by_pasid()}: {record}"
            if record.stopped:
                raise _StoppedError(f"{failure}; the transfer needs a mapping that permits it")
            raise DmaError(f"{failure}; {reset_remedy(self.device.name)}")
        return record

    def _record(self, at: int) -> CompletionRecord:
        self._sync(at, RECORD_BYTES)
        return CompletionRecord.decoded(self._view[at : at + RECORD_BYTES])

    def _check_errors(self) -> None:
        """Raise an error if the device reports one elsewhere than in a completion record."""
        error = SoftwareError.decoded(tuple(self._read(SWERR + 8 * word, 8) for word in range(SWERR_WORDS)))
        state = self._read(GENSTS, 4)
        if state == _GONE:
            raise DmaError(f"{self.device.name} does not answer any more: {reset_remedy(self.device.name)}")
        if error is not None:
            failure = f"{self.device.name} could not report the end of a transfer{self._by_pasid()}: {error}"
            if error.stopped:
                raise _StoppedError(f"{failure}; the engine's memory must be mapped at IOVA {self.memory.iova:#x}")
            raise DmaError(f"{failure}; {reset_remedy(self.device.name)}")
        if device_state(state) != ENABLED:
            raise DmaError(
                f"{self.device.name} has stopped by itself (GENSTS={state:#x}): {reset_remedy(self.device.name)}"
            )

    def _command(self, command: DsaCommand, purpose: str, operand: int = 0) -> int:
        """Execute a command and return its result."""
        # The device ignores a command while another is active, such as one that Ctrl-C interrupted.
        self._await_command(command, purpose)
        self._write(CMD, command_word(command, operand), 4)
        status = self._await_command(command, purpose)
        if failure := command_failure(status):
            raise DmaError(f"{self.device.name} does not {purpose} (command {command.name}): {failure}")
        return command_value(status)

    def _await_command(self, command: DsaCommand, purpose: str) -> int:
        """Wait until no command is active, and return CMDSTATUS."""
        deadline = time.monotonic() + _COMMAND_SECONDS
        while command_active(status := self._read(CMDSTATUS, 4)):
            if status == _GONE or time.monotonic() > deadline:
                raise DmaError(
                    f"{self.device.name} does not {purpose} within {_COMMAND_SECONDS:g} s (command {command.name}, "
                    f"CMDSTATUS={status:#x}): {reset_remedy(self.device.name)}"
                )
            time.sleep(_POLL_SECONDS)
        return status

    def _by_pasid(self) -> str:
        return "" if self.pasid is None else f" with PASID {self.pasid}"

    def _read(self, register: int, width: int) -> int:
        return self._registers.read_int(register, width)

    def _write(self, register: int, value: int, width: int) -> None:
        self._registers.write_int(register, value, width)

    def _iova(self, offset: int) -> int:
        return self.memory.iova + offset
