# SPDX-License-Identifier: MIT
"""Ask the kernel by rtnetlink for the network interfaces of other network namespaces.

Source: rtnetlink(7); include/uapi/linux/{if_link,net_namespace,rtnetlink}.h.
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.errors import DeviceError
from iommufd_py.base.sysfs import limit_named
from iommufd_py.pci.users.mounts import mounts_everywhere
from iommufd_py.pci.users.netlink import ask, attribute, dump, parse_attributes, rtnetlink, text_of
from iommufd_py.pci.users.processes import opened_files, process_namespaces, process_title, processes

_OWN, _NAMED = Path("/proc/self/ns/net"), Path("/run/netns")
_CLONE_NEWNET = 0x40000000

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_GENERIC = struct.Struct("=B3x")  # struct rtgenmsg
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWNSID, _RTM_GETNSID = 16, 18, 88, 90
_IFNAME, _LOWER, _LOWER_NSID, _XDP, _PARENT, _PARENT_BUS = 3, 5, 37, 43, 56, 57
_XDP_ATTACHED = 2
_NETNSA_NSID, _NETNSA_FD = 1, 3


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
        with limit_named(_OWN):
            own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, own)
        for file, place in _network_namespaces():
            asking = socket_in(file)
            if asking is None:
                continue
            with asking:
                ours = _namespace_id(asking, own)
                for link in links(asking):
                    lower_is_ours = ours is not None and link.lower_namespace == ours
                    yield ForeignLink(link, place, lower_is_ours)


def _network_namespaces() -> Iterator[tuple[Path, str]]:
    known = {os.stat(_OWN).st_ino}
    for file, place in (*_named_namespaces(), *process_namespaces("net"), *_held_namespaces()):
        with contextlib.suppress(OSError):
            number = os.stat(file).st_ino
            if number not in known:
                known.add(number)
                yield file, place


def _named_namespaces() -> Iterator[tuple[Path, str]]:
    """Yield the namespaces that are mounted on a file, as 'ip netns add' and Docker do. They need no process."""
    for mount in mounts_everywhere():
        # A mount of another mount namespace can have any other file at its path here.
        if mount.type == "nsfs" and mount.source == "nsfs" and not mount.place:
            target = Path(mount.target)
            yield target, target.name if target.parent == _NAMED else mount.target


def _held_namespaces() -> Iterator[tuple[Path, str]]:
    """Yield the namespaces that a process holds by a descriptor only."""
    for process in processes():
        for file in opened_files(process):
            if file.path.startswith("net:["):
                yield file.link, f"that {process_title(process)} holds"


def socket_in(namespace: Path) -> socket.socket | None:
    """Return an rtnetlink socket in *namespace*; None without permission to enter it.

    Raises:
        DeviceError: the process may have no further thread, so the namespace cannot be read.
        ToolError: the process may have no further file.
    """
    setns = ctypes.CDLL(None, use_errno=True).setns

    def open_there() -> socket.socket | None:
        try:
            with limit_named(namespace):
                descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return rtnetlink() if setns(descriptor, _CLONE_NEWNET) == 0 else None
        finally:
            os.close(descriptor)

    # In a separate thread: setns() moves the calling thread, and the socket stays in its namespace.
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(open_there).result()
        except RuntimeError:  # Python's error for EAGAIN.
            raise DeviceError(
                "the network interfaces of other namespaces, which can use the device, cannot be read: no more threads "
                "are allowed (ulimit -u, ulimit -v, a container): allow more"
            ) from None


def links(asking: socket.socket) -> list[Link]:
    """Return the interfaces of the namespace of a socket."""
    request = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    return [parse_link(body) for body in dump(asking, _RTM_GETLINK, request, _RTM_NEWLINK)]


def _namespace_id(asking: socket.socket, namespace: int) -> int | None:
    """Return the id of another namespace in the namespace of the socket; None if it has no id there."""
    request = _GENERIC.pack(socket.AF_UNSPEC) + attribute(_NETNSA_FD, struct.pack("=I", namespace))
    body = ask(asking, _RTM_GETNSID, request, _RTM_NEWNSID)
    if body is None:
        return None
    value = parse_attributes(body[_GENERIC.size :]).get(_NETNSA_NSID, b"")
    number: int = struct.unpack("=i", value)[0] if len(value) == 4 else -1
    return number if number >= 0 else None


def parse_link(body: bytes) -> Link:
    """Read the body of an RTM_NEWLINK message. A part that is cut off counts as missing."""
    _, kind, index, flags, _ = _LINK.unpack(body[: _LINK.size].ljust(_LINK.size, b"\0"))
    values = parse_attributes(body[_LINK.size :])
    bus, parent = text_of(values.get(_PARENT_BUS, b"")), text_of(values.get(_PARENT, b""))
    lower, namespace = values.get(_LOWER, b""), values.get(_LOWER_NSID, b"")
    return Link(
        name=text_of(values.get(_IFNAME, b"")),
        index=index,
        parent=f"{bus}/{parent}" if parent else "",
        lower=struct.unpack("=I", lower)[0] if len(lower) == 4 else 0,
        lower_namespace=struct.unpack("=i", namespace)[0] if len(namespace) == 4 else None,
        kind=kind,
        flags=flags,
        xdp=parse_attributes(values.get(_XDP, b"")).get(_XDP_ATTACHED, b"\0") != b"\0",
    )
