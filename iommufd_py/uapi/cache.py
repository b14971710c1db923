# SPDX-License-Identifier: MIT
"""Flush the CPU's caches from user space, by an instruction for each line of a range."""

from enum import StrEnum

from iommufd_py.base.errors import BackingError
from iommufd_py.uapi.ffi import ffi, lib


class LineOp(StrEnum):
    """An x86 instruction for one cache line."""

    CLFLUSH = "clflush"
    """Write the line back if it is dirty, and drop it."""
    CLFLUSHOPT = "clflushopt"
    """The same, but not ordered with other flushes."""
    CLWB = "clwb"
    """Write the line back if it is dirty, and keep it."""


def has(op: LineOp) -> bool:
    """Return whether user space of this machine has the instruction."""
    return bool(lib.iommufd_cache_has(_number(op)))


def execute(op: LineOp, user_va: int, length: int) -> None:
    """Execute the instruction for every line that holds a byte of *length* bytes at *user_va*, between two fences."""
    lib.iommufd_cache_execute(_number(op), ffi.cast("void *", user_va), length)


def flush_lines(user_va: int, length: int) -> None:
    """Write the lines of *length* bytes at *user_va* back to memory and drop them, by the best available instruction.

    Raises:
        BackingError: user space of this CPU has no such instruction.
    """
    for op in (LineOp.CLFLUSHOPT, LineOp.CLFLUSH):
        if has(op):
            execute(op, user_va, length)
            return
    raise BackingError("user space cannot flush the caches of this CPU: only x86-64 has the instruction")


def _number(op: LineOp) -> int:
    return int(getattr(lib, f"IOMMUFD_CACHE_{op.upper()}"))
