# SPDX-License-Identifier: MIT
"""Issue an ioctl, and report it to an observer."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from iommufd_py.base.arguments import check_integer
from iommufd_py.base.errors import ArgumentValueError, check_result
from iommufd_py.uapi.ffi import ffi, lib

# Fields whose values follow from the structure. A report leaves them out.
_IMPLIED = ("size", "argsz", "op", "__reserved", "__reserved2")


@dataclass(frozen=True, slots=True)
class IoctlCall:
    """One ioctl that was issued.

    Attributes:
        fd: the file descriptor.
        ioctl: name of the ioctl.
        arguments: the in-fields by name.
        result: the kernel's return value, or a negative errno.
        outputs: the numeric fields that the kernel changed.
        nanoseconds: duration, measured in Python.
    """

    fd: int
    ioctl: str
    arguments: Mapping[str, object]
    result: int
    outputs: Mapping[str, int]
    nanoseconds: int


# The current observer of ioctls. Fast paths in other modules test this global directly: a function call would add a
# tenth to their time.
observer: Callable[[IoctlCall], None] | None = None


def observe_ioctls(receiver: Callable[[IoctlCall], None] | None) -> Callable[[IoctlCall], None] | None:
    """Report every ioctl of this process to *receiver*, or stop the reports with None. Return the previous receiver.

    The timed loops of the benchmark issue their ioctls in C, without a report.
    """
    global observer
    before, observer = observer, receiver
    return before


def request(ioctl: str) -> int:
    """Return the number of the ioctl named *ioctl*."""
    number: int = getattr(lib, ioctl)
    return number


def address_of(cdata: Any) -> int:
    """Return the address of *cdata*, for a field that holds a user pointer; the caller keeps *cdata* alive."""
    return int(ffi.cast("uintptr_t", cdata))


def issue(fd: int, ioctl: str, structure: str, /, **fields: object) -> Any:
    """Issue *ioctl* with a ``struct structure`` that starts with ``size``, and return the structure after the call."""
    return _issue(fd, ioctl, structure, "size", fields)


def issue_argsz(fd: int, ioctl: str, structure: str, /, **fields: object) -> Any:
    """Issue *ioctl* as :func:`issue` does, with one of VFIO's structures, whose size field is ``argsz``."""
    return _issue(fd, ioctl, structure, "argsz", fields)


def issue_pointer(fd: int, ioctl: str, pointer: Any, arguments: Mapping[str, object]) -> int:
    """Issue *ioctl* with C data of any type and return its result; an error shows *arguments*."""
    return check_result(submit(fd, ioctl, pointer, arguments), ioctl, arguments)


def submit(fd: int, ioctl: str, pointer: Any, arguments: Mapping[str, object], shown: str = "") -> int:
    """Issue *ioctl* and return its result, or a negative errno. *shown* replaces the ioctl's name in the report."""
    if observer is None:
        return lib.iommufd_uapi_ioctl(fd, request(ioctl), pointer)
    start = time.perf_counter_ns()
    result = lib.iommufd_uapi_ioctl(fd, request(ioctl), pointer)
    nanoseconds = time.perf_counter_ns() - start
    _tell(observer, fd, shown or ioctl, arguments, result, _numbers(pointer), nanoseconds)
    return result


def report_ioctl(
    fd: int, ioctl: str, arguments: Mapping[str, object], result: int, numbers: Mapping[str, int], start: int
) -> None:
    """Report an ioctl that C issued itself. It began at *start*, by :func:`time.perf_counter_ns`."""
    nanoseconds = time.perf_counter_ns() - start
    if observer is not None:
        _tell(observer, fd, ioctl, arguments, result, numbers, nanoseconds)


def _tell(
    receiver: Callable[[IoctlCall], None],
    fd: int,
    ioctl: str,
    arguments: Mapping[str, object],
    result: int,
    numbers: Mapping[str, int],
    nanoseconds: int,
) -> None:
    changed = {name: value for name, value in numbers.items() if value != arguments.get(name, 0)}
    receiver(IoctlCall(fd, ioctl, dict(arguments), result, changed if result >= 0 else {}, nanoseconds))


def _numbers(pointer: Any) -> dict[str, int]:
    pointed = ffi.typeof(pointer)
    if pointed.kind != "pointer" or pointed.item.kind != "struct":
        return {}
    return {
        name: int(getattr(pointer, name))
        for name, field in pointed.item.fields
        if field.type.kind == "primitive" and name not in _IMPLIED
    }


def issue_value(fd: int, ioctl: str, value: int = 0) -> int:
    """Issue an ioctl whose argument is a number, not a pointer, and return its result."""
    return issue_pointer(fd, ioctl, ffi.cast("void *", value), {"argument": value})


def _issue(fd: int, ioctl: str, structure: str, size_field: str, fields: dict[str, object]) -> Any:
    arg = new_structure(ioctl, structure, fields)
    setattr(arg, size_field, ffi.sizeof(arg[0]))
    issue_pointer(fd, ioctl, arg, fields)
    return arg


def new_structure(ioctl: str, structure: str, fields: Mapping[str, object]) -> Any:
    """Return a new ``struct structure`` with *fields* set.

    Raises:
        ArgumentTypeError: a field is not an integer; the message names *ioctl* and the field.
        ArgumentValueError: it does not fit into its field.
    """
    arg = ffi.new(f"struct {structure} *")
    fill(ioctl, arg, fields)
    return arg


def fill(ioctl: str, target: Any, fields: Mapping[str, object]) -> None:
    """Set *fields* of the C structure *target*; raises as :func:`new_structure`."""
    try:
        for name, value in fields.items():
            setattr(target, name, value)
    except (OverflowError, TypeError):
        kind = ffi.typeof(target)
        _refuse(ioctl, kind.item if kind.kind == "pointer" else kind, fields)
        raise


def refuse_fields(ioctl: str, structure: str, fields: Mapping[str, object]) -> None:
    """Raise an error for the first of *fields* whose value cffi refused for ``struct structure``."""
    _refuse(ioctl, ffi.typeof(f"struct {structure}"), fields)


def _refuse(ioctl: str, kind: Any, fields: Mapping[str, object]) -> None:
    types = {name: field.type for name, field in kind.fields}
    for name, value in fields.items():
        bits = 8 * ffi.sizeof(types[name])
        signed = not types[name].cname.startswith(("unsigned", "uint", "_Bool", "enum"))
        lowest, highest = (-1 << bits - 1, (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        check_integer(f"{ioctl}: {name}", value, lowest, highest)


def address_of_buffer(buffer: Any) -> int:
    """Return the address of a writable Python buffer; the caller keeps the buffer alive."""
    return address_of(ffi.from_buffer(buffer, require_writable=True))


def size_of(structure: str) -> int:
    """Return the size of a ``struct structure`` in bytes."""
    return ffi.sizeof(f"struct {structure}")


def pack(structure: str, /, **fields: object) -> bytes:
    """Return the bytes of a ``struct structure`` with *fields* set and the rest zero."""
    return bytes(ffi.buffer(new_structure(f"struct {structure}", structure, fields)))


def unpack(structure: str, data: bytes, offset: int = 0) -> Any:
    """Return the ``struct structure`` that starts at *offset* of *data*, as a copy.

    Raises:
        ArgumentValueError: *data* is too short.
    """
    size = size_of(structure)
    if len(data) < offset + size:
        raise ArgumentValueError(f"{len(data) - offset} bytes are too few for a struct {structure}, which has {size}")
    copy = ffi.new(f"struct {structure} *")
    ffi.memmove(copy, data[offset : offset + size], size)
    return copy
