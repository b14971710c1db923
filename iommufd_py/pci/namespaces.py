# SPDX-License-Identifier: MIT
"""Ask the kernel by rtnetlink for the network interfaces of other network namespaces.

Source: rtnetlink(7); include/uapi/linux/{if_link,net_namespace,rtnetlink}.h.
"""

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.pci.storage import namespaces

_OWN, _NAMED = Path("/proc/self/ns/net"), Path("/run/netns")
_CLONE_NEWNET = 0x40000000

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_GENERIC = struct.Struct("=B3x")  # struct rtgenmsg
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWNSID, _RTM_GETNSID = 16, 18, 88, 90
_NLM_F_REQUEST, _NLM_F_DUMP, _NLMSG_ERROR, _NLMSG_DONE = 0x1, 0x300, 2, 3
_IFNAME, _LOWER, _LOWER_NSID, _XDP, _PARENT, _PARENT_BUS = 3, 5, 37, 43, 56, 57
_XDP_ATTACHED = 2
_NETNSA_NSID, _NETNSA_FD = 1, 3
_TYPE_MASK = 0x3FFF
_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface.

    Attributes:
        name: name in its namespace.
        index: number in its namespace.
        parent: device of the interface as ``bus/name``, for example ``pci/0000:00:13.0``; empty for none.
        lower: index of the interface that this one is built on; 0 for none.
        lower_namespace: id of the namespace of *lower*, as the interface's own namespace numbers it; None if it is the
            same namespace.
        kind: type of its hardware (ARPHRD_*).
        flags: its flags (IFF_*).
        xdp: whether an XDP program is attached to it.
    """

    name: str
    index: int
    parent: str
    lower: int
    lower_namespace: int | None
    kind: int = 0
    flags: int = 0
    xdp: bool = False


@dataclass(frozen=True, slots=True)
class ForeignLink:
    """An interface of another network namespace.

    Attributes:
        link: the interface.
        place: the namespace, as the end of a sentence.
        lower_is_ours: whether the interface is built on an interface of our own namespace.
    """

    link: Link
    place: str
    lower_is_ours: bool


def foreign_links() -> Iterator[ForeignLink]:
    """Yield the interfaces of all other network namespaces that this process has permission to enter."""
    if not _OWN.exists():  # The kernel has no network namespaces.
        return
    with contextlib.ExitStack() as stack:
        own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, own)
        for file, place in _network_namespaces():
            asking = _socket_in(file)
            if asking is None:
                continue
            with asking:
                ours = _namespace_id(asking, own)
                for link in links(asking):
                    lower_is_ours = ours is not None and link.lower_namespace == ours
                    yield ForeignLink(link, place, lower_is_ours)


def _network_namespaces() -> Iterator[tuple[Path, str]]:
    known = {os.stat(_OWN).st_ino}
    # A namespace of 'ip netns add' has a name, and exists without a process in it.
    for file in sorted(_NAMED.iterdir()) if _NAMED.is_dir() else []:
        with contextlib.suppress(OSError):
            number = os.stat(file).st_ino
            if number not in known:
                known.add(number)
                yield file, file.name
    for file, place in namespaces("net"):
        with contextlib.suppress(OSError):
            if os.stat(file).st_ino not in known:
                yield file, place


def _socket_in(namespace: Path) -> socket.socket | None:
    """Return an rtnetlink socket in *namespace*; None without permission to enter it."""
    found: list[socket.socket] = []
    setns = ctypes.CDLL(None, use_errno=True).setns

    def open_there() -> None:
        try:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if setns(descriptor, _CLONE_NEWNET) == 0:
                found.append(rtnetlink())
        finally:
            os.close(descriptor)

    # In a separate thread: setns() moves the calling thread, and the socket stays in its namespace.
    thread = threading.Thread(target=open_there)
    thread.start()
    thread.join()
    return found[0] if found else None


def rtnetlink() -> socket.socket:
    """Return a socket for requests about the network interfaces of this thread's namespace."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def links(asking: socket.socket) -> list[Link]:
    """Return the interfaces of the namespace of a socket."""
    asking.send(_message(_RTM_GETLINK, _NLM_F_DUMP, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)))
    found: list[Link] = []
    while True:
        for kind, body in parse_messages(asking.recv(_BUFFER_BYTES)):
            if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                return found
            if kind == _RTM_NEWLINK:
                found.append(parse_link(body))


def _namespace_id(asking: socket.socket, namespace: int) -> int | None:
    """Return the id of another namespace in the namespace of the socket; None if it has no id there."""
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + 4, _NETNSA_FD) + struct.pack("=I", namespace)
    asking.send(_message(_RTM_GETNSID, 0, _GENERIC.pack(socket.AF_UNSPEC) + attribute))
    for kind, body in parse_messages(asking.recv(_BUFFER_BYTES)):
        if kind == _RTM_NEWNSID:
            value = _attributes(body[_GENERIC.size :]).get(_NETNSA_NSID, b"")
            number: int = struct.unpack("=i", value)[0] if len(value) == 4 else -1
            return number if number >= 0 else None
    return None


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


def parse_link(body: bytes) -> Link:
    """Read the body of an RTM_NEWLINK message."""
    _, kind, index, flags, _ = _LINK.unpack_from(body)
    values = _attributes(body[_LINK.size :])
    bus, parent = _text(values.get(_PARENT_BUS, b"")), _text(values.get(_PARENT, b""))
    lower, namespace = values.get(_LOWER), values.get(_LOWER_NSID)
    return Link(
        name=_text(values.get(_IFNAME, b"")),
        index=index,
        parent=f"{bus}/{parent}" if parent else "",
        lower=struct.unpack("=I", lower)[0] if lower else 0,
        lower_namespace=struct.unpack("=i", namespace)[0] if namespace else None,
        kind=kind,
        flags=flags,
        xdp=_attributes(values.get(_XDP, b"")).get(_XDP_ATTACHED, b"\0") != b"\0",
    )


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _aligned(length: int) -> int:
    return (length + 3) & ~3
