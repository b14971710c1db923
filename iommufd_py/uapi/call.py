# SPDX-License-Identifier: MIT
"""How every ioctl is issued."""

from collections.abc import Mapping
from typing import Any

from iommufd_py.errors import check
from iommufd_py.ffi import ffi, lib

__all__ = [
    "address_of",
    "address_of_buffer",
    "issue",
    "issue_argsz",
    "issue_pointer",
    "issue_value",
    "pack",
    "request",
    "size_of",
    "unpack",
]


def request(ioctl: str) -> int:
    """Return the number of the ioctl named *ioctl*."""
    number: int = getattr(lib, ioctl)
    return number


def address_of(cdata: Any) -> int:
    """Return where *cdata* lies, for a structure field that holds a user pointer; keep *cdata* alive meanwhile."""
    return int(ffi.cast("uintptr_t", cdata))


def issue(fd: int, ioctl: str, structure: str, /, **fields: object) -> Any:
    """Issue *ioctl* with a ``struct structure`` that starts with ``size``, and return the structure as it came back."""
    return _issue(fd, ioctl, structure, "size", fields)


def issue_argsz(fd: int, ioctl: str, structure: str, /, **fields: object) -> Any:
    """The same for VFIO's structures, which call their size ``argsz``."""
    return _issue(fd, ioctl, structure, "argsz", fields)


def issue_pointer(fd: int, ioctl: str, pointer: Any, arguments: Mapping[str, object]) -> int:
    """Issue *ioctl* with C data of any type and return its result; *arguments* are what an error shows."""
    return check(lib.iommufd_uapi_ioctl(fd, request(ioctl), pointer), ioctl, arguments)


def issue_value(fd: int, ioctl: str, value: int = 0) -> int:
    """Issue an ioctl whose argument is a number, not a pointer, and return its result."""
    return issue_pointer(fd, ioctl, ffi.cast("void *", value), {"argument": value})


def _issue(fd: int, ioctl: str, structure: str, size_field: str, fields: dict[str, object]) -> Any:
    arg = ffi.new(f"struct {structure} *", fields)
    setattr(arg, size_field, ffi.sizeof(arg[0]))
    issue_pointer(fd, ioctl, arg, fields)
    return arg


def address_of_buffer(buffer: Any) -> int:
    """Return where the memory of a writable Python buffer lies; whoever uses the address keeps the buffer alive."""
    return address_of(ffi.from_buffer(buffer, require_writable=True))


def size_of(structure: str) -> int:
    """Return how many bytes a ``struct structure`` has."""
    return ffi.sizeof(f"struct {structure}")


def pack(structure: str, /, **fields: object) -> bytes:
    """Return the bytes of a ``struct structure`` with *fields* set and the rest zero."""
    return bytes(ffi.buffer(ffi.new(f"struct {structure} *", fields)))


def unpack(structure: str, data: bytes, offset: int = 0) -> Any:
    """Return the ``struct structure`` that starts at *offset* of *data*, as a copy.

    Raises:
        ValueError: it is not all there.
    """
    size = size_of(structure)
    if len(data) < offset + size:
        raise ValueError(f"{len(data) - offset} bytes are no struct {structure}, which has {size}")
    copy = ffi.new(f"struct {structure} *")
    ffi.memmove(copy, data[offset : offset + size], size)
    return copy
