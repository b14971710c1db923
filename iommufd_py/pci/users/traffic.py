# SPDX-License-Identifier: MIT
"""Find the users of a network interface that give it no address: kernel protocols, and programs that take its frames.

Sources: drivers/block/aoe/aoeblk.c; drivers/net/ppp/pppoe.c; Documentation/networking/netconsole.rst;
Documentation/networking/can.rst; include/uapi/linux/if_link.h (IFLA_XDP); drivers/infiniband/sw/rxe/rxe_verbs.c;
ptype_seq_show() in net/core/net-procfs.c.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from iommufd_py.base.sysfs import attribute_text, entries
from iommufd_py.pci.users.display import parse_consoles
from iommufd_py.pci.users.namespaces import Link

_BLOCK = Path("/sys/class/block")
_COMMAND_LINE = Path("/proc/cmdline")
_CONSOLES = Path("/proc/consoles")
# Documentation/networking/netconsole.rst: [+][r][port]@[address]/[interface],... for each target, with ; between them.
_TARGETS = re.compile(r'(?:^|\s)"?(?:netconsole\.)?netconsole="?([^"\s]+)')
_NETCONSOLE = Path("/sys/kernel/config/netconsole")
_PPPOE = Path("/proc/net/pppoe")
_RDMA = Path("/sys/class/infiniband")
_HANDLERS = Path("/proc/net/ptype")
# The type of a frame or ALL, the interface, and the function with its module.
_HANDLER = re.compile(r"^(?:ALL |[0-9a-f]{4}) (\S+) +(\S+)(?: \[(\S+)\])?$", re.MULTILINE)
# Those of packet sockets (net/packet/af_packet.c), which are found by their own table.
_OF_SOCKETS = re.compile("t?packet_rcv.*")
_CAN = 280  # ARPHRD_CAN in include/uapi/linux/if_arp.h
_UP = 0x1  # IFF_UP


def frame_users(
    interfaces: Collection[str],
    links: Collection[Link],
    block: Path = _BLOCK,
    netconsole: Path = _NETCONSOLE,
    pppoe: Path = _PPPOE,
    rdma: Path = _RDMA,
    handlers: Path = _HANDLERS,
    boot: tuple[Path, Path] = (_COMMAND_LINE, _CONSOLES),
) -> Iterator[str]:
    """Return the users of interfaces as clauses.

    Args:
        interfaces: names of the interfaces.
        links: the interfaces of this namespace, as rtnetlink describes them.
        block: directory of all block devices.
        netconsole: directory of the targets of netconsole in configfs.
        pppoe: sessions of PPP over Ethernet.
        rdma: directory of all RDMA devices.
        boot: the kernel's command line, and the list of consoles.
        handlers: the functions of the kernel that receive frames, such as those of TIPC, FCoE and other hypervisors.
    """
    for file in entries(block, "etherd!*/netif"):
        # The kernel finds disks of ATA over Ethernet on every interface that is up: these need no address.
        for name in sorted(set(attribute_text(file).split(",")) & set(interfaces)):
            yield f"the disk {file.parent.name.replace('!', '/')} is reached through the interface {name}"
    for line in attribute_text(pppoe).split("\n")[1:]:
        name = line.split()[-1] if line.split() else ""
        if name in interfaces:
            yield f"a PPP over Ethernet session runs over the interface {name}"
    for target in entries(netconsole):
        name = attribute_text(target / "dev_name")
        if attribute_text(target / "enabled") == "1" and name in interfaces:
            yield f"the kernel sends its log through the interface {name} (netconsole {target.name})"
    for name in sorted(set(_targets_of_boot(*boot)) & set(interfaces)):
        yield f"the kernel sends its log through the interface {name} (netconsole= on its command line)"
    for one in entries(rdma):
        # Only RDMA in software on an interface has this attribute.
        name = attribute_text(one / "parent")
        if name in interfaces:
            yield f"the RDMA device {one.name} is built on the interface {name}"
    for name, function, module in _HANDLER.findall(attribute_text(handlers)):
        if name in interfaces and not _OF_SOCKETS.fullmatch(function):
            yield f"{module or 'the kernel'} receives the frames of the interface {name} ({function})"
    for link in links:
        if link.name in interfaces and link.xdp:
            yield f"an XDP program is attached to the interface {link.name}"
        if link.name in interfaces and link.kind == _CAN and link.flags & _UP:
            yield f"the CAN interface {link.name} is up"


def _targets_of_boot(command_line: Path, consoles: Path) -> Iterator[str]:
    """Yield the interfaces of netconsole's targets on the kernel's command line, which configfs does not show."""
    if not any(name.startswith("netcon") for name, _ in parse_consoles(attribute_text(consoles))):
        return
    for value in _TARGETS.findall(attribute_text(command_line)):
        for target in value.split(";"):
            yield target.partition("/")[2].partition(",")[0] or "eth0"
