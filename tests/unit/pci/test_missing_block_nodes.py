# SPDX-License-Identifier: MIT
"""Disks without a node in /dev, as in a container that sees all devices of the host in sysfs."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, os
from pathlib import Path
from iommufd_py.pci.storage import claim_on, number_of_node, storage_uses
disk = Path("/sys/devices/virtual/block/loop0")
number = (disk / "dev").read_text().strip()
assert number_of_node("/dev/loop0") == number
assert list(storage_uses(disk)) == [], list(storage_uses(disk))
assert ctypes.CDLL(None, use_errno=True).mount(b"nodev", b"/dev", b"tmpfs", 0, None) == 0, ctypes.get_errno()
assert number_of_node("/dev/loop0") == number
assert number_of_node("/dev/no-such-disk") == number_of_node("/dev/../loop0") == ""
assert claim_on("no-such-disk") == ""
print([use.text for use in storage_uses(disk)])
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop0"), reason="needs root, and the node of a loop device"
)
def test_disk_whose_claims_cannot_be_asked() -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    if done.stderr.startswith("unshare: "):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("['/dev/loop0 has no node in this /dev (a container?), so its users cannot be seen']\n")
