# SPDX-License-Identifier: MIT
"""Reading the open files of other processes sends no request to their file systems."""

import contextlib
import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.pci.users import namespaces, network_state, openers, storage
from iommufd_py.pci.users.mounts import mounts_everywhere
from iommufd_py.pci.users.openers import nvidia_minor, parse_local_file_systems, vfio_groups
from iommufd_py.pci.users.processes import MappedFile, OpenedFile, mapped_files, opened_files, process_title, processes
from tests.open_files import TOO_MANY, no_descriptor_left
from tests.threads import process_without_first_thread
from tests.unit.pci.users.sysfs_tree import link, write_line
from tests.waiting import patience

SELF = Path("/proc/self")
BLOCK_DEVICE = Path("/dev/loop0")
needs_block_device = pytest.mark.skipif(
    not os.access(BLOCK_DEVICE, os.R_OK), reason=f"needs {BLOCK_DEVICE} and the permission to open it"
)


def node_of(path: Path) -> openers.NodeId:
    return openers.NodeId(block=True, number=path.stat().st_rdev)


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Map a file without a descriptor. Python's own mmap keeps one."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with path.open("rb") as file:
        address = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    assert address != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        libc.munmap(address, mmap.PAGESIZE)


# A FUSE file system whose server reads no request: every request to it waits without end.
DEAD = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"dead", sys.argv[1].encode(), b"fuse.dead", 0, options):
    print(os.strerror(ctypes.get_errno()), flush=True)
    sys.exit(1)
null, held = os.open("/dev/null", os.O_RDONLY), os.open(sys.argv[1], os.O_PATH)
print("mounted", flush=True)
sys.stdin.read()
"""
LOOK = """
import os, sys
from pathlib import Path
from iommufd_py.pci.users import openers
from iommufd_py.pci.users.processes import opened_files
null = openers.NodeId(False, os.stat("/dev/null").st_rdev)
# The file of the dead file system has the name of a node.
titles = ["/dev/null", sys.argv[2]]
print(null in openers.open_nodes(opened_files(Path("/proc", sys.argv[1])), openers.local_mounts(), titles))
"""


def test_file_system_that_does_not_answer_is_not_asked(tmp_path: Path) -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    place = tmp_path / "dead"
    place.mkdir()
    with subprocess.Popen(
        ["unshare", "--mount", sys.executable, "-c", DEAD, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        if line != "mounted\n":
            server.kill()
            pytest.skip(f"a FUSE file system cannot be mounted here: {line.strip()}")
        try:
            looked = subprocess.run(
                [sys.executable, "-c", LOOK, str(server.pid), f"/dev{place}"],
                capture_output=True,
                text=True,
                timeout=patience(60),
                check=False,
            )
        finally:
            server.kill()
    assert looked.stderr == ""
    assert looked.stdout == "True\n"


def test_files_of_bars(tmp_path: Path) -> None:
    """A program that maps a BAR keeps its file open; 'lspci' and this tool read the file `resource` and `config`."""
    with contextlib.ExitStack() as stack:
        for name in ("resource", "resource0", "resource2_wc", "config"):
            stack.enter_context((tmp_path / name).open("w"))
        assert openers.open_bars(opened_files(SELF), tmp_path) == {"its resource0", "its resource2_wc"}
        assert openers.open_bars(opened_files(SELF), tmp_path.parent) == set()
    assert openers.open_bars(opened_files(SELF), tmp_path) == set()


def test_memory_for_dma_between_devices_that_is_mapped(tmp_path: Path) -> None:
    """p2pmem_alloc_mmap() in drivers/pci/p2pdma.c; the driver's end takes this memory from the program."""
    (tmp_path / "0000:00:10.0/p2pmem").mkdir(parents=True)
    place = tmp_path / "0000:00:10.0/p2pmem/allocate"
    place.write_bytes(bytes(mmap.PAGESIZE))
    with mapped(place):
        assert openers.mapped_bars(mapped_files(SELF), tmp_path / "0000:00:10.0") == {"its p2pmem/allocate"}
    assert openers.mapped_bars(mapped_files(SELF), tmp_path / "0000:00:10.0") == set()


def test_bar_that_is_mapped_and_has_no_descriptor(tmp_path: Path) -> None:
    """libpciaccess, which X.org uses, and DPDK close the file of a BAR after the map."""
    device = tmp_path / "0000:00:10.0"
    device.mkdir()
    bar = device / "resource0"
    bar.write_bytes(bytes(mmap.PAGESIZE))
    with mapped(bar):
        assert openers.open_bars(opened_files(SELF), device) == set()
        assert openers.mapped_bars(mapped_files(SELF), device) == {"its resource0"}
    assert openers.mapped_bars(mapped_files(SELF), device) == set()


@pytest.mark.parametrize(
    ("bdf", "path"),
    [("0000:00:10.0", "/proc/bus/pci/00/10.0"), ("0001:3b:00.1", "/proc/bus/pci/0001:3b/00.1")],
)
def test_bar_that_is_mapped_through_procfs(bdf: str, path: str) -> None:
    """proc_bus_pci_mmap() in drivers/pci/proc.c maps the BARs by this file, which was the way before sysfs."""
    maps = (MappedFile(path, "0:21", "4026532000", Path("/proc/1/map_files/0-1000")),)
    assert openers.mapped_bars(maps, Path("/sys/devices/pci0000:00", bdf)) == {f"its {path}"}
    assert openers.mapped_bars(maps, Path("/sys/devices/pci0000:00/0000:00:11.0")) == set()


@pytest.mark.parametrize(
    ("start", "length", "found"),
    [
        (0xFEBD0000, 0x1000, {"its resource0, through /dev/mem,"}),
        (0xFEBCF000, 0x1000, set()),
        (0xFEBCF000, 0x2000, {"its resource0, through /dev/mem,"}),
        (0xFEBDF000, 0x1000, {"its resource0, through /dev/mem,"}),
        (0xFEBE0000, 0x1000, set()),
        (0x6000, 0x1000, set()),  # a BAR of I/O ports has this number there, and no address of memory
        (0xF0000, 0x1000, set()),  # the BIOS, which dmidecode reads
        (0xFEBD0000, 1 << 31, {"its resource0, through /dev/mem,", "its resource2, through /dev/mem,"}),
    ],
)
def test_bar_that_is_mapped_through_the_physical_memory(
    tmp_path: Path, start: int, length: int, found: set[str]
) -> None:
    """A program can map the physical addresses of a BAR. The lines are those of resource_show() in pci-sysfs.c."""
    lines = [
        "0xfebd0000 0xfebdffff 0x40200",
        "0x6000 0x60ff 0x40101",
        "0x100000000 0x1ffffffff 0x14220c",
        "0x0 0x0 0x0",
    ]
    device = tmp_path / "0000:00:10.0"
    device.mkdir()
    (device / "resource").write_text("".join(f"{line}\n" for line in [*lines, *["0x0 0x0 0x0"] * 2, lines[0]]))
    maps = (MappedFile("/dev/mem", "0:6", "4", Path("/proc/1/map_files/0-1000"), start, length),)
    assert openers.mapped_bars(maps, device) == found


def test_each_mapped_part_of_the_physical_memory_is_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory = tmp_path / "mem"
    memory.write_bytes(bytes(3 * mmap.PAGESIZE))
    monkeypatch.setattr("iommufd_py.pci.users.processes.PHYSICAL_MEMORY", str(memory))
    page = mmap.PAGESIZE
    with memory.open("r+b") as file, mmap.mmap(file.fileno(), 2 * page, offset=page), mapped(memory):
        parts = {(one.start, one.length) for one in mapped_files(SELF) if one.path == str(memory)}
    assert parts == {(0, page), (page, 2 * page)}


@needs_block_device
def test_node_that_is_mapped_and_has_no_descriptor() -> None:
    mounts = openers.local_mounts()
    with mapped(BLOCK_DEVICE):
        files = list(mapped_files(SELF))
        assert node_of(BLOCK_DEVICE) in openers.mapped_nodes(files, mounts, {})
        assert node_of(BLOCK_DEVICE) in openers.mapped_nodes(files, mounts, {})
    assert node_of(BLOCK_DEVICE) not in openers.mapped_nodes(mapped_files(SELF), mounts, {})


def test_node_that_io_uring_keeps_open() -> None:
    """A program can give a file to io_uring (IORING_REGISTER_FILES), and close its descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    setup, register, register_files = 425, 427, 2
    ring = libc.syscall(setup, 4, ctypes.create_string_buffer(120))
    if ring < 0:
        pytest.skip(f"io_uring is not allowed here: {os.strerror(ctypes.get_errno())}")
    titles = ["/dev/null", "/dev/full, over /dev/null,", "/dev/zero"]
    try:
        for name in ("/dev/null", "/dev/full"):
            assert openers.nodes_in_rings(opened_files(SELF), titles) == set()
            with open(name) as file:
                assert libc.syscall(register, ring, register_files, (ctypes.c_int * 1)(file.fileno()), 1) == 0
            assert openers.nodes_in_rings(opened_files(SELF), titles) == {one for one in titles if one.startswith(name)}
            assert libc.syscall(register, ring, register_files + 1, None, 0) == 0
    finally:
        os.close(ring)


def test_io_uring_of_an_old_kernel_shows_the_last_part_of_a_path(tmp_path: Path) -> None:
    """io_uring/fdinfo.c of 6.12 prints the name of the file in its directory."""
    (tmp_path / "fd").mkdir()
    (tmp_path / "fd/3").symlink_to("anon_inode:[io_uring]")
    (tmp_path / "fdinfo").mkdir()
    (tmp_path / "fdinfo/3").write_text("SqMask:\t0x0\nUserFiles:\t2\n    0: sda\n    1: noiommu-4\nUserBufs:\t0\n")
    nodes = ["/dev/sda, disk 0", "/dev/sdb", "/dev/vfio/noiommu-4"]
    assert openers.nodes_in_rings(opened_files(tmp_path), nodes) == {"/dev/sda, disk 0", "/dev/vfio/noiommu-4"}


@needs_block_device
def test_node_of_a_mount_that_is_in_no_namespace_any_more() -> None:
    """A manager opens the node in a mount namespace of its own, and ends; its descriptor is in another namespace."""
    script = f"exec 9<{BLOCK_DEVICE}; exec nsenter --mount=/proc/{os.getpid()}/ns/mnt sh -c 'echo; exec sleep 600'"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != b"\n":
                pytest.skip("this machine permits no mount namespaces")
            held, mounts = list(opened_files(Path("/proc", str(process.pid)))), openers.local_mounts()
            (inherited,) = [one for one in held if one.link.name == "9"]
            assert openers._mount_id(inherited) not in mounts.ids | mounts.remote
            assert node_of(BLOCK_DEVICE) in openers.open_nodes(held, mounts, [str(BLOCK_DEVICE)])
            assert node_of(BLOCK_DEVICE) not in openers.open_nodes(held, mounts, ["/dev/another"])
        finally:
            process.kill()


def test_process_whose_first_thread_has_ended(tmp_path: Path) -> None:
    """The directory of that thread in /proc shows no files, and the other threads still use them."""
    file = tmp_path / "file"
    file.touch()
    with process_without_first_thread(file) as pid:
        (found,) = [one for one in processes() if f"(process {pid})" in process_title(one)]
        assert str(file) in [one.path for one in opened_files(found)]
        links = {one.path: os.readlink(one.link) for one in mapped_files(found)}
        assert links and all(path == link for path, link in links.items())


@pytest.mark.parametrize(
    "call",
    [
        processes,
        lambda: list(opened_files(Path("/proc/self"))),
        lambda: openers._mount_id(OpenedFile("/", Path("/proc/self/fd/0"))),
        mounts_everywhere,
        lambda: storage.claim_on("null"),
        lambda: storage._backing_number("null"),
        lambda: list(namespaces.foreign_links()),
        lambda: namespaces.socket_in(Path("/proc/self/ns/net")),
        network_state.bound_interfaces,
    ],
    ids=("processes", "links", "mount", "mounts", "claim", "backing", "interfaces", "namespace", "sockets"),
)
def test_a_use_that_cannot_be_seen_for_lack_of_a_descriptor_is_no_missing_use(call: Callable[[], object]) -> None:
    """The tool would take the device from its user."""
    with no_descriptor_left(), pytest.raises(ToolError, match=f" cannot be opened: {TOO_MANY}"):
        call()


_HIDDEN = """
import ctypes, os
from pathlib import Path
from iommufd_py.pci.users.processes import mapped_files, opened_files, processes
assert ctypes.CDLL(None, use_errno=True).mount(b"proc", b"/proc", b"proc", 0, b"hidepid=1") == 0, ctypes.get_errno()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for process in (Path("/proc/1"), *processes()):
    assert list(opened_files(process)) == list(mapped_files(process)) == [] or process.name == str(os.getpid())
print(len(processes()))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
def test_processes_that_are_hidden() -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", _HIDDEN], capture_output=True, text=True, check=False
    )
    if done.stderr.startswith("unshare: ") or "AssertionError: 1" in done.stderr:
        pytest.skip(f"this machine permits no mount of procfs: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1


_WITHOUT_PTRACE = """
import sys
from pathlib import Path
from iommufd_py.pci.users.openers import hidden_users
from iommufd_py.pci.users.processes import opened_files
print(len(list(opened_files(Path("/proc", sys.argv[1])))), [use.text for use in hidden_users()])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop a capability from the bounding set")
def test_root_that_does_not_see_the_files_of_others_takes_no_device() -> None:
    """A service with a bounding set, or a container: the files of a process with more capabilities look like none."""
    command = ["setpriv", "--bounding-set=-sys_ptrace", sys.executable, "-c", _WITHOUT_PTRACE, str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, _, hidden = done.stdout.partition(" ")
    if not openers.hidden_users():
        assert (count, len(list(opened_files(SELF))) > 0) == ("0", True)
    assert hidden.startswith("['its users cannot be seen: root has no CAP_SYS_PTRACE here")


def test_local_file_systems() -> None:
    found = parse_local_file_systems("nodev\tsysfs\nnodev\tnfs4\n\text4\nnodev\tfuse\n\tfuseblk\nnodev\t9p\n")
    assert {"ext4", "devtmpfs", "tmpfs"} <= found
    assert not {"nfs4", "fuse", "fuseblk", "9p"} & found


def test_group_of_a_device_without_an_iommu(tmp_path: Path, device: Path) -> None:
    """Its node is /dev/vfio/noiommu-7: vfio_group_alloc() in drivers/vfio/group.c."""
    assert vfio_groups(device) == []
    link(device / "iommu_group", tmp_path / "kernel/iommu_groups/7")
    assert [one.name for one in vfio_groups(device)] == ["7", "noiommu-7"]


def test_node_of_a_driver_without_entries_in_sysfs(tmp_path: Path) -> None:
    write_line(
        tmp_path / "0000:65:00.0/information",
        "Model: \t\t NVIDIA A2\nIRQ:   \t\t 65\nDevice Minor: \t 3\nGPU Excluded:\t No",
    )
    assert nvidia_minor("0000:65:00.0", tmp_path) == 3
    assert nvidia_minor("0000:66:00.0", tmp_path) is None
