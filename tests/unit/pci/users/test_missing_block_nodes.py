# SPDX-License-Identifier: MIT
"""Disks without a node in /dev, as in a container that sees all devices of the host in sysfs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.pci.users.storage import storage_uses

_PROGRAM = """
import ctypes, sys
from pathlib import Path
from iommufd_py.pci.users.storage import claim_on, number_of_node, storage_uses
disk = Path(sys.argv[1])
node, number = f"/dev/{disk.name}", (disk / "dev").read_text().strip()
assert number_of_node(node) == number
assert ctypes.CDLL(None, use_errno=True).mount(b"nodev", b"/dev", b"tmpfs", 0, None) == 0, ctypes.get_errno()
assert number_of_node(node) == number
assert number_of_node("/dev/no-such-disk") == number_of_node(f"/dev/../{disk.name}") == ""
assert claim_on("no-such-disk") == ""
print([use.text for use in storage_uses(disk)])
"""


def unused_loop_device() -> Path:
    for disk in sorted(Path("/sys/devices/virtual/block").glob("loop*")):
        if os.path.exists(f"/dev/{disk.name}") and not [*storage_uses(disk)]:
            return disk
    pytest.skip("this machine has no unused loop device with a node")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts another /dev")
def test_disk_whose_claims_cannot_be_asked() -> None:
    disk = unused_loop_device()
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", _PROGRAM, str(disk)], capture_output=True, text=True, check=False
    )
    if done.stderr.startswith("unshare: "):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    reason = f"/dev/{disk.name} has no node in this /dev (a container?), so its users cannot be seen"
    assert done.stdout == f"{[reason]}\n"
