# SPDX-License-Identifier: MIT
"""A machine with an Intel Ethernet controller, which transmits memory to itself: QEMU's e1000e or igb.

tests/vtd has the tests for all engines (test_dma, test_vfio_pci_driver); the job runs them with this controller.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from iommufd_py import pci
from iommufd_py.dma import engine_for
from iommufd_py.dma.ethernet import EthernetEngine
from iommufd_py.dma.harness import Harness
from iommufd_py.lab.machine import PEER_DEVICE
from tests.vtd.dma import await_fault_log, ioas_harness

Cli = Callable[..., subprocess.CompletedProcess[str]]
NIC = os.environ.get("IOMMUFD_BDF", "")
PAGE, BUFFER = 4096, 1024
# Lengths around a header, the shortest frame, a receive buffer, a page and the longest transfer.
LENGTHS = (1, 2, 13, 14, 15, 59, 60, 61, BUFFER - 1, BUFFER, BUFFER + 1)
LENGTHS += (PAGE - 1, PAGE, PAGE + 1, 6 * BUFFER + 1, 7 * BUFFER - 1, 7 * BUFFER)


@pytest.fixture
def harness() -> Iterator[Harness]:
    with pci.vfio_bound(NIC), ioas_harness(NIC) as one:
        yield one


def test_the_engine_is_the_one_for_the_device() -> None:
    wanted = {"8086:10d3": "E1000eEngine", "8086:10c9": "IgbEngine"}
    assert engine_for(NIC).__name__ == wanted[pci.pci_device(NIC).ids]
    assert issubclass(engine_for(NIC), EthernetEngine)


def test_a_transfer_of_any_length_and_place_has_exactly_its_bytes(harness: Harness) -> None:
    iova = harness.place(4 * PAGE)
    with harness.window(4 * PAGE, iova) as window:
        for length in LENGTHS:
            for skew in (0, 1, PAGE + 61):
                window.refill()
                assert harness.engine.fetch(iova + skew, length) == window.before[skew : skew + length], (skew, length)
                content = harness.engine.write(iova + skew, length)
                assert len(content) == length
                window.expect(iova + skew, content)


def test_a_long_read_is_divided(harness: Harness) -> None:
    iova = harness.place(20 * PAGE)
    with harness.window(20 * PAGE, iova) as window:
        assert harness.engine.fetch(iova, 20 * PAGE) == window.before


def test_the_rings_go_round(harness: Harness) -> None:
    """Each transfer takes up to eight descriptors of 256."""
    iova = harness.place(3 * PAGE)
    with harness.window(3 * PAGE, iova) as window:
        for _ in range(40):
            content = harness.engine.write(iova + 5, 7 * BUFFER)
            window.expect(iova + 5, content)
            assert harness.engine.read(iova + 5, content)
            assert not harness.engine.read(iova + 5, content[:-1] + bytes([content[-1] ^ 1]))


def test_a_read_that_the_iommu_stops_has_no_bytes_of_memory(harness: Harness) -> None:
    iova = harness.place(2 * PAGE)
    await_fault_log()
    with harness.window(PAGE, iova) as window:
        below = window.before[-8:]
        assert harness.engine.read(iova + PAGE - 8, below)
        # The second half of the read is not mapped. There QEMU's device gets zeros, and sends them.
        assert not harness.engine.read(iova + PAGE - 8, below + os.urandom(8))
        harness.engine.start_fetch(iova + PAGE - 8, 16)
        assert len(harness.engine.fetched(16)) == 16
        # After that the device works as before.
        assert harness.engine.read(iova, window.before)
    faults = harness.faults(expected=True)
    assert {(fault.access, fault.address) for fault in faults} == {("read", iova + PAGE)}


def test_iova_0_is_refused(harness: Harness) -> None:
    with pytest.raises(ValueError, match="cannot write to IOVA 0"):
        harness.engine.start_write(0, 1)


def test_dma_check_passes_every_case(cli: Cli) -> None:
    await_fault_log()
    options = ("--json", "--seed", "1", "--storm", "50", "--p2p", PEER_DEVICE, "--interrupt")
    done = cli("dma", "check", "--device", NIC, "--bind", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads(done.stdout)["cases"]
    others = {one["name"]: one["verdict"] for one in cases if one["verdict"] != "pass"}
    assert others == {"peer reset": "skip"}, cases  # VFIO cannot reset the lab's ivshmem.
    stopped = {one["name"] for one in cases if one["faults"]}
    assert {"read only", "unmapped write", "unmapped read", "after unmap", "detach"} <= stopped


def test_the_flushes_cannot_be_observed_with_this_device(cli: Cli) -> None:
    """QEMU's PCI Express devices do not let a program set Enable No Snoop."""
    done = cli("dma", "coherency", "--device", NIC, "--bind")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "its DMA snoops (although the domain does not enforce it, and its bit Enable No Snoop" in done.stderr
