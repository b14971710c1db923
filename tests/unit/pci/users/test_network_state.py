# SPDX-License-Identifier: MIT
"""Addresses, routes, filters and sockets of interfaces, as the running kernel tells them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iommufd_py.pci.users import network
from iommufd_py.pci.users.namespaces import foreign_links, links, socket_in
from iommufd_py.pci.users.network_state import (
    filtered_interfaces,
    interface_addresses,
    mirrored_interfaces,
    routed_interfaces,
)
from tests.waiting import patience


def run(command: str) -> None:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=patience(30), check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def may_make_namespaces() -> bool:
    make = ["unshare", "--net", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"]
    return os.geteuid() == 0 and subprocess.run(make, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not may_make_namespaces(), reason="needs root, and a kernel with veth")


class Namespace:
    """A network namespace with the interfaces one and two, which are each other's peers."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        asking = socket_in(Path(f"/proc/{pid}/ns/net"))
        assert asking is not None
        self.socket = asking
        self.run("ip link add one type veth peer name two; ip link set one up; ip link set two up")
        numbers = {link.name: link.index for link in links(self.socket)}
        self.one, self.two = numbers["one"], numbers["two"]

    def run(self, command: str) -> None:
        run(f"nsenter --net=/proc/{self.pid}/ns/net sh -ec '{command}'")


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            found = Namespace(process.pid)
            with found.socket:
                yield found
        finally:
            process.kill()


def test_addresses(namespace: Namespace) -> None:
    """A label hides an address from SIOCGIFADDR. An address that an interface gives itself does not count."""
    namespace.run("ip address add 192.0.2.1/32 dev one label one:1; ip address add 192.0.2.2 peer 192.0.2.3 dev two")
    namespace.run("ip -6 address add 2001:db8::1/128 dev two")
    found = interface_addresses(namespace.socket)
    assert found.pop(1, ["127.0.0.1", "::1"])  # lo
    assert found == {namespace.one: ["192.0.2.1"], namespace.two: ["192.0.2.2", "2001:db8::1"]}


@pytest.mark.parametrize(
    "route",
    [
        "198.51.100.0/24 dev one",
        "198.51.100.0/24 dev one table 100",
        "198.51.100.0/24 nexthop dev lo nexthop dev one",
        "2001:db8:1::/48 via fe80::9 dev one",
        "2001:db8:1::/48 via fe80::9 dev one table 100",
        "198.51.100.0/24 via inet6 fe80::9 dev one",
        "2001:db8:1::/48 dev one",
    ],
)
def test_routes(namespace: Namespace, route: str) -> None:
    namespace.run("ip link set lo up")
    assert {namespace.one, namespace.two}.isdisjoint(routed_interfaces(namespace.socket))
    namespace.run(f"ip route add {route}")
    found = routed_interfaces(namespace.socket)
    assert namespace.one in found
    assert namespace.two not in found


def test_route_by_the_number_of_a_next_hop(namespace: Namespace) -> None:
    """FRR makes such routes; with this setting the kernel does not repeat the interface in the route."""
    namespace.run("sysctl -q -w net.ipv4.nexthop_compat_mode=0; ip nexthop add id 7 dev one")
    namespace.run("ip link set lo up; ip route add 198.51.100.0/24 nhid 7; ip nexthop add id 8 blackhole")
    assert routed_interfaces(namespace.socket) == {namespace.one}


def test_target_of_a_mirror(namespace: Namespace) -> None:
    """Kata Containers connects virtual machines in this way. The interface itself has no filter."""
    assert mirrored_interfaces(namespace.socket) == frozenset()
    namespace.run("tc qdisc add dev two ingress")
    redirect = "protocol all u32 match u32 0 0 action mirred egress redirect dev one"
    namespace.run(f"tc filter add dev two parent ffff: {redirect}")
    assert mirrored_interfaces(namespace.socket) == {namespace.one}
    assert filtered_interfaces(namespace.socket) == {namespace.two: "ingress"}


_CHAIN = """
import socket, struct
from iommufd_py.pci.users.netlink import attribute, netlink, parse_messages
from iommufd_py.pci.users.network_state import hooked_interfaces

NETDEV = 5
def message(kind, flags, family, subsystem, body, number):
    payload = struct.pack(">BBH", family, 0, subsystem) + body
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, number, 0) + payload
def padded(kind, value):
    one = attribute(kind, value)
    return one + bytes(-len(one) % 4)
def text(kind, value):
    return padded(kind, value + b"\\0")
hook = padded(1, struct.pack(">I", 0)) + padded(2, struct.pack(">i", 0)) + text(3, b"one")
with netlink(12) as asking:
    asking.send(b"".join((
        message(16, 1, 0, 10, b"", 1),
        message(10 << 8 | 0, 0x405, NETDEV, 0, text(1, b"t"), 2),
        message(10 << 8 | 3, 0x405, NETDEV, 0, text(1, b"t") + text(3, b"c") + padded(4, hook) + text(7, b"filter"), 3),
        message(17, 1, 0, 10, b"", 4),
    )))
    asking.settimeout(5)
    failures = []
    for _ in range(2):
        answers = parse_messages(asking.recv(1 << 16))
        failures += [struct.unpack_from("=i", body)[0] for kind, body in answers if kind == 2]
    if any(failures):
        print("refused", failures)
        raise SystemExit
assert hooked_interfaces() == ("one",), hooked_interfaces()
"""


def test_chains_of_nftables(namespace: Namespace) -> None:
    enter = ["nsenter", f"--net=/proc/{namespace.pid}/ns/net", sys.executable, "-c"]
    nothing = "from iommufd_py.pci.users.network_state import hooked_interfaces; assert hooked_interfaces() == ()"
    for program in (nothing, _CHAIN):
        done = subprocess.run([*enter, program], capture_output=True, text=True, check=False, timeout=patience(60))
        assert done.returncode == 0, done.stderr
    if done.stdout:
        pytest.skip(f"this kernel has no chains of nftables for interfaces: {done.stdout}")


@pytest.mark.parametrize(
    ("hook", "interface", "hooked"),
    [("eth0", "eth0", True), ("eth0", "eth01", False), ("eth*", "eth01", True), ("eth*", "lan0", False)],
)
def test_name_in_a_chain_of_nftables(hook: str, interface: str, hooked: bool) -> None:
    assert network.is_hooked(interface, hook) is hooked


def test_names_that_change_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """udev gives the interface another name just after a driver made it; the first name then finds nothing."""
    seen = iter([{"eth0": ["eth0"]}, {"lan0": ["lan0"]}, {"lan0": ["lan0", "br0"]}, {"lan0": ["lan0", "br0"]}])
    monkeypatch.setattr(network, "_uppers_of", lambda _: next(seen))
    monkeypatch.setattr(network, "_uses_of", lambda uppers: (f"{base}: {names}" for base, names in uppers.items()))
    assert network._own_uses(Path()) == ["lan0: ['lan0', 'br0']"]


def test_a_namespace_that_cannot_be_read_is_not_free_of_interfaces() -> None:
    program = """
import threading
from pathlib import Path
from iommufd_py.pci.users.namespaces import socket_in
threading.stack_size(1 << 46)
socket_in(Path("/proc/self/ns/net"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "DeviceError: the network interfaces of other namespaces, which can use the device, cannot" in done.stderr


def test_filters(namespace: Namespace) -> None:
    namespace.run("tc qdisc add dev one clsact; tc qdisc add dev two ingress; tc qdisc add dev lo root pfifo")
    assert filtered_interfaces(namespace.socket) == {namespace.one: "clsact", namespace.two: "ingress"}


_PROGRAM = """
import ctypes, os, socket, struct
from iommufd_py.pci.users.network_state import filtered_by_program, _BPF_CALL
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return libc.syscall(_BPF_CALL[os.uname().machine], command, buffer, len(attributes))
# r0 = 0; exit
steps = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
name = ctypes.create_string_buffer(b"GPL")
load = struct.pack("=IIQQ", 3, 2, ctypes.addressof(steps), ctypes.addressof(name)).ljust(128, b"\\0")
program = bpf(5, load)
one, two = socket.if_nametoindex("one"), socket.if_nametoindex("two")
assert filtered_by_program({one, two, 12345}) == frozenset()
for point in (46, 47):  # ingress, egress
    link = bpf(28, struct.pack("=IIII", program, one, point, 0).ljust(64, b"\\0"))
    if link < 0:
        print("no tcx")
        break
    assert filtered_by_program({one, two, 12345}) == {one}, point
    os.close(link)
assert filtered_by_program({one, two}) == frozenset()
"""


def test_programs_without_a_discipline(namespace: Namespace) -> None:
    """Cilium and others attach BPF programs in this way since Linux 6.6. 'tc qdisc' shows nothing of them."""
    enter = ["nsenter", f"--net=/proc/{namespace.pid}/ns/net", sys.executable, "-c", _PROGRAM]
    done = subprocess.run(enter, capture_output=True, text=True, check=False, timeout=patience(60))
    assert done.returncode == 0, done.stderr
    if done.stdout:
        pytest.skip("this kernel, or this machine, allows no BPF program at an interface")


_BOUND = """
import contextlib, socket
from iommufd_py.pci.users.network_state import bound_interfaces
KINDS = [
    (socket.SOCK_STREAM, 0),
    (socket.SOCK_DGRAM, 0),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE),
    (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    (socket.SOCK_STREAM, socket.IPPROTO_MPTCP),
]
assert bound_interfaces() == frozenset(), bound_interfaces()
one = socket.if_nametoindex("one")
seen = set()
for family in (socket.AF_INET, socket.AF_INET6):
    for kind, protocol in KINDS:
        with contextlib.ExitStack() as stack:
            try:
                bound = stack.enter_context(socket.socket(family, kind, protocol))
            except OSError:  # This kernel has no such sockets.
                continue
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"one")
            bound.bind(("", 7777))
            if kind == socket.SOCK_STREAM:
                bound.listen()
            assert bound_interfaces() == {one}, (family, kind, protocol)
            seen.add((family, kind, protocol))
assert len(seen) >= 4, seen
assert bound_interfaces() == frozenset()
"""


def test_bound_sockets(namespace: Namespace) -> None:
    enter = ["nsenter", f"--net=/proc/{namespace.pid}/ns/net", sys.executable, "-c", _BOUND]
    done = subprocess.run(enter, capture_output=True, text=True, check=False, timeout=patience(60))
    assert done.returncode == 0, done.stderr


_SENDING = """
import ctypes, mmap, os, socket, struct, sys
from iommufd_py.pci.users.netlink import dump, netlink
from iommufd_py.pci.users.network_state import bound_interfaces
AF_XDP, SOL_XDP, TX_RING, UMEM_REG, FILL_RING, COMPLETION_RING, COPY = 44, 283, 3, 4, 5, 6, 2
try:
    sending = socket.socket(AF_XDP, socket.SOCK_RAW)
except OSError as failure:
    sys.exit(f"no sockets of AF_XDP: {failure}")
memory = mmap.mmap(-1, 16 << 12)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
sending.setsockopt(SOL_XDP, UMEM_REG, struct.pack("=QQIIII", address, 16 << 12, 1 << 12, 0, 0, 0))
for ring in (FILL_RING, COMPLETION_RING, TX_RING):
    sending.setsockopt(SOL_XDP, ring, struct.pack("=I", 16))
assert bound_interfaces() == frozenset()
one, libc = socket.if_nametoindex("one"), ctypes.CDLL(None, use_errno=True)
place = struct.pack("=HHIII", AF_XDP, COPY, one, 0, 0)
assert libc.bind(sending.fileno(), place, len(place)) == 0, os.strerror(ctypes.get_errno())
with netlink(4) as asking:
    if not list(dump(asking, 20, struct.pack("=BBHIIII", AF_XDP, 0, 0, 0, 1, 0, 0), 20)):
        sys.exit("no CONFIG_XDP_SOCKETS_DIAG")
assert bound_interfaces() == {one}, bound_interfaces()
"""


def test_a_socket_of_af_xdp_that_only_sends(namespace: Namespace) -> None:
    """It needs no XDP program. Source: xsk_bind() in net/xdp/xsk.c, net/xdp/xsk_diag.c."""
    enter = ["nsenter", f"--net=/proc/{namespace.pid}/ns/net", sys.executable, "-c", _SENDING]
    done = subprocess.run(enter, capture_output=True, text=True, check=False, timeout=patience(60))
    if done.stderr.startswith("no "):
        pytest.skip(f"this kernel has {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("holder", ["a descriptor", "a mount"])
def test_a_namespace_without_a_process(namespace: Namespace, tmp_path: Path, holder: str) -> None:
    """Its interfaces exist as long as something holds the namespace."""
    source = f"/proc/{namespace.pid}/ns/net"
    # An interface with a name of its own is found in no other namespace.
    namespace.run("ip link set one down; ip link set one name held9")
    target = tmp_path / "namespace"
    target.touch()
    descriptor = os.open(source, os.O_RDONLY)
    try:
        if holder == "a mount":
            run(f"mount --bind {source} {target}")
        os.kill(namespace.pid, 9)
        os.waitid(os.P_PID, namespace.pid, os.WEXITED | os.WNOWAIT)
        namespace.socket.close()
        if holder == "a mount":
            os.close(descriptor)
            descriptor = -1
        (place,) = [one.place for one in foreign_links() if one.link.name == "held9"]
        wanted = str(target) if holder == "a mount" else f"(process {os.getpid()}) holds"
        assert place.endswith(wanted)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        if holder == "a mount":
            run(f"umount {target}")
