# SPDX-License-Identifier: MIT
"""Users of an interface that give it no address."""

import os
import re
import socket
from pathlib import Path

import pytest

from iommufd_py.pci.users.namespaces import Link
from iommufd_py.pci.users.traffic import frame_users
from tests.unit.pci.users.sysfs_tree import write_line


def test_users_of_frames(tmp_path: Path) -> None:
    block, netconsole, pppoe = tmp_path / "block", tmp_path / "netconsole", tmp_path / "pppoe"
    write_line(block / "etherd!e1.1/netif", "eth1,eth2")
    write_line(block / "etherd!e2.1/netif", "none")
    write_line(netconsole / "far/dev_name", "eth1")
    write_line(netconsole / "far/enabled", "1")
    write_line(netconsole / "off/dev_name", "eth2")
    write_line(netconsole / "off/enabled", "0")
    write_line(tmp_path / "rdma/rxe0/parent", "eth5")
    write_line(tmp_path / "rdma/mlx5_0/node_type", "1: CA")
    write_line(pppoe, "Id       Address              Device\n00000100 52:54:00:12:34:56     eth3")
    handlers = (
        "Type Device      Function",
        "ALL  eth6     vboxNetFltLinuxPacketHandler [vboxnetflt]",
        "ALL  eth1     tpacket_rcv [af_packet]",
        "0800          ip_rcv",
        "88ca          tipc_l2_rcv_msg [tipc]",
        "8906 eth-with-a-name fcoe_rcv",
    )
    write_line(tmp_path / "ptype", "\n".join(handlers))
    links = [
        Link("eth1", 2, "", 0, None, 1, 1),
        Link("eth4", 5, "", 0, None, 1, 1, xdp=True),
        Link("can0", 6, "", 0, None, 280, 1),
        Link("can1", 7, "", 0, None, 280, 0),
    ]

    boot = (tmp_path / "cmdline", tmp_path / "consoles")
    write_line(
        boot[0], 'ro netconsole=+4444@10.0.0.1/eth7,9353@10.0.0.2/12:34:56:78:9a:bc;@/,@10.0.0.3/ "x=netconsole=@/no,"'
    )

    def users(*names: str) -> list[str]:
        return list(frame_users(names, links, block, netconsole, pppoe, tmp_path / "rdma", tmp_path / "ptype", boot))

    assert users("eth1") == [
        "the disk etherd/e1.1 is reached through the interface eth1",
        "the kernel sends its log through the interface eth1 (netconsole far)",
    ]
    assert users("eth2") == ["the disk etherd/e1.1 is reached through the interface eth2"]
    assert users("eth3") == ["a PPP over Ethernet session runs over the interface eth3"]
    assert users("eth4") == ["an XDP program is attached to the interface eth4"]
    assert users("can0") == ["the CAN interface can0 is up"]
    assert users("eth5") == ["the RDMA device rxe0 is built on the interface eth5"]
    assert users("eth0", "eth7") == []  # The console did not start.
    write_line(boot[1], "ttyS0                -W- (EC p a)    4:64\nnetcon_ext0          -W- (E     )")
    assert users("eth0", "eth7", "no") == [
        f"the kernel sends its log through the interface {name} (netconsole= on its command line)"
        for name in ("eth0", "eth7")
    ]
    assert users("eth6") == ["vboxnetflt receives the frames of the interface eth6 (vboxNetFltLinuxPacketHandler)"]
    assert users("eth-with-a-name") == ["the kernel receives the frames of the interface eth-with-a-name (fcoe_rcv)"]
    assert users("can1", "eth9", "ip_rcv") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes packet sockets")
def test_a_packet_socket_is_no_receiver_inside_the_kernel() -> None:
    """Packet sockets have a table of their own, and count there."""
    try:
        receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    except OSError:
        pytest.skip("this kernel has no packet sockets")
    with receiver:
        receiver.bind(("lo", 3))
        assert re.search("^ALL  lo +t?packet_rcv", Path("/proc/net/ptype").read_text(), re.MULTILINE)
        assert [*frame_users(["lo"], [])] == []
