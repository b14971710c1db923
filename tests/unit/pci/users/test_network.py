# SPDX-License-Identifier: MIT
"""Interfaces of this network namespace and of others."""

import struct
from pathlib import Path

import pytest

from iommufd_py.pci.users.namespaces import ForeignLink, Link, links, parse_link
from iommufd_py.pci.users.netlink import rtnetlink
from iommufd_py.pci.users.network import judge_foreign_links, parse_packet_sockets


def test_packet_sockets_bound_to_an_interface() -> None:
    text = (
        "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"
        "0000000000000000 3      3    0003   2     1 0      0      1234\n"
        "0000000000000000 3      3    0003   0     1 0      0      1235\n"
    )
    assert parse_packet_sockets(text) == {2}
    assert parse_packet_sockets("") == frozenset()


def test_interfaces_of_this_namespace_by_rtnetlink() -> None:
    with rtnetlink() as asking:
        found = {one.name for one in links(asking)}
    assert "lo" in found


def test_foreign_links(tmp_path: Path) -> None:
    above = ForeignLink(Link("inside", 3, "", 7, 0), "c1", lower_is_ours=True)
    elsewhere = ForeignLink(Link("inside", 3, "", 7, None), "c1", lower_is_ours=False)
    assert list(judge_foreign_links([elsewhere], tmp_path, {7: "eth0"}, elsewhere=False)) == []
    assert list(judge_foreign_links([above], tmp_path, {8: "eth0"}, elsewhere=False)) == []
    assert list(judge_foreign_links([above], tmp_path, {7: "eth0"}, elsewhere=False)) == [
        "the interface inside in the network namespace c1 is built on its interface eth0"
    ]
    assert list(judge_foreign_links([elsewhere], tmp_path, {}, elsewhere=True)) == [
        "its interface is in another network namespace"
    ]


@pytest.mark.parametrize(("attached", "xdp"), [(0, False), (1, True), (2, True), (4, True)])
def test_xdp_program_in_a_message_of_rtnetlink(attached: int, xdp: bool) -> None:
    """IFLA_XDP holds IFLA_XDP_ATTACHED, a byte of enum XDP_ATTACHED_*."""
    inner = struct.pack("=HHB3x", 5, 2, attached)
    name = struct.pack("=HH8s", 12, 3, b"eth4\0")
    body = struct.pack("=BxHiII", 0, 1, 5, 0x1003, 0) + name + struct.pack("=HH", 4 + len(inner), 43 | 0x8000) + inner
    found = parse_link(body)
    assert (found.name, found.index, found.kind, found.flags, found.xdp) == ("eth4", 5, 1, 0x1003, xdp)
