# SPDX-License-Identifier: MIT
"""Real DMA by devices: correct transfers, stopped transfers, and the state after a failure."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from iommufd_py import (
    ArgumentValueError,
    Backing,
    ClosedError,
    DmaBuffer,
    DmaError,
    Iommufd,
    VfioDevice,
)
from iommufd_py.dma import EduEngine, open_engine
from iommufd_py.dma.checks import ANY_SPACE, IOAS_ONLY, CaseOutcome, CaseResult, run_case
from iommufd_py.dma.harness import Harness
from iommufd_py.dma.storm import run_storm
from iommufd_py.mock import check_refs
from iommufd_py.uapi.enums import DeviceFlags
from tests.mock.processes import fork
from tests.vtd.dma import await_fault_log, ioas_harness
from tests.waiting import patience

PAGE = 4096


def judge(*results: CaseResult) -> None:
    """Judge all cases of a harness in one test: starting the engine takes longer than most cases."""
    assert not [one for one in results if one.verdict is CaseOutcome.FAIL]
    if all(one.verdict is CaseOutcome.SKIP for one in results):
        pytest.skip("; ".join(one.remark for one in results))


def test_in_any_space(mode_harness: Harness) -> None:
    judge(*(run_case(case, mode_harness) for case in ANY_SPACE))


@pytest.fixture
def iommufd_harness(address: str) -> Iterator[Harness]:
    with ioas_harness(address) as one:
        yield one


def test_in_an_ioas(iommufd_harness: Harness) -> None:
    judge(*(run_case(case, iommufd_harness) for case in IOAS_ONLY))


def test_the_fault_names_device_access_and_address(iommufd_harness: Harness) -> None:
    iova = iommufd_harness.place(PAGE, 1 << 20)
    await_fault_log()
    iommufd_harness.faults()
    iommufd_harness.try_write(iova + 0x100, 0x80)
    faults = iommufd_harness.faults(expected=True)
    assert {(fault.bdf, fault.access, fault.address) for fault in faults} == {(iommufd_harness.bdf, "write", iova)}
    assert "rite" in faults[0].reason or "resent" in faults[0].reason


def test_a_transfer_that_cannot_be_is_refused(iommufd_harness: Harness) -> None:
    engine = iommufd_harness.engine
    with pytest.raises(ArgumentValueError, match="cannot move"):
        engine.write(0, engine.writes.max_bytes + engine.writes.granule)
    with pytest.raises(ArgumentValueError, match=r"cannot move|reaches IOVAs"):
        engine.read(engine.address_mask & -PAGE, engine.readable(engine.reads.granule) * (2 * PAGE))


def test_completion_by_interrupt(address: str) -> None:
    with ioas_harness(address, interrupt=True) as harness:
        judge(*(run_case(case, harness) for case in ANY_SPACE[:3]))
        interrupts = harness.engine._interrupts
        assert interrupts is not None
        iova = harness.place(PAGE)
        with harness.window(PAGE, iova) as window:
            vector = harness.engine.interrupt_vector
            while interrupts.wait(vector, timeout=0.05):
                pass  # These are completions that polling saw before their interrupt arrived.
            content = harness.engine.start_write(iova, 0x80)
            assert interrupts.wait(vector, timeout=patience(1)) == 1
            harness.engine.wait(timeout=patience(1))
            window.expect(iova, content)


def test_storm(address: str) -> None:
    with ioas_harness(address) as harness:
        judge(run_storm(harness, 20 if isinstance(harness.engine, EduEngine) else 500))


def test_nothing_lands_after_unmap_has_returned(address: str) -> None:
    """A write that started earlier may reach memory only until the unmap returns."""
    with ioas_harness(address) as harness, DmaBuffer(PAGE) as buffer, buffer.view as view:
        iova = harness.place(PAGE)
        for _ in range(5):
            view[:] = bytes(PAGE)
            mapping = harness.space.map(buffer, iova)
            content = harness.engine.start_write(iova, 0x100)
            mapping.close()
            landed = bytes(view)
            assert landed in (bytes(PAGE), content + bytes(PAGE - len(content)))
            with contextlib.suppress(DmaError):
                harness.engine.wait()
            assert view == landed
            harness.engine.restart()


def test_closing_the_device_closes_all(address: str) -> None:
    with ioas_harness(address) as harness:
        engine = harness.engine
        engine.start_write(harness.place(PAGE), 0x100)
        engine.device.close()
        assert engine.closed
        assert engine.memory.closed
        with pytest.raises(ClosedError):
            engine.write(0x10_0000, 0x100)


def test_killed_in_mid_dma(address: str) -> None:
    """After SIGKILL during DMA, nothing stays pinned, and the device can be reset, used and given back."""
    with DmaBuffer(16 * PAGE, Backing.MEMFD) as shared:
        reading, writing = os.pipe()

        def work() -> None:
            with ioas_harness(address) as harness:
                iova = harness.place(shared.length)
                harness.space.map(shared, iova)
                while True:
                    harness.engine.start_write(iova, 0x800)
                    os.write(writing, b"!")
                    harness.engine.wait()

        child = fork(work)
        os.close(writing)
        for _ in range(3):
            assert os.read(reading, 1), "the child ended by itself"
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        os.close(reading)
        with shared.view as view:
            assert any(view[:0x800]), "the device wrote nothing before"
        with Iommufd() as iommufd:
            if iommufd.probe()["IOMMU_TEST_CMD"]:
                check_refs(iommufd, shared.user_va, shared.length, 0)
        with ioas_harness(address) as harness:
            if harness.engine.device.info().flags & DeviceFlags.RESET:
                harness.engine.device.reset()
                harness.engine.close()
                harness.engine = open_engine(harness.engine.device, harness.space)
            judge(run_case(ANY_SPACE[0], harness))


def test_the_wrong_coherency_is_refused(address: str, cli: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    with Iommufd() as iommufd:
        evidence = VfioDevice(iommufd, address).alloc_hwpt(iommufd.alloc_ioas()).evidence
    wrong = "non-coherent" if evidence.dma_cc else "coherent"
    done = cli("dma", "check", "--device", address, "--coherency", wrong)
    assert done.returncode == 1
    assert f"not {wrong}" in done.stderr
