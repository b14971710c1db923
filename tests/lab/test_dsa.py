# SPDX-License-Identifier: MIT
"""The emulator's Data Streaming Accelerator, without a guest: its descriptors, and DMA with a PASID through VT-d."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from iommufd_py.lab.emulators import build_emulator
from iommufd_py.lab.progress import Silent
from tests.lab.stopped_machine import SLOT, StoppedMachine

REGISTERS, PORTALS, ECAM, VTD = 0xE0000000, 0xE1000000, 0xB0000000, 0xFED90000
ENABLE_DEVICE, DISABLE_DEVICE, RESET_DEVICE, ENABLE_WQ, DRAIN_WQ = 1, 2, 5, 6, 8
NOOP, BATCH, MOVE, FILL, COMPARE = 0, 1, 3, 4, 5
RECORD_VALID, RECORD, INTERRUPT, CHECK = 1 << 2, 1 << 3, 1 << 4, 1 << 7
WITH_RECORD = RECORD_VALID | RECORD
DEDICATED, PRIORITY, PASID_ENABLE = 1, 1 << 4, 1 << 28
SUCCESS, FALSE_RESULT, READ_FAULT, WRITE_FAULT = 1, 2, 3, 0x83

RECORD_AT, SOURCE, TARGET = 0x100000, 0x200000, 0x300000
DATA = bytes(range(251)) * 40


def descriptor(
    operation: int,
    flags: int = WITH_RECORD,
    *,
    one: int = 0,
    two: int = 0,
    size: int = 0,
    handle: int = 0,
    more: int = 0,
) -> bytes:
    return struct.pack("<IIQQQIHHB", 0, operation << 24 | flags, RECORD_AT, one, two, size, handle, 0, more).ljust(
        64, b"\0"
    )


@dataclass
class RecordInMemory:
    status: int
    result: int
    completed: int
    fault: int
    invalid_flags: int


class Accelerator:
    """The device of a stopped machine."""

    def __init__(self, machine: StoppedMachine) -> None:
        self.machine = machine
        for at, value in ((0x10, REGISTERS), (0x18, PORTALS)):
            machine.set_config(at, value & 0xFFFF)
            machine.set_config(at + 2, value >> 16)
        machine.set_config(4, 6)

    def step(self) -> None:
        """Let the device work for its time of a descriptor."""
        self.machine.ask("clock_step 2000000")

    def register(self, at: int) -> int:
        return int(self.machine.ask(f"readl {REGISTERS + at:#x}").split()[1], 0)

    def set_register(self, at: int, value: int) -> None:
        self.machine.ask(f"writel {REGISTERS + at:#x} {value:#x}")

    def command(self, command: int, operand: int = 0) -> int:
        self.set_register(0xA0, command << 20 | operand)
        self.step()
        return self.register(0xA8)

    def enable(self, mode: int = DEDICATED | PRIORITY, size: int = 16) -> int:
        """Enable the first work queue with the first engine, and return the status of the command."""
        for at, value in ((0x500, size), (0x508, mode), (0x50C, 16 | 4 << 5), (0x400, 1), (0x420, 1)):
            self.set_register(at, value)
        assert self.command(ENABLE_DEVICE) == 0
        return self.command(ENABLE_WQ)

    def submit(self, submitted: bytes) -> None:
        self.machine.write(PORTALS + 0x1000, submitted)

    def run(self, submitted: bytes, record_at: int = RECORD_AT) -> RecordInMemory:
        self.machine.write(record_at, bytes(32))
        self.submit(submitted)
        assert self.machine.read(record_at, 1) == b"\0", "the store itself executed the descriptor"
        self.step()
        return RecordInMemory(*struct.unpack("<BBxxIQI", self.machine.read(record_at, 20)))


@pytest.fixture(scope="module")
def program() -> Path:
    return build_emulator(Silent()).program


@pytest.fixture
def dsa(program: Path) -> Iterator[Accelerator]:
    device = f"dsa,addr={SLOT},x-dma-ms=1"
    with StoppedMachine.start(program, "-accel", "qtest", "-device", device) as machine:
        yield Accelerator(machine)


@pytest.fixture
def enabled(dsa: Accelerator) -> Accelerator:
    assert dsa.enable() == 0
    dsa.machine.write(SOURCE, DATA)
    return dsa


@pytest.mark.parametrize(
    ("source", "target"), [(SOURCE + 1, TARGET + 3), (SOURCE, SOURCE + 256), (SOURCE + 256, SOURCE)]
)
def test_a_move_copies_overlapping_buffers_too(enabled: Accelerator, source: int, target: int) -> None:
    before = enabled.machine.read(source, 9000)
    assert enabled.run(descriptor(MOVE, one=source, two=target, size=9000)) == RecordInMemory(SUCCESS, 0, 9000, 0, 0)
    assert enabled.machine.read(target, 9000) == before


def test_a_fill_repeats_its_pattern(enabled: Accelerator) -> None:
    pattern = bytes(range(8))
    filled = descriptor(FILL, one=int.from_bytes(pattern, "little"), two=TARGET + 1, size=5001)
    assert enabled.run(filled).status == SUCCESS
    assert enabled.machine.read(TARGET, 5003) == b"\0" + (pattern * 626)[:5001] + b"\0"


def test_a_comparison_finds_the_first_difference(enabled: Accelerator) -> None:
    enabled.machine.write(TARGET, DATA[:5000] + b"\xff")
    equal = enabled.run(descriptor(COMPARE, one=SOURCE, two=TARGET, size=5000))
    assert (equal.status, equal.result, equal.completed) == (SUCCESS, 0, 5000)
    different = enabled.run(descriptor(COMPARE, one=SOURCE, two=TARGET, size=5001))
    assert (different.status, different.result, different.completed) == (SUCCESS, 1, 5000)
    checked = enabled.run(descriptor(COMPARE, WITH_RECORD | CHECK, one=SOURCE, two=TARGET, size=5001))
    assert checked.status == FALSE_RESULT


def test_a_batch_runs_each_descriptor(enabled: Accelerator) -> None:
    moves = [descriptor(MOVE, RECORD_VALID, one=SOURCE + i, two=TARGET + 2 * i, size=1) for i in range(8)]
    enabled.machine.write(0x400000, b"".join(moves))
    assert enabled.run(descriptor(BATCH, one=0x400000, size=8)) == RecordInMemory(SUCCESS, 0, 8, 0, 0)
    assert enabled.machine.read(TARGET, 16)[::2] == DATA[:8]


@pytest.mark.parametrize(
    ("submitted", "status"),
    [
        (descriptor(9), 0x10),
        (descriptor(MOVE, WITH_RECORD | 1 << 5, one=SOURCE, two=TARGET, size=1), 0x11),
        (descriptor(NOOP, size=1), 0x12),
        (descriptor(MOVE, one=SOURCE, two=TARGET), 0x13),
        (descriptor(MOVE, one=SOURCE, two=TARGET, size=(1 << 16) + 1), 0x13),
        (descriptor(BATCH, one=0x400000, size=1), 0x14),
        (descriptor(BATCH, one=0x400008, size=2), 0x18),
        (descriptor(NOOP, WITH_RECORD | INTERRUPT, handle=9), 0x19),
    ],
    ids=["operation", "flag", "reserved", "no bytes", "too many bytes", "short batch", "list address", "interrupt"],
)
def test_an_invalid_descriptor_has_its_error(enabled: Accelerator, submitted: bytes, status: int) -> None:
    assert enabled.run(submitted).status == status
    assert enabled.run(descriptor(NOOP)).status == SUCCESS


def test_a_rejected_access_is_in_the_record(enabled: Accelerator) -> None:
    nowhere = 1 << 40
    read = enabled.run(descriptor(MOVE, one=nowhere, two=TARGET, size=8))
    assert (read.status, read.completed, read.fault) == (READ_FAULT, 0, nowhere)
    written = enabled.run(descriptor(MOVE, one=SOURCE, two=nowhere, size=8))
    assert (written.status, written.completed, written.fault) == (WRITE_FAULT, 0, nowhere)


def test_an_error_without_a_record_is_a_software_error(enabled: Accelerator) -> None:
    assert enabled.register(0xC0) == 0
    enabled.run(descriptor(MOVE, flags=0, one=SOURCE, two=TARGET))
    assert enabled.register(0xC0) & 0xFF01 == 0x1301
    enabled.set_register(0xC0, 3)
    assert enabled.register(0xC0) & 3 == 0


def test_commands_in_the_wrong_state_are_refused(dsa: Accelerator) -> None:
    assert dsa.command(ENABLE_WQ) == 0x20
    assert dsa.command(DISABLE_DEVICE) == 0x31
    assert dsa.enable(mode=DEDICATED) == 0x23
    assert dsa.command(RESET_DEVICE) == 0
    assert dsa.enable(mode=PRIORITY) == 0x24
    assert dsa.command(RESET_DEVICE) == 0
    assert dsa.enable(mode=DEDICATED | PRIORITY | PASID_ENABLE) == 0x26
    assert dsa.command(RESET_DEVICE) == 0
    assert dsa.enable() == 0


def test_a_drain_waits_for_the_work_before_it(enabled: Accelerator) -> None:
    enabled.machine.write(RECORD_AT, bytes(32))
    for _ in range(3):
        enabled.submit(descriptor(NOOP))
    enabled.set_register(0xA0, DRAIN_WQ << 20 | 1)
    assert enabled.register(0xA8) >> 31
    for _ in range(3):
        enabled.step()
    assert enabled.register(0xA8) == 0
    assert enabled.machine.read(RECORD_AT, 1) == bytes([SUCCESS])


def test_a_function_level_reset_forgets_the_configuration_with_the_work(enabled: Accelerator) -> None:
    enabled.machine.write(RECORD_AT, bytes(32))
    enabled.submit(descriptor(NOOP))
    enabled.machine.set_config(enabled.machine.control(), 1 << 15)
    again = Accelerator(enabled.machine)
    again.step()
    assert again.machine.read(RECORD_AT, 1) == b"\0"
    assert again.register(0x90) == again.register(0x508) == 0
    assert again.command(ENABLE_WQ) == 0x20


ROOT, CONTEXT, DIRECTORY, ENTRIES, QUEUE = 0x10000, 0x11000, 0x12000, 0x13000, 0x14000
TABLES = {0: 0x20000, 5: 0x24000}
FRAMES = {0: 0x600000, 5: 0x700000}
IOVA, PASID = 0x40000, 5
SECOND_STAGE, PASS_THROUGH = 2, 4


class Translated:
    """The device behind a VT-d in scalable mode: without PASID, and with PASID 5, IOVA leads to different frames."""

    def __init__(self, dsa: Accelerator) -> None:
        self.dsa, self.machine, self._tail = dsa, dsa.machine, 0
        self.put(ROOT, CONTEXT | 1)
        self.context(1 << 3)
        self.put(DIRECTORY, ENTRIES | 1)
        for pasid, table in TABLES.items():
            self.entry(pasid, SECOND_STAGE)
            for level in range(2):
                self.put(table + level * 0x1000, table + (level + 1) * 0x1000 | 3)
            for page in range(2):
                self.page(pasid, page, FRAMES[pasid] + page * 0x1000)
        self.machine.ask(f"writeq {VTD + 0x20:#x} {ROOT | 1 << 10:#x}")
        self.machine.ask(f"writeq {VTD + 0x90:#x} {QUEUE:#x}")
        for command in (1 << 30, 1 << 26, 1 << 31 | 1 << 26):
            self.machine.ask(f"writel {VTD + 0x18:#x} {command:#x}")
        # The first extended capability, by memory: no port reaches its registers.
        self.machine.ask(f"outl 0xcf8 {1 << 31 | 0x60:#x}")
        self.machine.ask(f"outl 0xcfc {ECAM | 1:#x}")
        capability = ECAM + (SLOT << 15) + 0x100
        assert self.machine.read(capability, 2) == b"\x1b\0"
        self.machine.write(capability + 6, b"\x01\0")

    def put(self, at: int, *words: int) -> None:
        self.machine.write(at, struct.pack(f"<{len(words)}Q", *words))

    def context(self, pasids: int) -> None:
        self.put(CONTEXT + SLOT * 8 * 32, DIRECTORY | pasids | 1, 0)

    def entry(self, pasid: int, kind: int) -> None:
        self.put(ENTRIES + pasid * 64, TABLES[pasid] | kind << 6 | 1 << 2 | 1, pasid + 1)

    def page(self, pasid: int, page: int, frame: int) -> None:
        self.put(TABLES[pasid] + 0x2000 + ((IOVA >> 12) + page) * 8, frame | 3 if frame else 0)

    def invalidate(self, low: int, high: int = 0) -> None:
        self.put(QUEUE + self._tail, low, high)
        self._tail += 16
        self.machine.ask(f"writeq {VTD + 0x88:#x} {self._tail:#x}")
        head = int(self.machine.ask(f"readq {VTD + 0x80:#x}").split()[1], 0)
        assert head == self._tail, "VT-d refuses the descriptor"

    def fill(self, address: int = IOVA + 0x1000, pasid: int = PASID) -> RecordInMemory:
        """Fill 8 bytes at *address*. The completion record is in the first page of the PASID."""
        submitted = bytearray(descriptor(FILL, one=int.from_bytes(b"by PASID", "little"), two=address, size=8))
        submitted[8:16] = IOVA.to_bytes(8, "little")
        return self.dsa.run(bytes(submitted), FRAMES[pasid])

    def fault(self) -> int:
        """The second half of the first fault record."""
        return int(self.machine.ask(f"readq {VTD + 0x228:#x}").split()[1], 0)

    def filled(self, address: int) -> bool:
        found = self.machine.read(address, 8)
        self.machine.write(address, bytes(8))
        return found == b"by PASID"


@pytest.fixture
def translated(program: Path) -> Iterator[Translated]:
    iommu = "intel-iommu,intremap=off,aw-bits=48,x-scalable-mode=on,x-pasid-mode=on"
    words = ["-accel", "qtest", "-device", iommu, "-device", f"dsa,addr={SLOT},x-dma-ms=1"]
    with StoppedMachine.start(program, *words) as machine:
        behind = Translated(Accelerator(machine))
        assert behind.dsa.enable(mode=DEDICATED | PRIORITY | PASID_ENABLE | PASID << 8) == 0
        yield behind


def test_dma_with_a_pasid_has_the_tables_of_the_pasid(translated: Translated) -> None:
    assert translated.fill().status == SUCCESS
    assert translated.filled(FRAMES[PASID] + 0x1000)
    assert not translated.filled(FRAMES[0] + 0x1000)


@pytest.mark.parametrize("page_only", [False, True])
def test_an_invalidation_of_the_pasid_reaches_the_iotlb(translated: Translated, page_only: bool) -> None:
    old, new = FRAMES[PASID] + 0x1000, 0x800000
    assert translated.fill().status == SUCCESS
    assert translated.filled(old)
    translated.page(PASID, 1, new)
    assert translated.fill().status == SUCCESS
    assert translated.filled(old), "the emulator has no IOTLB"
    granularity, address = (3, IOVA + 0x1000) if page_only else (2, 0)
    translated.invalidate(6 | granularity << 4 | (PASID + 1) << 16 | PASID << 32, address)
    assert translated.fill().status == SUCCESS
    assert translated.filled(new)


def test_an_entry_that_leaves_pass_through_mode_is_used(translated: Translated) -> None:
    translated.entry(PASID, PASS_THROUGH)
    # In pass-through mode the device writes the completion record to the physical address IOVA.
    assert translated.fill(FRAMES[PASID] + 0x1000).status == 0
    assert translated.machine.read(IOVA, 1) == bytes([SUCCESS])
    assert translated.filled(FRAMES[PASID] + 0x1000)
    translated.entry(PASID, SECOND_STAGE)
    translated.invalidate(7 | 1 << 4 | (PASID + 1) << 16 | PASID << 32)
    assert translated.fill().status == SUCCESS
    assert translated.filled(FRAMES[PASID] + 0x1000)


@pytest.mark.parametrize("address", [IOVA + 0x2000, 0xFEE00000], ids=["unmapped", "interrupt range"])
def test_a_rejected_access_with_a_pasid_is_reported(translated: Translated, address: int) -> None:
    record = translated.fill(address)
    assert (record.status, record.fault) == (WRITE_FAULT, address)
    fault = translated.fault()
    assert fault >> 63
    assert fault >> 40 & 0xFFFFF == PASID
    assert fault >> 31 & 1
    assert fault & 0xFFFF == SLOT << 3


def test_a_rejected_access_without_a_pasid_is_reported_without_one(translated: Translated) -> None:
    """Although its tables are those of PASID 0, RID2PASID of the context entry."""
    translated.dsa.command(RESET_DEVICE)
    assert translated.dsa.enable() == 0
    assert translated.fill(IOVA + 0x2000, pasid=0).status == WRITE_FAULT
    fault = translated.fault()
    assert (fault >> 63, fault >> 31 & 1, fault >> 40 & 0xFFFFF) == (1, 0, 0)


@pytest.mark.parametrize(
    ("pasid", "pasids", "reason"), [(PASID, 0, 0x45), (1 << 13, 1 << 3, 0x46), (6, 1 << 3, 0x58)],
    ids=["disabled", "beyond the directory", "without an entry"],
)  # fmt: skip
def test_a_pasid_without_an_entry_is_refused(translated: Translated, pasid: int, pasids: int, reason: int) -> None:
    translated.context(pasids)
    translated.dsa.command(RESET_DEVICE)
    assert translated.dsa.enable(mode=DEDICATED | PRIORITY | PASID_ENABLE | pasid << 8) == 0
    assert translated.fill().status == 0
    assert translated.dsa.register(0xC0) & 0xFF01 == 0x1A01  # the completion record could not be written
    assert translated.fault() >> 32 & 0xFF == reason
