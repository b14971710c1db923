# SPDX-License-Identifier: MIT
"""Reading the open files of other processes sends no request to their file systems."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.pci import openers
from tests.waiting import patience

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
from iommufd_py.pci import openers, storage
local = openers.parse_local_file_systems(Path("/proc/filesystems").read_text())
mounts = frozenset(mount.id for mount in storage.mounts_everywhere() if mount.type in local)
null = openers.NodeId(False, os.stat("/dev/null").st_rdev)
print(null in openers._open_nodes(Path("/proc", sys.argv[1]), mounts))
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
                [sys.executable, "-c", LOOK, str(server.pid)],
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
        assert openers.open_bars(Path("/proc/self"), tmp_path) == {"resource0", "resource2_wc"}
        assert openers.open_bars(Path("/proc/self"), tmp_path.parent) == set()
    assert openers.open_bars(Path("/proc/self"), tmp_path) == set()
