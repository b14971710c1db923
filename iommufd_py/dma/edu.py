# SPDX-License-Identifier: MIT
"""QEMU's educational device as a DMA engine.

Source: docs/specs/edu.rst of QEMU.
"""

import os
import time
from typing import ClassVar

from iommufd_py.base.errors import DmaError
from iommufd_py.dma.engine import COMPLETION_SECONDS, DmaEngine, TransferLimits, reset_remedy
from iommufd_py.uapi.enums import IrqIndex

_INTERRUPT_ACKNOWLEDGE = 0x64
_SOURCE, _DESTINATION, _COUNT, _COMMAND = 0x80, 0x88, 0x90, 0x98
_RUN, _TO_MEMORY, _RAISE = 1 << 0, 1 << 1, 1 << 2
_DMA_DONE = 0x100

# Address of the buffer inside the device.
_DEVICE_BUFFER = 0x40000
# One byte less than the buffer: QEMU before 8.2.1 takes a transfer of 4096 bytes for an overrun and exits.
_MAX_BYTES = 4095
_POLL_SECONDS = 1e-3


class EduEngine(DmaEngine):
    """QEMU's ``edu`` device. It copies between memory and its buffer of 4 KiB; a transfer takes 0.1 s.

    The device does not notice that the IOMMU stops a transfer.
    """

    ids: ClassVar[frozenset[str]] = frozenset({"1234:11e8"})
    interrupt_kind: ClassVar[IrqIndex] = IrqIndex.MSI
    # Default of QEMU's property dma_mask. No register of the device has it.
    address_mask = (1 << 28) - 1
    writes = TransferLimits(_MAX_BYTES, 1, 1)
    reads = writes

    def _start(self) -> None:
        self.wait()  # A former user of the device may have left a transfer running.
        # Content of the device's buffer. A write may start at any offset of it.
        self._held = bytearray(os.urandom(_MAX_BYTES))
        self._view[:_MAX_BYTES] = self._held
        self._transfer(self.memory.iova, _DEVICE_BUFFER, _MAX_BYTES, 0)
        self.wait()

    def _stop(self) -> None:
        self.wait()

    def _transfer(self, source: int, destination: int, length: int, direction: int) -> None:
        self._sync()
        command = _RUN | direction | (_RAISE if self._interrupts is not None else 0)
        for register, value in (
            (_SOURCE, source),
            (_DESTINATION, destination),
            (_COUNT, length),
            (_COMMAND, command),
        ):
            self._registers.write_int(register, value, 8)

    def start_write(self, iova: int, length: int) -> bytes:
        """Implement :meth:`DmaEngine.start_write`."""
        self._check(self.writes, iova, length)
        offset = os.urandom(1)[0] % (_MAX_BYTES - length + 1)
        self._transfer(_DEVICE_BUFFER + offset, iova, length, _TO_MEMORY)
        return bytes(self._held[offset : offset + length])

    def wait(self, timeout: float = COMPLETION_SECONDS) -> None:
        """Implement :meth:`DmaEngine.wait`."""
        deadline = time.monotonic() + timeout
        while self._registers.read_int(_COMMAND, 4) & _RUN:
            left = deadline - time.monotonic()
            if left <= 0:
                name = self.device.name
                raise DmaError(f"{name} did not end its transfer within {timeout:g} s: {reset_remedy(name)}")
            if self._interrupts is not None:
                self._interrupts.wait(timeout=left)
            else:
                time.sleep(_POLL_SECONDS)
        if self._interrupts is not None:
            self._registers.write_int(_INTERRUPT_ACKNOWLEDGE, _DMA_DONE, 4)

    def readable(self, length: int) -> bytes:
        """Implement :meth:`DmaEngine.readable`."""
        return os.urandom(length)

    def read(self, iova: int, content: bytes) -> bool:
        """Implement :meth:`DmaEngine.read`."""
        self.start_fetch(iova, len(content))
        return self.fetched(len(content)) == content

    def start_fetch(self, iova: int, length: int) -> None:
        """Implement :meth:`DmaEngine.start_fetch`."""
        self._check(self.reads, iova, length)
        self._transfer(iova, _DEVICE_BUFFER, length, 0)

    def fetched(self, length: int) -> bytes:
        """Implement :meth:`DmaEngine.fetched`: the device writes its buffer to the engine's memory."""
        self.wait()
        self._transfer(_DEVICE_BUFFER, self.memory.iova, length, _TO_MEMORY)
        self.wait()
        self._sync()
        self._held[:length] = self._view[:length]
        return bytes(self._held[:length])

    def restart(self) -> None:
        """Implement :meth:`DmaEngine.restart`: the device needs no reset."""
        self.wait()
