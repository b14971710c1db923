# SPDX-License-Identifier: MIT
"""The registers and descriptors of a Data Streaming Accelerator. tests/machines/test_dsa.py tests the device.

The numbers are worked out by hand from the fields of the specification (341204), chapters 8 and 9.
"""

import struct
from dataclasses import replace

import pytest

from iommufd_py.dma.dsa_registers import (
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

# Sapphire Rapids: transfers of 2^31 bytes, batches of 2^10, 8 queues with 128 entries, 4 groups, 4 engines, 96 buffers.
GENCAP = 1 << 31 | 10 << 21 | 31 << 16 | 1 << 4 | 0xF
WQCAP = 1 << 54 | 1 << 50 | 1 << 49 | 1 << 48 | 1 << 24 | 8 << 16 | 128
GRPCAP = 1 << 16 | 96 << 8 | 4
ENGCAP = 4
# Groups at 0x400, queues at 0x600, permissions at 0x500.
OFFSETS = 0x0005_0006_0004
FOUND = DsaCapabilities.decoded(GENCAP, WQCAP, GRPCAP, ENGCAP, OFFSETS)


def test_capabilities() -> None:
    wanted = DsaCapabilities(
        max_transfer_shift=31,
        max_batch_shift=10,
        has_command_list=True,
        configurable=True,
        queue_entries=128,
        queues=8,
        dedicated=True,
        ats_control=True,
        operation_list=True,
        groups=4,
        read_buffers=96,
        engines=4,
        group_table=0x400,
        queue_table=0x600,
        permission_table=0x500,
    )
    assert wanted == FOUND
    assert FOUND.missing == ""
    assert DsaCapabilities.decoded(0, 0, 96 << 8 | 4, 0, 0).read_buffers == 0  # nobody can give them to groups


@pytest.mark.parametrize(
    ("field", "value", "missing"),
    [
        ("configurable", False, "a configuration that software can write"),
        ("queues", 0, "a dedicated work queue"),
        ("queue_entries", 0, "a dedicated work queue"),
        ("dedicated", False, "a dedicated work queue"),
        ("groups", 0, "a group"),
        ("engines", 0, "an engine"),
    ],
)
def test_a_device_that_lacks_something_is_named_by_it(field: str, value: int, missing: str) -> None:
    assert replace(FOUND, **{field: value}).missing == missing  # type: ignore[arg-type]


def test_the_configuration_of_a_work_queue() -> None:
    # Dedicated (bit 0), ATS disabled (2), priority 1 (7:4); transfers 2^31 (4:0), batches 2^10 (8:5); move and compare.
    assert queue_words(FOUND, None) == (128, 0, 0x15, 0x15F, 0, 0, 0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0)
    # PASID 0x12345 (27:8), PASID enabled (28).
    assert queue_words(FOUND, 0x12345)[2] == 0x1123_4515
    without = replace(FOUND, ats_control=False, operation_list=False)
    assert queue_words(without, None) == (128, 0, 0x11, 0x15F, 0, 0, 0, 0)


def test_the_configuration_of_a_group() -> None:
    # Work queue 0, engine 0, read buffers allowed 96 (27:20).
    assert group_words(FOUND) == (1, 0, 0, 0, 1, 0x0600_0000)


def test_the_permissions_of_an_interrupt() -> None:
    assert permission_word(None) == 0
    assert permission_word(0x12345) == 0x1234_5008  # PASID (31:12), PASID enabled (3)


def test_commands() -> None:
    assert command_word(DsaCommand.RESET_DEVICE) == 0x0050_0000
    assert command_word(DsaCommand.REQUEST_INTERRUPT_HANDLE, 1) == 0x00D0_0001
    assert command_active(0x8000_0000)
    assert not command_active(0x0000_0100)
    assert command_value(0x0000_2A00) == 0x2A
    assert command_failure(0x0000_2A00) == ""
    assert command_failure(0x12) == "Bus Master Enable is off in the PCI command register (status 0x12)"
    assert command_failure(0x99) == "the specification has no words for this code (status 0x99)"
    assert [device_state(value) for value in (0x0, 0x1, 0xF)] == [0, 1, 3]


def test_a_descriptor_is_laid_out_as_the_specification_has_it() -> None:
    move = dsa_descriptor(DsaOperation.MOVE, (0x1122334455667788, 0x99), 0x1234, 0xABC040)
    assert len(move) == 64
    # No PASID; flags: record's address valid (2), record requested (3); operation 3.
    assert move[:8] == bytes.fromhex("00000000 0c000003")
    assert struct.unpack_from("<QQQ", move, 8) == (0xABC040, 0x1122334455667788, 0x99)
    assert struct.unpack_from("<I", move, 32) == (0x1234,)
    assert not any(move[36:])
    compare = dsa_descriptor(DsaOperation.COMPARE, (1, 2), 3, 0x40, interrupt_handle=0x102)
    assert compare[:8] == bytes.fromhex("00000000 1c000005")  # and interrupt requested (4)
    assert compare[36:40] == bytes.fromhex("0201 0000")
    assert not any(compare[38:])


def test_completion_records() -> None:
    assert CompletionRecord.decoded(bytes(32)).status == 0
    good = CompletionRecord.decoded(bytes.fromhex("01 01 00 00") + bytes(28))
    assert (good.good, good.stopped, good.result) == (True, False, 1)
    # A page fault (3) of a write (bit 7) after 0x800 bytes, at 0x123000.
    fault = CompletionRecord.decoded(
        bytes.fromhex("83 00 00 00 00080000 0030120000000000")
        + bytes.fromhex("ff") * 16  # no fields of these operations
    )
    assert fault == CompletionRecord(3, 0, True, 0x800, 0x123000)
    assert (fault.good, fault.stopped) == (False, True)
    assert str(fault) == "a page fault stopped the transfer (status 0x03) after 2048 bytes, at a write to IOVA 0x123000"
    assert "at a read from IOVA 0x10" in str(CompletionRecord(4, fault_address=0x10))
    assert str(CompletionRecord(0x11)) == "a flag of the descriptor is wrong (status 0x11)"
    assert not CompletionRecord(0x11).stopped


def test_software_errors() -> None:
    assert SoftwareError.decoded((0x1A02, 0, 0x5000, 0)) is None  # not valid (bit 0)
    error = SoftwareError.decoded((0x1A01, 0, 0x5000, 0))
    assert error == SoftwareError(0x1A, 0x5000)
    assert error.stopped
    assert str(error) == "a page fault stopped the write of the completion record (status 0x1a) (IOVA 0x5000)"
