# SPDX-License-Identifier: MIT
"""Run the programs of docs/examples that need a device, on the lab's machine."""

import pytest

from iommufd_py import pci
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from tests.conftest import IN_LAB
from tests.mock.test_examples import Run, run

__all__ = ["run"]  # This name is a fixture.

pytestmark = [
    pytest.mark.skipif(not IN_LAB, reason="the examples take the lab's devices; run it in the lab"),
    pytest.mark.usefixtures("all_given_back"),
]


def test_map_memory_of_a_device(run: Run) -> None:
    with pci.vfio_bound(TEST_DEVICES[0]):
        assert run("map_memory.py", TEST_DEVICES[0]).splitlines()[-1] == "unmapped 2097152 bytes"


def test_huge_pages(run: Run) -> None:
    small, large = run("huge_pages.py", TEST_DEVICES[0]).splitlines()
    assert small.startswith("4k: 1024 frames, leaves {4096: ")
    assert large.endswith("leaves {2097152: 2}")


def test_container_modes(run: Run) -> None:
    lines = run("container_modes.py", TEST_DEVICES[0]).splitlines()
    assert [line.partition(":")[2].strip().partition(",")[0] for line in lines] == ["2097152 bytes at 0x100000000"] * 5


@pytest.mark.expect_kernel_log("DMAR.*fault")
def test_dma(run: Run) -> None:
    lines = run("dma.py", NVME_DEVICE).splitlines()
    assert " wrote 512 bytes: " in lines[0]
    assert "NOT stopped" not in lines[1]
    assert "stopped" in lines[1]


def test_find_devices(run: Run) -> None:
    lines = run("find_devices.py").splitlines()
    assert any(line.startswith(TEST_DEVICES[0]) and line.endswith(" free") for line in lines)
    assert len(lines) == len(pci.list_devices())
