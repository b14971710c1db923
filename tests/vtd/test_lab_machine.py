# SPDX-License-Identifier: MIT
"""Conditions of the tests behind the emulated VT-d: the machine loses no access of its CPUs, and is fast enough."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iommufd_py.base.pci_address import PCI_DEVICES
from iommufd_py.lab.machine import TEST_DEVICES
from tests.conftest import IN_LAB

# Switch a PCI function's memory off and on (bit 1 of its command register), which changes the machine's memory map.
TOGGLE = """
import os, sys
os.sched_setaffinity(0, {0})
config = os.open(sys.argv[1], os.O_WRONLY)
for _ in range(15000):
    for command in (b"\\0\\0", b"\\2\\0"):
        os.pwrite(config, command, 4)
"""
IDENTIFICATION, LIVENESS = 0, 1
EDU_1_0 = 0x010000ED


pytestmark = pytest.mark.skipif(
    not IN_LAB, reason="is about the lab's machine; 'iommufd lab run -- pytest tests/vtd' does that"
)


@pytest.mark.usefixtures("all_given_back")
def test_registers_answer_while_another_device_comes_and_goes() -> None:
    """Source: docs/specs/edu.rst of QEMU: one register never changes, another inverts the written value."""
    toggled, other = (PCI_DEVICES / address for address in TEST_DEVICES)
    (other / "enable").write_text("1")
    affinity = os.sched_getaffinity(0)
    wrong = reads = 0
    try:
        os.sched_setaffinity(0, {1})
        with (
            (other / "resource0").open("r+b", buffering=0) as resource,
            mmap.mmap(resource.fileno(), mmap.PAGESIZE) as memory,
            memoryview(memory) as raw,
            raw.cast("I") as registers,
            subprocess.Popen([sys.executable, "-c", TOGGLE, str(toggled / "config")]) as toggling,
        ):
            while toggling.poll() is None:
                for value in range(1000):
                    registers[LIVENESS] = value
                    wrong += registers[LIVENESS] != value ^ 0xFFFFFFFF
                    wrong += registers[IDENTIFICATION] != EDU_1_0
                reads += 2000
        assert toggling.returncode == 0
    finally:
        os.sched_setaffinity(0, affinity)
        (other / "enable").write_text("0")
    assert reads > 100_000
    assert wrong == 0


@pytest.mark.skipif(os.environ.get("IOMMUFD_LAB_ACCEL") != "tcg", reason="a CPU of KVM has fast string operations")
def test_an_emulated_cpu_has_no_fast_string_operations() -> None:
    """With them the kernel clears and copies memory byte by byte."""
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    assert "erms" not in flags.split()
