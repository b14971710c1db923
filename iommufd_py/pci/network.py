# SPDX-License-Identifier: MIT
"""The network interfaces of a device that carry addresses or routes."""

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries

_NET = Path("/sys/class/net")
# <linux/sockios.h>, and struct ifreq: a name of 16 bytes, a struct sockaddr_in whose address starts at its byte 4.
_SIOCGIFADDR = 0x8915
_IFREQ = struct.Struct("16s24x")
_ADDRESS_AT = slice(20, 24)


def interfaces_in_use(device: Path) -> Iterator[str]:
    """Say of each interface beneath *device*, and of what is built on it (bridge, bond, VLAN), why it is in use."""
    below = [one.name for one in entries(_NET) if (one / "device").resolve().is_relative_to(device)]
    addresses6 = parse_inet6_addresses(attribute_text(Path("/proc/net/if_inet6")))
    routed = parse_routed_interfaces(
        attribute_text(Path("/proc/net/route")), attribute_text(Path("/proc/net/ipv6_route"))
    )
    for base in sorted(below):
        for name in _with_uppers(base):
            over = name if name == base else f"{name}, over {base},"
            found = [*_inet_address(name), *addresses6.get(name, ())]
            if found:
                yield f"the interface {over} has the address {found[0]}"
            elif name in routed:
                yield f"a route goes through the interface {over.rstrip(',')}"


def _with_uppers(interface: str) -> list[str]:
    found, pending = [], [interface]
    while pending:
        name = pending.pop(0)
        if name not in found:
            found.append(name)
            pending += [upper.name.removeprefix("upper_") for upper in entries(_NET / name, "upper_*")]
    return found


def _inet_address(interface: str) -> list[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFADDR, _IFREQ.pack(interface.encode()))
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
    """Return the interfaces that routes go through, by /proc/net/route and /proc/net/ipv6_route.

    Of IPv6 only routes with a gateway count: those without follow from addresses that an interface gives itself.
    """
    found = {line.split()[0] for line in inet.splitlines()[1:]}
    for line in inet6.splitlines():
        fields = line.split()
        if int(fields[4], 16):
            found.add(fields[9])
    return frozenset(found)
