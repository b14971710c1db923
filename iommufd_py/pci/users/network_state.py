# SPDX-License-Identifier: MIT
"""Ask the kernel for the addresses, routes, traffic filters and sockets of network interfaces.

Sources: rtnetlink(7), sock_diag(7); include/uapi/linux/{if_addr,rtnetlink,nexthop,pkt_sched,inet_diag}.h;
include/uapi/linux/tc_act/tc_mirred.h.
"""

import ctypes
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator

from iommufd_py.pci.users.netlink import all_attributes, attribute, dump, netlink, parse_attributes, text_of

_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWROUTE, _RTM_GETROUTE, _RTM_NEWQDISC, _RTM_GETQDISC = 20, 22, 24, 26, 36, 38
_RTM_GETACTION, _RTM_NEWNEXTHOP, _RTM_GETNEXTHOP = 50, 104, 106
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop
_QDISC = struct.Struct("=B3xiIII")  # struct tcmsg
_INTERFACE = struct.Struct("=I")
_IFA_ADDRESS, _IFA_LOCAL, _TCA_KIND = 1, 2, 1
_RTA_OIF, _RTA_MULTIPATH, _NHA_OIF = 4, 9, 5
_RTN_UNICAST, _RTPROT_KERNEL, _RT_TABLE_LOCAL = 1, 2, 255
_NEXT_HOP_OBJECT, _ACTION = 8, 4  # sizes of struct nhmsg and struct tcamsg
_TCA_ACT_TAB, _TCA_ACT_KIND, _TCA_ACT_OPTIONS, _TCA_MIRRED_PARMS = 1, 1, 2, 2
_MIRRED = struct.Struct("=24xI")  # the interface in struct tc_mirred
# These disciplines hold filters, which can hand frames to a virtual machine. All other disciplines only order frames.
_FILTERS = ("ingress", "clsact")

# include/uapi/linux/bpf.h: the query is target_ifindex, attach_type, query_flags, attach_flags, prog_ids, prog_cnt.
_BPF_CALL = {"x86_64": 321, "aarch64": 280}
_BPF_PROG_QUERY, _BPF_TCX_INGRESS, _BPF_TCX_EGRESS = 16, 46, 47
_QUERY = struct.Struct("=IIIIQI28x")
_PROGRAMS = 5  # position of prog_cnt

# include/uapi/linux/netfilter/nf_tables.h
_NETLINK_NETFILTER, _NFGENMSG, _NFT_NEWCHAIN, _NFT_GETCHAIN = 12, 4, 10 << 8 | 3, 10 << 8 | 4
_NFTA_CHAIN_HOOK, _NFTA_HOOK_DEV, _NFTA_HOOK_DEVS, _NFTA_DEVICE_PREFIX = 4, 3, 4, 2

_SOCK_DIAG_BY_FAMILY, _ALL_STATES = 20, 0xFFFFFFFF
# Sockets of MPTCP are bound by their connections of TCP. The answer for raw sockets has those of all protocols.
_PROTOCOLS = (
    socket.IPPROTO_TCP,
    socket.IPPROTO_UDP,
    socket.IPPROTO_RAW,
    socket.IPPROTO_UDPLITE,
    socket.IPPROTO_SCTP,
)
_SOCKETS = struct.Struct("=BBxxI48x")  # struct inet_diag_req_v2
_NETLINK_SOCK_DIAG = 4
_BOUND_AT = 40  # idiag_if in struct inet_diag_msg
# include/uapi/linux/xdp_diag.h. A socket of AF_XDP that only sends needs no XDP program on the interface.
_AF_XDP, _XDP_SHOW_INFO, _XDP_DIAG_INFO = 44, 1, 1
_XDP_SOCKETS = struct.Struct("=BxxxxxxxI8x")  # struct xdp_diag_req
_XDP_SOCKET, _XDP_INFO = 16, struct.Struct("=II")  # the size of struct xdp_diag_msg, and struct xdp_diag_info


def interface_addresses(asking: socket.socket) -> dict[int, list[str]]:
    """Return the addresses of each interface, without those that every interface gives itself."""
    found: dict[int, list[str]] = {}
    for body in dump(asking, _RTM_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _RTM_NEWADDR):
        family, *_, index = _ADDRESS.unpack_from(body)
        values = parse_attributes(body[_ADDRESS.size :])
        # With a peer, IFA_ADDRESS is the address of the peer.
        packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS, b"")
        if packed and family in (socket.AF_INET, socket.AF_INET6):
            address = ipaddress.ip_address(packed)
            if family == socket.AF_INET or not address.is_link_local:
                found.setdefault(index, []).append(str(address))
    return found


def routed_interfaces(asking: socket.socket) -> frozenset[int]:
    """Return the interfaces of the routes in all tables, and of the next hops that routes name by a number.

    Routes of IPv6 that the kernel makes itself do not count: they belong to automatic addresses.
    """
    found: set[int] = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for body in dump(asking, _RTM_GETROUTE, _ROUTE.pack(family, *[0] * 8), _RTM_NEWROUTE):
            _, _, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
            automatic = family == socket.AF_INET6 and (protocol == _RTPROT_KERNEL or table == _RT_TABLE_LOCAL)
            if body[0] == family and kind == _RTN_UNICAST and not automatic:
                found.update(_hops(parse_attributes(body[_ROUTE.size :])))
    for body in dump(asking, _RTM_GETNEXTHOP, bytes(_NEXT_HOP_OBJECT), _RTM_NEWNEXTHOP):
        interface = parse_attributes(body[_NEXT_HOP_OBJECT:]).get(_NHA_OIF)
        found.update(_INTERFACE.unpack(interface) if interface else ())
    return frozenset(found)


def _hops(values: dict[int, bytes]) -> Iterator[int]:
    """Yield the interfaces of a route."""
    if _RTA_OIF in values:
        yield _INTERFACE.unpack(values[_RTA_OIF])[0]
    several = values.get(_RTA_MULTIPATH, b"")
    while len(several) >= _NEXT_HOP.size:
        length, _, _, index = _NEXT_HOP.unpack_from(several)
        yield index
        several = several[max(length, _NEXT_HOP.size) :]


def filtered_interfaces(asking: socket.socket) -> dict[int, str]:
    """Return the interfaces whose frames go through filters of traffic control, each with the queueing discipline."""
    found = {}
    for body in dump(asking, _RTM_GETQDISC, _QDISC.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _RTM_NEWQDISC):
        kind = text_of(parse_attributes(body[_QDISC.size :]).get(_TCA_KIND, b""))
        if kind in _FILTERS:
            found[_QDISC.unpack_from(body)[1]] = kind
    return found


def mirrored_interfaces(asking: socket.socket) -> frozenset[int]:
    """Return the interfaces to which traffic control sends frames of other interfaces (the action ``mirred``)."""
    table = attribute(_TCA_ACT_TAB, attribute(1, attribute(_TCA_ACT_KIND, b"mirred\0")))
    found: set[int] = set()
    for body in dump(asking, _RTM_GETACTION, bytes(_ACTION) + table, _RTM_GETACTION):
        for _, action in all_attributes(parse_attributes(body[_ACTION:]).get(_TCA_ACT_TAB, b"")):
            options = parse_attributes(parse_attributes(action).get(_TCA_ACT_OPTIONS, b""))
            parameters = options.get(_TCA_MIRRED_PARMS, b"")
            if len(parameters) == _MIRRED.size:
                found.update(_MIRRED.unpack(parameters))
    return frozenset(found)


def hooked_interfaces() -> tuple[str, ...]:
    """Return the names of the interfaces whose frames go through a chain of nftables; a name can end with ``*``."""
    found: list[str] = []
    try:
        asking = netlink(_NETLINK_NETFILTER)
    except OSError:  # The kernel has no netfilter.
        return ()
    with asking:
        for body in dump(asking, _NFT_GETCHAIN, bytes(_NFGENMSG), _NFT_NEWCHAIN):
            hook = parse_attributes(parse_attributes(body[_NFGENMSG:]).get(_NFTA_CHAIN_HOOK, b""))
            found += [text_of(hook[_NFTA_HOOK_DEV])] if _NFTA_HOOK_DEV in hook else []
            for kind, name in all_attributes(hook.get(_NFTA_HOOK_DEVS, b"")):
                found.append(text_of(name) + ("*" if kind == _NFTA_DEVICE_PREFIX else ""))
    return tuple(dict.fromkeys(found))


def filtered_by_program(indices: Iterable[int]) -> frozenset[int]:
    """Return the interfaces with a BPF program (tcx) that needs no queueing discipline; none without permission to ask.

    Only kernels since Linux 6.6 have such programs.
    """
    number = _BPF_CALL.get(os.uname().machine)
    if number is None:
        return frozenset()
    points = (_BPF_TCX_INGRESS, _BPF_TCX_EGRESS)
    return frozenset(index for index in indices if any(_programs(number, index, point) for point in points))


def _programs(call: int, index: int, point: int) -> int:
    """Return the number of programs at a point of an interface."""
    query = ctypes.create_string_buffer(_QUERY.pack(index, point, 0, 0, 0, 0), _QUERY.size)
    refused = ctypes.CDLL(None, use_errno=True).syscall(call, _BPF_PROG_QUERY, query, _QUERY.size)
    return 0 if refused else int(_QUERY.unpack(query.raw)[_PROGRAMS])


def bound_interfaces() -> frozenset[int]:
    """Return the interfaces that sockets of TCP, UDP, UDP-Lite, SCTP, raw IP and AF_XDP are bound to; none on a kernel
    that does not show them."""
    found = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for protocol in _PROTOCOLS:
            for body in _sockets(_SOCKETS.pack(family, protocol, _ALL_STATES)):
                found.add(_INTERFACE.unpack_from(body, _BOUND_AT)[0])
    for body in _sockets(_XDP_SOCKETS.pack(_AF_XDP, _XDP_SHOW_INFO)):
        info = parse_attributes(body[_XDP_SOCKET:]).get(_XDP_DIAG_INFO, bytes(_XDP_INFO.size))
        found.add(_XDP_INFO.unpack(info)[0])
    return frozenset(found - {0})


def _sockets(request: bytes) -> Iterator[bytes]:
    try:
        asking = netlink(_NETLINK_SOCK_DIAG)
    except OSError:  # The kernel has no CONFIG_SOCK_DIAG.
        return
    with asking:
        yield from dump(asking, _SOCK_DIAG_BY_FAMILY, request, _SOCK_DIAG_BY_FAMILY)
