# SPDX-License-Identifier: MIT
"""A machine with an Intel Data Streaming Accelerator behind a VT-d in scalable mode: its engine, also with a PASID.

tests/vtd has the tests for all engines (test_dma, test_vfio_pci_driver); the job runs them with this device.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

from iommufd_py import DmaError, Iommufd, VfioDevice, pci
from iommufd_py.dma import DsaEngine, engine_for, open_engine
from iommufd_py.dma.checks import ANY_SPACE as DMA_CASES
from iommufd_py.dma.checks import CaseOutcome, run_case
from iommufd_py.dma.coherency.cases import ANY_SPACE, IOAS_ONLY, CoherencyCase, run_coherency_case
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.dma.coherency.readings import CoherencyVerdict
from iommufd_py.dma.harness import Harness
from iommufd_py.dma.pasid import attach_for_dma, attach_pasid
from iommufd_py.lab.machine import TEST_DEVICES
from iommufd_py.vfio.pci_device import PciCommand
from tests.vtd.dma import await_fault_log, ioas_harness
from tests.vtd.test_cli_info import validated
from tests.waiting import patience

Cli = Callable[..., subprocess.CompletedProcess[str]]
DSA = os.environ.get("IOMMUFD_BDF", "")
KERNEL = os.environ.get("IOMMUFD_LAB_KERNEL", "")
PAGE, MOST = 4096, 128 << 10
# Of 20 bits, so that VT-d and the kernel use the whole table of PASIDs.
PASID = 0xABCDE
LENGTHS = (1, 2, 63, 64, 65, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 7, MOST - 1, MOST)


@pytest.fixture(scope="module", autouse=True)
def bound() -> Iterator[None]:
    with pci.vfio_bound(DSA):
        yield


@pytest.fixture
def harness() -> Iterator[Harness]:
    with ioas_harness(DSA) as one:
        yield one


@pytest.fixture
def pasid_harness() -> Iterator[Harness]:
    with ioas_harness(DSA, pasid=PASID) as one:
        yield one


def test_the_engine_is_the_one_for_the_device() -> None:
    assert engine_for(DSA) is DsaEngine


@pytest.mark.parametrize("with_pasid", [False, True])
def test_a_transfer_of_any_length_and_place_has_exactly_its_bytes(
    with_pasid: bool, request: pytest.FixtureRequest
) -> None:
    harness: Harness = request.getfixturevalue("pasid_harness" if with_pasid else "harness")
    size = MOST + 2 * PAGE
    iova = harness.place(size)
    with harness.window(size, iova) as window:
        for length in LENGTHS:
            for skew in (0, 1, PAGE + 61):
                window.refill()
                assert harness.engine.fetch(iova + skew, length) == window.before[skew : skew + length], (skew, length)
                content = harness.engine.write(iova + skew, length)
                window.expect(iova + skew, content)


def test_a_comparison_finds_each_different_byte(harness: Harness) -> None:
    iova = harness.place(PAGE)
    with harness.window(PAGE, iova) as window:
        # More comparisons than there are completion records.
        for at in range(100):
            content = window.before[7 : 7 + 100]
            assert harness.engine.read(iova + 7, content)
            assert not harness.engine.read(iova + 7, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_a_stopped_transfer_names_its_place(harness: Harness) -> None:
    iova = harness.place(2 * PAGE)
    await_fault_log()
    with harness.window(PAGE, iova) as window:
        content = harness.engine.start_write(iova + PAGE - 8, 16)
        with pytest.raises(DmaError, match=f"a page fault stopped .*, at a write to IOVA {iova + PAGE:#x}"):
            harness.engine.wait()
        window.expect_at_most(iova + PAGE - 8, content[:8])
        assert not harness.engine.read(iova + PAGE - 8, window.found()[-8:] + os.urandom(8))
        window.refill()
        harness.engine.start_fetch(iova + PAGE - 8, 16)
        assert len(harness.engine.fetched(16)) == 16
        # After that the device works as before.
        assert harness.engine.read(iova, window.before)
    faults = harness.faults(expected=True)
    assert {(fault.access, fault.address) for fault in faults} == {("read", iova + PAGE), ("write", iova + PAGE)}


def test_a_completion_record_without_memory_is_an_error_at_once(harness: Harness) -> None:
    device = harness.engine.device
    assert isinstance(device, VfioDevice)
    target = device.attachments[None].target
    iova = harness.place(PAGE)
    with harness.window(PAGE, iova) as window:
        device.detach()
        harness.engine.start_write(iova, 0x100)
        with pytest.raises(DmaError, match="could not report the end of a transfer: a page fault stopped the write"):
            harness.engine.wait()
        device.attach(target)
        harness.engine.restart()
        window.expect()
        window.expect(iova, harness.engine.write(iova, 0x100))


def test_a_refused_command_gives_the_reason(harness: Harness) -> None:
    harness.engine.device.change_command(clear_bits=PciCommand.BUS_MASTER)
    with pytest.raises(DmaError, match=r"does not enable itself \(command ENABLE_DEVICE\): Bus Master Enable is off"):
        harness.engine.restart()
    harness.engine.device.change_command(set_bits=PciCommand.BUS_MASTER)
    harness.engine.restart()
    iova = harness.place(PAGE)
    with harness.window(PAGE, iova) as window:
        window.expect(iova, harness.engine.write(iova, 0x100))


def test_dma_check_passes_every_case(cli: Cli) -> None:
    await_fault_log()
    done = cli("dma", "check", "--device", DSA, "--json", "--seed", "1", "--storm", "50", "--interrupt")
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads(done.stdout)["cases"]
    assert {one["verdict"] for one in cases} == {"pass"}, cases
    stopped = {one["name"] for one in cases if one["faults"]}
    assert {"read only", "unmapped write", "unmapped read", "after unmap", "detach"} <= stopped


def test_dma_with_a_pasid_reaches_the_memory_of_the_pasid(pasid_harness: Harness) -> None:
    results = [run_case(case, pasid_harness) for case in DMA_CASES]
    assert {one.name: one.verdict for one in results} == {one.name: CaseOutcome.PASS for one in results}, results
    reasons = {fault.bdf for one in results for fault in one.faults}
    assert reasons == {DSA}


def test_interrupts_come_for_dma_with_a_pasid() -> None:
    with ioas_harness(DSA, interrupt=True, pasid=PASID) as harness:
        engine, iova = harness.engine, harness.place(PAGE)
        with harness.window(PAGE, iova) as window:
            content = engine.start_write(iova, 0x80)
            assert engine._interrupts is not None
            assert engine._interrupts.wait(engine.interrupt_vector, timeout=patience(5)) == 1
            window.expect(iova, content)


def test_dma_without_the_pasid_reaches_no_memory() -> None:
    """Else the tests with a PASID would show nothing of PASIDs."""
    with Iommufd() as iommufd:
        device, ioas = VfioDevice(iommufd, DSA), iommufd.alloc_ioas()
        attach_pasid(device, ioas, PASID)
        for other in (None, PASID + 1):
            with pytest.raises(DmaError, match="stopped the write of the completion record"):
                open_engine(device, ioas, pasid=other)


def test_the_command_with_a_pasid(cli: Cli) -> None:
    done = cli("dma", "coherency", "--device", DSA, "--pasid", str(PASID), "--json")
    document = validated(done, "iommufd-dma-coherency-1", 1 if KERNEL == "stock" else 0)
    assert document["pasid"] == PASID
    verdicts = {case["name"]: case["verdict"] for case in document["cases"]}
    names = ("fill before map", "after unmap", "attach to populated")
    assert {verdicts[name] for name in names} == {"wrong" if KERNEL == "stock" else "right"}, verdicts


def test_a_pasid_that_cannot_be_is_one_sentence(cli: Cli) -> None:
    done = cli("dma", "coherency", "--device", TEST_DEVICES[0], "--bind", "--pasid", "1")
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(r"iommufd: .* has no PASIDs: .*\n", done.stderr), done.stderr


@pytest.fixture(scope="module", params=[None, PASID], ids=["without PASID", "with PASID"])
def bytes_harness(request: pytest.FixtureRequest) -> Iterator[CoherencyHarness]:
    with Iommufd() as iommufd:
        device, ioas = VfioDevice(iommufd, DSA), iommufd.alloc_ioas()
        attach_for_dma(device, ioas, request.param)
        with CoherencyHarness(open_engine(device, ioas, pasid=request.param), ioas) as harness:
            yield harness


@pytest.mark.parametrize("case", (*ANY_SPACE, *IOAS_ONLY), ids=lambda case: case.name)
def test_case(case: CoherencyCase, bytes_harness: CoherencyHarness) -> None:
    outcome = run_coherency_case(case, bytes_harness)
    wanted = CoherencyVerdict.WRONG if KERNEL == "stock" else CoherencyVerdict.RIGHT
    if bytes_harness.engine.pasid is not None and case.name == "read during attach":
        wanted = CoherencyVerdict.SKIP
    assert outcome.verdict is wanted, str(outcome)
