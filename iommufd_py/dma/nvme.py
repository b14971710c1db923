# SPDX-License-Identifier: MIT
"""An NVMe controller as a DMA engine. Its commands change neither data nor namespaces.

Source: NVM Express Base Specification 2.0, 5.16 (Get Log Page), 5.17 (Identify); NVM Command Set 1.0, 3.2.4 (Read).
"""

import os
import struct
from typing import ClassVar

from iommufd_py.base.errors import DmaError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.dma.engine import COMPLETION_SECONDS, DmaEngine, TransferLimits
from iommufd_py.dma.nvme_controller import COMMAND_BYTES, COMPLETION_BYTES, Controller, QueuePair, encode_command, prps
from iommufd_py.uapi.enums import IrqIndex

_GET_LOG_PAGE, _IDENTIFY, _READ = 0x02, 0x06, 0x02
_NAMESPACE, _CONTROLLER, _ACTIVE_NAMESPACES = 0x00, 0x01, 0x02
_FIRMWARE_SLOTS, _COMMAND_EFFECTS = 0x03, 0x05
_FIRMWARE_SLOTS_BYTES = 512
# Offsets in the Identify structures.
_MDTS, _LPA, _NSZE, _FLBAS, _LBA_FORMATS = 77, 261, 0, 26, 128
_LPA_COMMAND_EFFECTS, _LPA_OFFSETS = 1 << 1, 1 << 2

# The engine's memory, by page: first its queues, last the data to compare with.
_ADMIN_SQ, _ADMIN_CQ, _IO_SQ, _IO_CQ, _PRP_LIST, _SCRATCH, _IDENTITY, _LOG, _BLOCKS = range(9)
_BLOCKS_BYTES = 128 << 10
_FETCHED_QUEUE = 2
_FETCHED_MOST = 3 * PAGE_BYTES // COMMAND_BYTES
_DWORD = 4


class NvmeEngine(DmaEngine):
    """Any NVMe controller.

    The controller writes to memory by Identify, Get Log Page and Read. The engine knows the answers: it asks for each
    once at the start.

    The controller reads from memory by fetching commands. :meth:`readable` returns Read commands with random
    identifiers; :meth:`read` makes a submission queue at their IOVA. Completions with the same identifiers prove that
    the controller read these commands. It must read nothing else, because it executes each command that it fetches.
    """

    class_code: ClassVar[str] = "010802"
    memory_bytes: ClassVar[int] = _BLOCKS * PAGE_BYTES + _BLOCKS_BYTES
    register_bytes: ClassVar[int] = 2 * PAGE_BYTES
    interrupt_kind: ClassVar[IrqIndex] = IrqIndex.MSIX
    address_mask = (1 << 64) - 1

    def _start(self) -> None:
        # Purposes of the commands under way, by queue and identifier.
        self._pending: dict[tuple[int, int], str] = {}
        self._identifier = 0
        self._admin = self._queues(0, _ADMIN_SQ, _ADMIN_CQ)
        self._io = self._queues(1, _IO_SQ, _IO_CQ)
        self._controller = Controller(self.device.name, self._registers, self._interrupts, self._admin, self._sync_iova)
        self._controller.enable()
        self._identify(_CONTROLLER, _IDENTITY)
        identity = bytes(self._page(_IDENTITY))
        self._log_page, self._log_bytes = _FIRMWARE_SLOTS, _FIRMWARE_SLOTS_BYTES
        if identity[_LPA] & _LPA_COMMAND_EFFECTS:
            self._log_page, self._log_bytes = _COMMAND_EFFECTS, PAGE_BYTES
        self._log_offsets = bool(identity[_LPA] & _LPA_OFFSETS)
        self._controller.administer(self._log_command(self._iova(_LOG), 0, self._log_bytes), "return a log page")
        self._sync(_LOG * PAGE_BYTES, self._log_bytes)
        most = PAGE_BYTES << identity[_MDTS] if identity[_MDTS] else _BLOCKS_BYTES
        self._blocks_bytes = self._find_blocks(min(most, _BLOCKS_BYTES))
        self.writes = TransferLimits(max(self._blocks_bytes, PAGE_BYTES), _DWORD, _DWORD)
        self.reads = TransferLimits(
            _FETCHED_MOST * COMMAND_BYTES if self._blocks_bytes else 0, COMMAND_BYTES, PAGE_BYTES
        )
        self._create_queues()
        if self._blocks_bytes:
            self._submit_read(self._iova(_BLOCKS), self._blocks_bytes)
            self.wait()
            self._sync(_BLOCKS * PAGE_BYTES, self._blocks_bytes)

    def _stop(self) -> None:
        try:
            self._controller.disable()
        finally:
            self._admin.release()
            self._io.release()

    def restart(self) -> None:
        """Implement :meth:`DmaEngine.restart`: reset the controller and create its queues again."""
        self._pending.clear()
        self._controller.enable()
        self._create_queues()

    def _create_queues(self) -> None:
        if self._blocks_bytes:
            self._controller.create_queues(self._io)

    def _find_blocks(self, most: int) -> int:
        """Choose a namespace and return the number of bytes that one Read transfers; 0 without a suitable namespace."""
        self._identify(_ACTIVE_NAMESPACES, _SCRATCH)
        (self._nsid,) = struct.unpack_from("<I", self._page(_SCRATCH))
        if not self._nsid:
            return 0
        self._identify(_NAMESPACE, _SCRATCH, self._nsid)
        namespace = bytes(self._page(_SCRATCH))
        index = namespace[_FLBAS] & 0xF | namespace[_FLBAS] >> 1 & 0x30
        metadata, shift = struct.unpack_from("<HB", namespace, _LBA_FORMATS + 4 * index)
        (blocks,) = struct.unpack_from("<Q", namespace, _NSZE)
        self._block_bytes = 1 << shift
        # Metadata between the blocks would shift the bytes of all blocks but the first.
        return 0 if metadata else min(most, blocks << shift) // self._block_bytes * self._block_bytes

    def _identify(self, structure: int, page: int, nsid: int = 0) -> None:
        command = encode_command(_IDENTIFY, nsid=nsid, prp1=self._iova(page), dwords=(structure,))
        self._controller.administer(command, "identify itself")
        self._sync(page * PAGE_BYTES, PAGE_BYTES)

    def start_write(self, iova: int, length: int) -> bytes:
        """Implement :meth:`DmaEngine.start_write`: blocks by Read, a page by Identify, the rest by Get Log Page."""
        self._check(self.writes, iova, length)
        content = b""
        if length > PAGE_BYTES:
            blocks = length // self._block_bytes * self._block_bytes
            self._submit_read(iova, blocks)
            content = bytes(self._page(_BLOCKS, blocks))
        elif length == PAGE_BYTES:
            prp1, prp2, _ = prps(iova, PAGE_BYTES, 0)
            command = encode_command(_IDENTIFY, identifier=self._next(), prp1=prp1, prp2=prp2, dwords=(_CONTROLLER,))
            self._submit(self._admin, command, "identify itself")
            content = bytes(self._page(_IDENTITY))
        while len(content) < length:
            part = min(length - len(content), self._log_bytes)
            offset = os.urandom(1)[0] * _DWORD % (self._log_bytes - part + _DWORD) if self._log_offsets else 0
            self._submit(
                self._admin, self._log_command(iova + len(content), offset, part, self._next()), "return a log page"
            )
            content += self._page(_LOG)[offset : offset + part]
        return content

    def wait(self, timeout: float = COMPLETION_SECONDS) -> None:
        """Implement :meth:`DmaEngine.wait`."""
        pending, self._pending = self._pending, {}
        for queues in (self._io, self._admin):
            # A controller may complete commands in any order.
            for _ in [number for number, _ in pending if number == queues.number]:
                completion = self._controller.complete(queues, timeout)
                purpose = pending.get((queues.number, completion.command))
                if purpose is None:
                    raise DmaError(
                        f"{self.device.name} completed command {completion.command:#x}, which nobody submitted"
                    )
                self._controller.check(completion, purpose)

    def readable(self, length: int) -> bytes:
        """Implement :meth:`DmaEngine.readable`."""
        count = length // COMMAND_BYTES
        return b"".join(self._block_command(os.urandom(1)[0] << 8 | index) for index in range(count))

    def read(self, iova: int, content: bytes) -> bool:
        """Implement :meth:`DmaEngine.read`: the controller fetches the commands at *iova* and executes them."""
        self._check(self.reads, iova, len(content))
        wanted = [struct.unpack_from("<H", content, at + 2)[0] for at in range(0, len(content), COMMAND_BYTES)]
        # A queue of N entries holds N - 1 commands.
        self._controller.create_submissions(_FETCHED_QUEUE, iova, len(wanted) + 1, self._io.number)
        self._controller.ring(_FETCHED_QUEUE, len(wanted))
        try:
            done = [self._controller.complete(self._io) for _ in wanted]
            self._controller.delete_submissions(_FETCHED_QUEUE)
        except DmaError:
            self.restart()
            return False
        found = [one.command for one in done if one.queue == _FETCHED_QUEUE and not one.status]
        return sorted(found) == sorted(wanted)

    def _submit(self, queues: QueuePair, command: bytes, purpose: str) -> None:
        self._controller.submit(queues, command)
        self._pending[queues.number, struct.unpack_from("<H", command, 2)[0]] = purpose

    def _submit_read(self, iova: int, length: int) -> None:
        prp1, prp2, pages = prps(iova, length, self._iova(_PRP_LIST))
        struct.pack_into(f"<{len(pages)}Q", self._page(_PRP_LIST), 0, *pages)
        self._sync(_PRP_LIST * PAGE_BYTES, PAGE_BYTES)
        last_block = length // self._block_bytes - 1
        command = encode_command(
            _READ, identifier=self._next(), nsid=self._nsid, prp1=prp1, prp2=prp2, dwords=(0, 0, last_block)
        )
        self._submit(self._io, command, "read blocks")

    def _block_command(self, identifier: int) -> bytes:
        return encode_command(_READ, identifier=identifier, nsid=self._nsid, prp1=self._iova(_SCRATCH))

    def _log_command(self, iova: int, offset: int, length: int, identifier: int = 0) -> bytes:
        prp1, prp2, _ = prps(iova, length, 0)
        dwords = ((length // _DWORD - 1) << 16 | self._log_page, 0, offset)
        return encode_command(
            _GET_LOG_PAGE, identifier=identifier, nsid=0xFFFF_FFFF, prp1=prp1, prp2=prp2, dwords=dwords
        )

    def _next(self) -> int:
        self._identifier = (self._identifier + 1) % 0x8000
        return self._identifier

    def _queues(self, number: int, submissions: int, completions: int) -> QueuePair:
        entries = PAGE_BYTES // COMPLETION_BYTES
        return QueuePair(
            number,
            self._page(submissions),
            self._page(completions, entries * COMPLETION_BYTES),
            (self._iova(submissions), self._iova(completions)),
        )

    def _page(self, index: int, length: int = PAGE_BYTES) -> memoryview:
        return self._view[index * PAGE_BYTES : index * PAGE_BYTES + length]

    def _sync_iova(self, iova: int, length: int) -> None:
        self._sync(iova - self.memory.iova, length)

    def _iova(self, index: int) -> int:
        return self.memory.iova + index * PAGE_BYTES
