# SPDX-License-Identifier: MIT
"""The reason for a node that is missing in /dev, or has no driver: the kernel, or this /dev."""

import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.base.device_node import no_node
from tests.namespaces import python_in_namespaces
from tests.waiting import patience


@pytest.mark.parametrize(
    ("node", "known"),
    [("/dev/iommu", True), ("/dev/vfio/vfio", True), ("/dev/vfio/vfi", False), ("/tmp/iommu", False)],
)
def test_the_kernel_has_the_device_of_the_node(tmp_path: Path, node: str, known: bool) -> None:
    for number, name in (("10:125", "iommu"), ("10:196", "vfio/vfio")):
        (tmp_path / number).mkdir()
        (tmp_path / number / "uevent").write_text(f"MAJOR=10\nDEVNAME={name}\n")
    text = no_node(Path(node), "build a kernel", tmp_path)
    if known:
        assert text.startswith(f"there is no {node}, although the kernel has the device: this /dev gets no new nodes")
        assert text.endswith(f"pass {node} in, or run: mount -t devtmpfs nodev /dev")
    else:
        assert text == f"there is no {node}: build a kernel"


_EMPTY_DEV = """
import ctypes, os
from pathlib import Path
from iommufd_py.base.device_node import no_node
assert ctypes.CDLL(None, use_errno=True).mount(b"nodev", b"/dev", b"tmpfs", 0, None) == 0, ctypes.get_errno()
print(no_node(Path("/dev/full"), "build a kernel"))
"""


def test_empty_dev_of_a_container() -> None:
    done = python_in_namespaces(_EMPTY_DEV, "--mount")
    assert done.stdout.startswith("there is no /dev/full, although the kernel has the device"), done


# The number of /dev/iommu differs between kernels. No kernel here has the miscellaneous device 10:251.
_NODES_WITHOUT_DRIVERS = """
import ctypes, os, stat, sys
from iommufd_py.cli import main
assert ctypes.CDLL(None, use_errno=True).mount(b"nodev", b"/dev", b"tmpfs", 0, None) == 0, ctypes.get_errno()
for path, number in (("/dev/null", (1, 3)), ("/dev/urandom", (1, 9)), ("/dev/iommu", (10, 251))):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*number))
for words in (["map", "--device", "mock"], ["validate"], ["bench", "run", "--device", "mock"]):
    sys.argv = ["iommufd", *words]
    print(words[0], main._run(), file=sys.stderr)
"""


def test_nodes_that_no_driver_belongs_to() -> None:
    """Containers have such nodes: made by hand, or passed in before the kernel's module was removed."""
    command = ["unshare", "--mount", sys.executable, "-c", _NODES_WITHOUT_DRIVERS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(60), check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("needs root, and the permission to make nodes")
    sentence = (
        "the number of /dev/iommu belongs to no driver of this kernel: this kernel has no iommufd (CONFIG_IOMMUFD) or "
        "its module is not loaded; try 'modprobe iommufd', or 'iommufd lab run -- ...' for a kernel that has it"
    )
    errors = [f"iommufd: error: {sentence}", "map 1", f"iommufd: skipped: {sentence}", "validate 4"]
    assert done.stderr.splitlines() == [*errors, errors[0], "bench 1"], done.stderr
