# SPDX-License-Identifier: MIT
"""The reason for a node that is missing in /dev: the kernel, or this /dev."""

from pathlib import Path

import pytest

from iommufd_py.base.device_node import no_node
from tests.namespaces import python_in_namespaces


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
