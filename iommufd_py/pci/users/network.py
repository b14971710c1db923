# SPDX-License-Identifier: MIT
"""Find the users of a device's network interfaces, in all network namespaces."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries, target_name
from iommufd_py.pci.users.namespaces import ForeignLink, foreign_links, links
from iommufd_py.pci.users.netlink import rtnetlink
from iommufd_py.pci.users.network_state import (
    bound_interfaces,
    filtered_by_program,
    filtered_interfaces,
    hooked_interfaces,
    interface_addresses,
    mirrored_interfaces,
    routed_interfaces,
)
from iommufd_py.pci.users.traffic import frame_users
from iommufd_py.pci.users.use import Use, UseKind

_NET = Path("/sys/class/net")
_BUS = Path("/sys/bus")
_MOST_LOOKS = 10
_NUMBER = re.compile(r"[0-9]{1,10}")


def network_uses(device: Path) -> Iterator[Use]:
    """Yield the users of the interfaces beneath *device*: addresses, routes, bridges, namespaces, packet sockets."""
    for text in _own_uses(device):
        yield Use(UseKind.NETWORK, text)
    directories = _net_directories(device)
    if directories:
        elsewhere = not all(map(entries, directories))
        names = _names_by_index(_interfaces(device))
        for text in judge_foreign_links(list(foreign_links()), device, names, elsewhere=elsewhere):
            yield Use(UseKind.NETWORK, text)


@dataclass(frozen=True, slots=True)
class _State:
    """Addresses, routes, sockets and filters of the interfaces of our namespace, by the number of the interface."""

    addresses: Mapping[int, Sequence[str]]
    routed: frozenset[int]
    listening: frozenset[int]
    bound: frozenset[int]
    programs: frozenset[int]
    filters: Mapping[int, str]
    mirrors: frozenset[int]
    hooked: Sequence[str]

    def uses(self, index: int, interface: str, over: str) -> Iterator[str]:
        """Yield the uses of an interface, which is built on the interface *over*; empty for none."""
        where = f"the interface {interface}{f', over {over}' if over else ''}"
        if index in self.addresses:
            yield f"{where}{',' if over else ''} has the address {self.addresses[index][0]}"
        elif index in self.routed:
            yield f"a route goes through {where}"
        for numbers, user in (
            (self.listening, "a packet socket is bound"),
            (self.bound, "a socket is bound"),
            (self.programs, "a BPF program (tcx) is attached"),
            (self.mirrors, "a traffic filter (tc mirred) of another interface sends frames"),
        ):
            if index in numbers:
                yield f"{user} to {where}"
        if index in self.filters:
            yield f"a traffic filter (tc {self.filters[index]}) is attached to {where}"
        if any(is_hooked(interface, hook) for hook in self.hooked):
            yield f"a filter (nftables) is attached to {where}"


def is_hooked(interface: str, hook: str) -> bool:
    """Return whether a hook of nftables is for an interface. Its name can end with ``*``."""
    return interface.startswith(hook[:-1]) if hook.endswith("*") else interface == hook


def _own_uses(device: Path) -> list[str]:
    """Return the uses of the interfaces in our namespace.

    Programs name, add and remove interfaces at any moment, for example udev after a bind: then look again.
    """
    uppers, found = _uppers_of(device), list[str]()
    for _ in range(_MOST_LOOKS):
        found = list(_uses_of(uppers)) if uppers else []
        before, uppers = uppers, _uppers_of(device)
        if uppers == before:
            break
    return found


def _uppers_of(device: Path) -> dict[str, list[str]]:
    """Return the interfaces beneath a device, each with all that are built on it."""
    return {base: with_uppers(base) for base in sorted(_interfaces(device))}


def _uses_of(uppers: Mapping[str, Sequence[str]]) -> Iterator[str]:
    with rtnetlink() as asking:
        found_links = links(asking)
        numbers = {link.name: link.index for link in found_links}
        state = _State(
            addresses=interface_addresses(asking),
            routed=routed_interfaces(asking),
            listening=parse_packet_sockets(attribute_text(Path("/proc/net/packet"))),
            bound=bound_interfaces(),
            programs=filtered_by_program({numbers.get(name, 0) for names in uppers.values() for name in names} - {0}),
            filters=filtered_interfaces(asking),
            mirrors=mirrored_interfaces(asking),
            hooked=hooked_interfaces(),
        )
    for base, names in uppers.items():
        for name in names:
            yield from state.uses(numbers.get(name, 0), name, base if name != base else "")
        yield from _built_on(base)
        for link in found_links:
            # The kernel makes no upper_* for the links of a tunnel.
            if link.lower == numbers.get(base) and link.lower_namespace is None and link.name not in names:
                yield f"the interface {link.name} is built on the interface {base}"
    every = dict.fromkeys(name for names in uppers.values() for name in names)
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


def _interfaces(device: Path) -> list[str]:
    """Return the names of the interfaces beneath *device* in our network namespace."""
    return [one.name for one in entries(_NET) if (one / "device").resolve().is_relative_to(device)]


def _net_directories(device: Path) -> list[Path]:
    """Return the directories of a device's interfaces. sysfs shows only interfaces of our own namespace there.

    An interface can be many levels below the device: that of a USB adapter below the USB controller.
    """
    return sorted(Path(path) for path, _, _ in os.walk(device) if os.path.basename(path) == "net")


def _names_by_index(interfaces: Sequence[str]) -> dict[int, str]:
    texts = {name: attribute_text(_NET / name / "ifindex") for name in interfaces}
    return {int(text): name for name, text in texts.items() if text}


def judge_foreign_links(
    found: Sequence[ForeignLink], device: Path, names: Mapping[int, str], *, elsewhere: bool
) -> Iterator[str]:
    """Name the interfaces of other namespaces that belong to a device or are built on its interfaces.

    Args:
        found: interfaces of other namespaces.
        device: the device in sysfs.
        names: its interfaces in our namespace by their numbers.
        elsewhere: whether the device has an interface in another namespace.
    """
    named = False
    for one in found:
        bus, _, parent = one.link.parent.partition("/")
        if parent and (_BUS / bus / "devices" / parent).resolve().is_relative_to(device):
            named = True
            yield f"its interface {one.link.name} is in the network namespace {one.place}"
        elif one.lower_is_ours and one.link.lower in names:
            yield (
                f"the interface {one.link.name} in the network namespace {one.place} is built on its interface "
                f"{names[one.link.lower]}"
            )
    if elsewhere and not named:
        yield "its interface is in another network namespace"


def parse_packet_sockets(text: str) -> frozenset[int]:
    """Return the numbers of the interfaces that packet sockets are bound to, from /proc/net/packet.

    Number 0 is a socket for all interfaces. It does not use a particular one.
    """
    rows = (line.split() for line in text.splitlines()[1:])
    numbers = (fields[4] for fields in rows if len(fields) > 4)
    return frozenset(int(one) for one in numbers if _NUMBER.fullmatch(one)) - {0}
