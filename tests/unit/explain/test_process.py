# SPDX-License-Identifier: MIT
"""The facts of a process from /proc: its state, its descriptors and its limit of locked memory."""

import os
import subprocess

import pytest

from iommufd_py import ToolError
from iommufd_py.explain import process
from iommufd_py.explain.memory import MemoryArea
from iommufd_py.explain.process import DescriptorKind, classify, parse_memlock, process_state
from tests.threads import process_without_first_thread


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/dev/iommu", (DescriptorKind.IOMMUFD, "")),
        ("/dev/vfio/vfio", (DescriptorKind.CONTAINER, "")),
        ("/dev/vfio/17", (DescriptorKind.GROUP, "17")),
        ("/dev/vfio/noiommu-3", (DescriptorKind.GROUP, "3")),
        ("/dev/vfio/devices/vfio12", (DescriptorKind.CDEV, "vfio12")),
        ("/dev/vfio/devices/noiommu-vfio0", (DescriptorKind.CDEV, "noiommu-vfio0")),
        ("anon_inode:[vfio-device]", (DescriptorKind.DEVICE, "")),
        # As another mount namespace shows it.
        ("/run/container/dev/iommu", (DescriptorKind.IOMMUFD, "")),
        ("/dev/iommu-of-mine", None),
        ("/dev/vfio/devices", None),
        ("pipe:[123]", None),
    ],
)
def test_descriptors(path: str, found: tuple[DescriptorKind, str] | None) -> None:
    assert classify(path) == found


def test_the_limit_of_locked_memory() -> None:
    limits = "Limit        Soft Limit   Hard Limit   Units\nMax locked memory         8388608    8388608    bytes\n"
    assert parse_memlock(limits) == 8 << 20
    assert parse_memlock("Max locked memory         unlimited            unlimited            bytes\n") is None


def test_a_process_that_is_not_there() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    with pytest.raises(ToolError, match=f"there is no process {child.pid}: "):
        process_state(child.pid)


def test_a_process_that_only_waits_for_its_parent() -> None:
    with subprocess.Popen(["true"]) as child:
        # Waits for the end, and leaves the zombie.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ToolError, match=f"process {child.pid} .* has ended, and its parent has not waited"):
            process_state(child.pid)


def test_a_process_whose_first_thread_has_ended() -> None:
    with (
        process_without_first_thread() as pid,
        pytest.raises(ToolError, match=f"the first thread of process {pid} .* has ended, so the kernel does not show"),
    ):
        process_state(pid)


def test_a_process_that_ends_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "600"]) as child:

        def end(_: int) -> list[MemoryArea]:
            child.kill()
            child.wait()
            return []

        monkeypatch.setattr(process, "read_areas", end)
        with pytest.raises(ToolError, match=rf"process {child.pid} .* has ended$"):
            process_state(child.pid)


def test_a_process_without_an_iommu() -> None:
    with pytest.raises(ToolError, match="has neither /dev/iommu nor a VFIO container open: give the PID"):
        process_state(os.getpid())
