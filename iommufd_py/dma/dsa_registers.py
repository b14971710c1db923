# SPDX-License-Identifier: MIT
"""The registers, descriptors and completion records of Intel's Data Streaming Accelerator. Pure.

Source: Intel Data Streaming Accelerator Architecture Specification (341204), chapters 8 (descriptors, completion
records) and 9 (registers); drivers/dma/idxd/registers.h and include/uapi/linux/idxd.h in Linux 7.3.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from iommufd_py.base.register import Field

GENCAP, WQCAP, GRPCAP, ENGCAP, OPCAP, OFFSETS = 0x10, 0x20, 0x30, 0x38, 0x40, 0x60
GENCFG, GENSTS, CMD, CMDSTATUS, CMDCAP, SWERR = 0x80, 0x90, 0xA0, 0xA8, 0xB0, 0xC0
USER_INTERRUPTS = 1 << 12
"""The bit of GENCFG that permits interrupts for descriptors without privilege, as all with a PASID are here."""
SWERR_WORDS = 4
SWERR_CLEAR = 3
"""A write of these bits to SWERR, valid and overflow, clears them."""

_COMMAND_CAPABILITIES = Field("Command Capabilities Support", 4, "CMDCAP is valid")
_MAX_TRANSFER = Field("Maximum Supported Transfer Size", 16, "as a power of two", 5)
_MAX_BATCH = Field("Maximum Supported Batch Size", 21, "as a power of two", 4)
_CONFIGURABLE = Field("Configuration Support", 31, "software can write the configuration")
_TOTAL_SIZE = Field("Total WQ Size", 0, "descriptors in all work queues", 16)
_NUM_QUEUES = Field("Number of WQs", 16, "work queues", 8)
_DEDICATED = Field("Dedicated Mode Support", 49, "a work queue can be dedicated to one client")
_ATS = Field("WQ ATS Support", 50, "software can disable ATS for a work queue")
_OPERATIONS = Field("Operation Configuration Support", 54, "a work queue has a list of permitted operations")
_NUM_GROUPS = Field("Number of Groups", 0, "groups", 8)
_TOTAL_BUFFERS = Field("Total Read Buffers", 8, "read buffers", 8)
_BUFFER_CONTROL = Field("Read Buffer Control Support", 16, "software can give read buffers to groups")
_NUM_ENGINES = Field("Number of Engines", 0, "engines", 8)
_STATE = Field("State", 0, "0 disabled, 1 enabled, 2 drains, 3 halted", 2)
_TABLE_UNIT = 0x100


class DsaOperation(IntEnum):
    """The operations that the engine uses, by their code in a descriptor."""

    MOVE = 0x03
    COMPARE = 0x05


class DsaCommand(IntEnum):
    """The commands that the engine uses, by their code in CMD."""

    ENABLE_DEVICE = 1
    RESET_DEVICE = 5
    ENABLE_WQ = 6
    REQUEST_INTERRUPT_HANDLE = 13


_COMMAND_STATUS = {
    0x01: "the command does not exist",
    0x02: "there is no such work queue",
    0x03: "the hardware has an error",
    0x10: "the device is enabled already",
    0x11: "the configuration is wrong",
    0x12: "Bus Master Enable is off in the PCI command register",
    0x13: "the configuration of PASIDs or page requests is wrong",
    0x14: "the work queues together are larger than the device permits",
    0x15: "a group is configured wrongly",
    0x16: "a group is configured wrongly",
    0x17: "a group is configured wrongly",
    0x18: "a group is configured wrongly",
    0x20: "the device is not enabled",
    0x21: "the work queue is enabled already",
    0x22: "the work queue has no size",
    0x23: "the work queue has no priority",
    0x24: "the work queue cannot have this mode",
    0x25: "the work queue cannot block on a fault",
    0x26: "the work queue cannot have a PASID: the PASID capability of the device is off",
    0x27: "the largest batch of the work queue is too large",
    0x28: "the largest transfer of the work queue is too large",
    0x31: "the device is not enabled",
    0x32: "the work queue is not enabled",
    0x41: "there is no such interrupt",
    0x42: "no interrupt handle is left",
}

SUCCESS = 0x01
"""Status of a completion record."""
_STATUS = {
    0x02: "the operation ended with another result than expected",
    0x03: "a page fault stopped the transfer",
    0x04: "a page fault stopped the transfer, and the answer to the page request was an error",
    0x10: "the device does not have the operation, or the work queue does not permit it",
    0x11: "a flag of the descriptor is wrong",
    0x12: "a reserved field of the descriptor is not zero",
    0x13: "the length of the transfer is out of range",
    0x16: "source and destination overlap",
    0x19: "the interrupt handle is wrong",
    0x1A: "a page fault stopped the write of the completion record",
    0x1B: "the address of the completion record is not aligned",
    0x1C: "an address is not aligned",
    0x1D: "the descriptor asks for a privilege that it does not have",
    0x1E: "the traffic classes are configured wrongly",
    0x1F: "a page fault stopped the readback",
    0x20: "the hardware has an error",
    0x21: "the hardware has an error during the readback",
    0x22: "the IOMMU did not translate an address",
}
# A read without ATS that the IOMMU stops looks to the device like an error of the hardware.
_STOPPED = frozenset({0x03, 0x04, 0x1A, 0x20, 0x22})

# Flags of a descriptor.
_RECORD_VALID, _RECORD_REQUESTED, _INTERRUPT_REQUESTED = 1 << 2, 1 << 3, 1 << 4
_FLAGS_BITS = 24
# PASID and privilege, which a dedicated work queue ignores; flags and operation; the completion record's address, two
# operands, length, interrupt handle, 26 bytes reserved.
_DESCRIPTOR = struct.Struct("<IIQQQIH26x")
# Status, result, fault information, a reserved byte, number of completed bytes, address of the fault.
_RECORD = struct.Struct("<BBBxIQ16x")
_FAULT_ON_WRITE = 1 << 7

RECORD_BYTES = _RECORD.size
ENABLED = 1
"""State of an enabled device in GENSTS."""


@dataclass(frozen=True, slots=True)
class DsaCapabilities:
    """The capability registers.

    Attributes:
        max_transfer_shift: longest transfer, as a power of two of bytes.
        max_batch_shift: longest batch, as a power of two of descriptors.
        has_command_list: whether CMDCAP is valid.
        configurable: whether software can configure the device.
        queue_entries: descriptors in all work queues together.
        queues: number of work queues.
        dedicated: whether a work queue can be dedicated.
        ats_control: whether software can disable ATS for a work queue.
        operation_list: whether a work queue has a list of permitted operations.
        groups: number of groups.
        read_buffers: number of read buffers that software can give to a group; 0 if it cannot.
        engines: number of engines.
        group_table: offset of the first group's configuration in BAR0.
        queue_table: offset of the first work queue's configuration in BAR0.
        permission_table: offset of the permissions of the MSI-X vectors in BAR0.
    """

    max_transfer_shift: int
    max_batch_shift: int
    has_command_list: bool
    configurable: bool
    queue_entries: int
    queues: int
    dedicated: bool
    ats_control: bool
    operation_list: bool
    groups: int
    read_buffers: int
    engines: int
    group_table: int
    queue_table: int
    permission_table: int

    @classmethod
    def decoded(cls, gencap: int, wqcap: int, grpcap: int, engcap: int, offsets: int) -> Self:
        """Return the capabilities from the values of the registers; *offsets* is the first half of the table."""
        grpcfg, wqcfg, permissions = ((offsets >> shift & 0xFFFF) * _TABLE_UNIT for shift in (0, 16, 32))
        return cls(
            max_transfer_shift=_MAX_TRANSFER.of(gencap),
            max_batch_shift=_MAX_BATCH.of(gencap),
            has_command_list=bool(_COMMAND_CAPABILITIES.of(gencap)),
            configurable=bool(_CONFIGURABLE.of(gencap)),
            queue_entries=_TOTAL_SIZE.of(wqcap),
            queues=_NUM_QUEUES.of(wqcap),
            dedicated=bool(_DEDICATED.of(wqcap)),
            ats_control=bool(_ATS.of(wqcap)),
            operation_list=bool(_OPERATIONS.of(wqcap)),
            groups=_NUM_GROUPS.of(grpcap),
            read_buffers=_TOTAL_BUFFERS.of(grpcap) if _BUFFER_CONTROL.of(grpcap) else 0,
            engines=_NUM_ENGINES.of(engcap),
            group_table=grpcfg,
            queue_table=wqcfg,
            permission_table=permissions,
        )

    @property
    def missing(self) -> str:
        """The first feature that the engine needs and the device lacks, in words; empty for none."""
        needs = {
            "a configuration that software can write": self.configurable,
            "a dedicated work queue": self.queues and self.queue_entries and self.dedicated,
            "a group": self.groups,
            "an engine": self.engines,
        }
        return next((need for need, has in needs.items() if not has), "")


def queue_words(capabilities: DsaCapabilities, pasid: int | None) -> tuple[int, ...]:
    """Return the words of 32 bits of WQCFG for a dedicated work queue that has all entries.

    ATS is off, so that the IOMMU checks each request. The last eight words, the list of permitted operations, exist
    only if the device has such lists.
    """
    dedicated, ats_disabled, priority = 1 << 0, 1 << 2, 1 << 4
    mode = dedicated | (ats_disabled if capabilities.ats_control else 0) | priority
    if pasid is not None:
        pasid_enabled = 1 << 28
        mode |= pasid_enabled | pasid << 8
    limits = capabilities.max_batch_shift << 5 | capabilities.max_transfer_shift
    words = (capabilities.queue_entries, 0, mode, limits, 0, 0, 0, 0)
    if not capabilities.operation_list:
        return words
    operations = sum(1 << operation for operation in DsaOperation)
    return (*words, operations, 0, 0, 0, 0, 0, 0, 0)


def group_words(capabilities: DsaCapabilities) -> tuple[int, ...]:
    """Return the words of 64 bits of GRPCFG for a group of work queue 0 and engine 0, with all read buffers."""
    return (1, 0, 0, 0, 1, capabilities.read_buffers << 20)


def permission_word(pasid: int | None) -> int:
    """Return the permissions of an MSI-X vector for descriptors with *pasid*."""
    return 0 if pasid is None else pasid << 12 | 1 << 3


def command_word(command: DsaCommand, operand: int = 0) -> int:
    """Return the value of CMD that starts a command."""
    return command << 20 | operand


def command_active(status: int) -> bool:
    """Return whether CMDSTATUS says that the last command has not ended."""
    return bool(status >> 31)


def command_value(status: int) -> int:
    """Return the result of a successful command, such as the interrupt handle."""
    return status >> 8 & 0xFFFF


def command_failure(status: int) -> str:
    """Return the error of the last command in words; empty for none."""
    code = status & 0xFF
    return _in_words(_COMMAND_STATUS, code) if code else ""


def device_state(gensts: int) -> int:
    """Return the state of the device from GENSTS."""
    return _STATE.of(gensts)


def dsa_descriptor(
    operation: DsaOperation, operands: tuple[int, int], length: int, record: int, interrupt_handle: int | None = None
) -> bytes:
    """Return a descriptor.

    Args:
        operation: the operation.
        operands: IOVAs: source and destination of a move, both sources of a compare.
        length: bytes.
        record: IOVA of the completion record, a multiple of 32.
        interrupt_handle: the interrupt that the device sends after the completion record; None for none.
    """
    flags = _RECORD_VALID | _RECORD_REQUESTED | (0 if interrupt_handle is None else _INTERRUPT_REQUESTED)
    return _DESCRIPTOR.pack(0, operation << _FLAGS_BITS | flags, record, *operands, length, interrupt_handle or 0)


@dataclass(frozen=True, slots=True)
class CompletionRecord:
    """What the device says about a descriptor.

    Attributes:
        status: the status code; 0 while the operation is under way.
        result: of a compare, 0 if both operands are equal.
        fault_on_write: whether the page fault was a write.
        completed: number of bytes before the fault.
        fault_address: IOVA of the fault.
    """

    status: int
    result: int = 0
    fault_on_write: bool = False
    completed: int = 0
    fault_address: int = 0

    @classmethod
    def decoded(cls, record: bytes | memoryview) -> Self:
        """Return the record from its bytes in memory."""
        status, result, _information, completed, address = _RECORD.unpack_from(record)
        return cls(status & ~_FAULT_ON_WRITE, result, bool(status & _FAULT_ON_WRITE), completed, address)

    @property
    def good(self) -> bool:
        """Whether the operation succeeded."""
        return self.status == SUCCESS

    @property
    def stopped(self) -> bool:
        """Whether the operation failed as it does if the IOMMU stops it."""
        return self.status in _STOPPED

    def __str__(self) -> str:
        words = _in_words(_STATUS, self.status)
        if self.status not in (0x03, 0x04):
            return words
        access = "write to" if self.fault_on_write else "read from"
        return f"{words} after {self.completed} bytes, at a {access} IOVA {self.fault_address:#x}"


@dataclass(frozen=True, slots=True)
class SoftwareError:
    """What SWERR says about an error that no completion record reports.

    Attributes:
        code: code of the error, a status of a completion record or a code of the register's own.
        fault_address: IOVA of a page fault, 0 without one.
    """

    code: int
    fault_address: int

    @classmethod
    def decoded(cls, words: tuple[int, ...]) -> Self | None:
        """Return the error from the four words of 64 bits of SWERR; None if there is none."""
        valid = words[0] & 1
        return cls(words[0] >> 8 & 0xFF, words[2]) if valid else None

    @property
    def stopped(self) -> bool:
        """Whether this error follows if the IOMMU stops the write of a completion record."""
        return self.code in _STOPPED

    def __str__(self) -> str:
        return f"{_in_words(_STATUS, self.code)} (IOVA {self.fault_address:#x})"


def _in_words(texts: dict[int, str], code: int) -> str:
    return f"{texts.get(code, 'the specification has no words for this code')} (status {code:#04x})"
