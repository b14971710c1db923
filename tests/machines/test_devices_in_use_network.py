# SPDX-License-Identifier: MIT
"""A NIC that serves virtual machines and containers has no address, but is in use."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py import pci
from iommufd_py.pci.users.namespaces import links
from iommufd_py.pci.users.netlink import rtnetlink
from tests.machines.conftest import refused, shell, texts

NET = Path("/sys/class/net")
NIC = "0000:00:13.0"


@pytest.fixture
def interface() -> Iterator[str]:
    """The NIC's interface, unused before and after each test."""
    (found,) = [one.name for one in NET.iterdir() if (one / "device").exists()]
    shell(f"ip link set {found} up")
    assert texts(NIC) == []
    yield found
    shell(f"ip link set {found} down")
    assert texts(NIC) == []


@contextlib.contextmanager
def made(name: str, make: str, *more: str) -> Iterator[None]:
    shell(f"ip link add {make}")
    try:
        for command in more:
            shell(command)
        yield
    finally:
        shell(f"ip link delete {name}")


def test_port_of_a_bridge_without_address(interface: str) -> None:
    port = f"ip link set {interface} master br0"
    with made("br0", "br0 type bridge", port, "ip link set br0 up"):
        assert NET.joinpath("br0").exists()
        refused(NIC, f"the interface {interface} is a port of br0")


def test_bridge_with_an_address(interface: str) -> None:
    address = "ip address add 192.0.2.9/24 dev br0"
    with made("br0", "br0 type bridge", f"ip link set {interface} master br0", address):
        assert texts(NIC) == [
            f"the interface br0, over {interface}, has the address 192.0.2.9",
            f"the interface {interface} is a port of br0",
        ]


def test_port_of_a_bond(interface: str) -> None:
    shell(f"ip link set {interface} down")
    with made("bond7", "bond7 type bond mode active-backup", f"ip link set {interface} master bond7"):
        refused(NIC, f"the interface {interface} is a port of bond7")


@pytest.mark.parametrize("kind", ["macvtap mode bridge", "macvlan mode bridge", "ipvlan", "vlan id 9"])
def test_built_on_it(interface: str, kind: str) -> None:
    with made("above", f"link {interface} name above type {kind}"):
        refused(NIC, f"the interface above is built on the interface {interface}")


def test_packet_socket(interface: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as capture:
        capture.bind((interface, 0x88CC))
        refused(NIC, f"a packet socket is bound to the interface {interface}")


def test_address_with_a_label(interface: str) -> None:
    """The label hides it from the interface's own name, and it has no route."""
    shell(f"ip address add 192.0.2.7/32 dev {interface} label {interface}:7")
    try:
        refused(NIC, f"the interface {interface} has the address 192.0.2.7")
    finally:
        shell(f"ip address flush dev {interface}")


def test_built_on_it_in_a_namespace_that_only_a_descriptor_holds(interface: str) -> None:
    with made("above", f"link {interface} name above type macvlan mode bridge"):
        with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as process:
            while os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                time.sleep(0.01)
            held = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
            shell(f"ip link set above netns {process.pid}")
            process.kill()
        try:
            refused(NIC, rf"above in the network namespace that .* \(process {os.getpid()}\) holds is built on")
        finally:
            shell(f"nsenter --net=/proc/{os.getpid()}/fd/{held} ip link set above netns {os.getpid()}")
            os.close(held)


def test_interface_in_a_named_namespace(interface: str) -> None:
    shell("ip netns add c1")
    shell(f"ip link set {interface} netns c1")
    try:
        refused(NIC, f"its interface {interface} is in the network namespace c1")
    finally:
        shell(f"ip -n c1 link set {interface} netns 1")
        shell("ip netns delete c1")


def test_interface_in_the_namespace_of_a_process(interface: str) -> None:
    with subprocess.Popen(["unshare", "-n", "sleep", "100"]) as other:
        try:
            while Path(f"/proc/{other.pid}/comm").read_text() != "sleep\n":
                pass
            shell(f"ip link set {interface} netns {other.pid}")
            refused(NIC, rf"its interface {interface} is in the network namespace of sleep \(process {other.pid}\)")
            shell(f"nsenter -t {other.pid} -n ip link set {interface} netns 1")
        finally:
            other.kill()


def test_built_on_it_in_another_namespace(interface: str) -> None:
    shell("ip netns add c2")
    shell(f"ip link add link {interface} name inside netns c2 type macvlan mode bridge")
    try:
        assert not list((NET / interface).glob("upper_*"))
        refused(NIC, f"the interface inside in the network namespace c2 is built on its interface {interface}")
    finally:
        shell("ip -n c2 link delete inside; ip netns delete c2")


def test_namespace_that_is_none_of_its_business(interface: str) -> None:
    shell("ip netns add c3; ip -n c3 link set lo up")
    try:
        assert texts(NIC) == []
    finally:
        shell("ip netns delete c3")


def test_links_are_those_of_sysfs() -> None:
    with rtnetlink() as asking:
        found = {(one.name, one.index) for one in links(asking)}
    assert found == {(one.name, int((one / "ifindex").read_text())) for one in NET.iterdir() if one.is_dir()}


def test_given_back(interface: str) -> None:
    with pci.vfio_bound(NIC):
        assert not (NET / interface).exists()
