# SPDX-License-Identifier: MIT
"""Requests to the kernel by netlink.

Source: netlink(7); include/uapi/linux/netlink.h.
"""

import socket
import struct
from collections.abc import Iterator

from iommufd_py.base.sysfs import limit_named

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_NLM_F_REQUEST, _NLM_F_DUMP, _NLMSG_ERROR, _NLMSG_DONE = 0x1, 0x300, 2, 3
_TYPE_MASK = 0x3FFF
_BUFFER_BYTES = 1 << 18


def rtnetlink() -> socket.socket:
    """Return a socket for requests about the network interfaces of this thread's namespace."""
    return netlink(socket.NETLINK_ROUTE)


def netlink(family: int) -> socket.socket:
    """Return a netlink socket of a family (NETLINK_*)."""
    with limit_named("a netlink socket"):
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)


def dump(asking: socket.socket, request: int, body: bytes, answer: int) -> Iterator[bytes]:
    """Yield the bodies of all messages of type *answer* to a request; none if the kernel refuses the request."""
    asking.send(_message(request, _NLM_F_DUMP, body))
    while True:
        for kind, found in parse_messages(asking.recv(_BUFFER_BYTES)):
            if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                return
            if kind == answer:
                yield found


def ask(asking: socket.socket, request: int, body: bytes, answer: int) -> bytes | None:
    """Return the body of the one message of type *answer* to a request; None if the kernel refuses the request."""
    asking.send(_message(request, 0, body))
    found = (one for kind, one in parse_messages(asking.recv(_BUFFER_BYTES)) if kind == answer)
    return next(found, None)


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute of a request."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, 1, 0) + body


def parse_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each message in a netlink datagram."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += _aligned(length)


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes at the end of a message, by type."""
    return dict(all_attributes(data))


def all_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute at the end of a message. A list repeats a type."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def text_of(value: bytes) -> str:
    """Return the text of an attribute."""
    return value.rstrip(b"\0").decode(errors="replace")


def _aligned(length: int) -> int:
    return (length + 3) & ~3
