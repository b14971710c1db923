# SPDX-License-Identifier: MIT
"""Find the users of a device's network interfaces, in all network namespaces."""

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries, target_name
from iommufd_py.pci.namespaces import ForeignLink, foreign_links, links, rtnetlink
from iommufd_py.pci.traffic import frame_users
from iommufd_py.pci.use import Use, UseKind

_NET = Path("/sys/class/net")
_BUS = Path("/sys/bus")
# <linux/sockios.h>, and struct ifreq: a name of 16 bytes, a struct sockaddr_in whose address starts at its byte 4.
_SIOCGIFADDR = 0x8915
_IFREQ = struct.Struct("16s24x")
_ADDRESS_AT = slice(20, 24)


def network_uses(device: Path) -> Iterator[Use]:
    """Yield the users of the interfaces beneath *device*: addresses, routes, bridges, namespaces, packet sockets."""
    for text in _own_uses(device):
        yield Use(UseKind.NETWORK, text)
    directories = _net_directories(device)
    if directories:
        below = [one.name for one in entries(_NET) if (one / "device").resolve().is_relative_to(device)]
        elsewhere = not all(map(entries, directories))
        for text in judge_foreign_links(list(foreign_links()), device, _indices(below), elsewhere=elsewhere):
            yield Use(UseKind.NETWORK, text)


def _own_uses(device: Path) -> Iterator[str]:
    below = [one.name for one in entries(_NET) if (one / "device").resolve().is_relative_to(device)]
    addresses6 = parse_inet6_addresses(attribute_text(Path("/proc/net/if_inet6")))
    routed = parse_routed_interfaces(
        attribute_text(Path("/proc/net/route")), attribute_text(Path("/proc/net/ipv6_route"))
    )
    listening = parse_packet_sockets(attribute_text(Path("/proc/net/packet")))
    for base in sorted(below):
        for name in with_uppers(base):
            over = name if name == base else f"{name}, over {base},"
            found = [*_inet_address(name), *addresses6.get(name, ())]
            if found:
                yield f"the interface {over} has the address {found[0]}"
            elif name in routed:
                yield f"a route goes through the interface {over.rstrip(',')}"
            if _indices([name]) and listening & set(_indices([name])):
                yield f"a packet socket is bound to the interface {over.rstrip(',')}"
        yield from _built_on(base)
    if below:
        with rtnetlink() as asking:
            found_links = links(asking)
        every = dict.fromkeys(name for base in sorted(below) for name in with_uppers(base))
        yield from frame_users(every, found_links)


def _built_on(interface: str) -> Iterator[str]:
    """Name the bridge or bond of an interface, and the interfaces built on it. Without an address they count too."""
    master = target_name(_NET / interface / "master")
    if master:
        yield f"the interface {interface} is a port of {master}"
    for upper in entries(_NET / interface, "upper_*"):
        name = upper.name.removeprefix("upper_")
        if name != master:
            yield f"the interface {name} is built on the interface {interface}"


def with_uppers(interface: str) -> list[str]:
    """Return an interface and all interfaces built on it, in any layer."""
    found, pending = [], [interface]
    while pending:
        name = pending.pop(0)
        if name not in found:
            found.append(name)
            pending += [upper.name.removeprefix("upper_") for upper in entries(_NET / name, "upper_*")]
    return found


def _net_directories(device: Path) -> list[Path]:
    """Return the directories of a device's interfaces. sysfs shows only interfaces of our own namespace there."""
    return [path for pattern in ("net", "*/net") for path in entries(device, pattern) if path.is_dir()]


def _indices(interfaces: Sequence[str]) -> list[int]:
    texts = (attribute_text(_NET / name / "ifindex") for name in interfaces)
    return [int(text) for text in texts if text]


def judge_foreign_links(
    found: Sequence[ForeignLink], device: Path, indices: Sequence[int], *, elsewhere: bool
) -> Iterator[str]:
    """Name the interfaces of other namespaces that belong to a device or are built on its interfaces.

    Args:
        found: interfaces of other namespaces.
        device: the device in sysfs.
        indices: numbers of its interfaces in our namespace.
        elsewhere: whether the device has an interface in another namespace.
    """
    named = False
    for one in found:
        bus, _, parent = one.link.parent.partition("/")
        if parent and (_BUS / bus / "devices" / parent).resolve().is_relative_to(device):
            named = True
            yield f"its interface {one.link.name} is in the network namespace {one.place}"
        elif one.lower_is_ours and one.link.lower in indices:
            yield (
                f"the interface {one.link.name} in the network namespace {one.place} is built on its interface "
                f"{socket.if_indextoname(one.link.lower)}"
            )
    if elsewhere and not named:
        yield "its interface is in another network namespace"


def _inet_address(interface: str) -> list[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFADDR, _IFREQ.pack(os.fsencode(interface)))
        except OSError:
            return []
    return [socket.inet_ntoa(answer[_ADDRESS_AT])]


def parse_inet6_addresses(text: str) -> dict[str, list[str]]:
    """Return addresses by interface from /proc/net/if_inet6, without those every interface gives itself."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        digits, *_, interface = line.split()
        address = ipaddress.IPv6Address(int(digits, 16))
        if not address.is_link_local:
            found.setdefault(interface, []).append(str(address))
    return found


def parse_routed_interfaces(inet: str, inet6: str) -> frozenset[str]:
    """Return the interfaces with routes, from /proc/net/route and /proc/net/ipv6_route.

    For IPv6 only routes with a gateway count. Routes without one belong to automatic addresses.
    """
    found = {line.split()[0] for line in inet.splitlines()[1:]}
    for line in inet6.splitlines():
        fields = line.split()
        if int(fields[4], 16):
            found.add(fields[9])
    return frozenset(found)


def parse_packet_sockets(text: str) -> frozenset[int]:
    """Return the numbers of the interfaces that packet sockets are bound to, from /proc/net/packet.

    Number 0 is a socket for all interfaces. It does not use a particular one.
    """
    rows = (line.split() for line in text.splitlines()[1:])
    return frozenset(int(fields[4]) for fields in rows if len(fields) > 4) - {0}
