# SPDX-License-Identifier: MIT
"""The machine whose DMA can bypass the CPU caches: each transition of a line, and the kernel's flushes."""

import json
import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from iommufd_py import ContainerMode, DmaBuffer, DmaError, Iommufd, VfioDevice, open_container, pci
from iommufd_py.dma import open_engine
from iommufd_py.dma.coherency.cases import ANY_SPACE, IOAS_ONLY, TYPE1_ONLY, CoherencyCase, run_coherency_case
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.dma.coherency.readings import CoherencyVerdict
from iommufd_py.dma.edu import EduEngine
from iommufd_py.dma.no_snoop import no_snoop_enabled
from iommufd_py.lab.machine import NVME_DEVICE, TEST_DEVICES
from iommufd_py.uapi.cache import LineOp, execute
from iommufd_py.vfio.pci_device import PciCommand
from tests import command_examples
from tests.conftest import need_ioctl
from tests.machines.write_back_cache import LINE, WriteBackCache
from tests.vtd.dma import await_fault_log
from tests.vtd.test_cli_info import validated

Cli = Callable[..., subprocess.CompletedProcess[str]]
PAGE = 4096
PAGES = 4
KERNEL = os.environ.get("IOMMUFD_LAB_KERNEL", "")
MACHINE = os.environ.get("IOMMUFD_LAB_MACHINE", "")
SNOOPED = "snoop-control=on" in MACHINE
EVICTING = "evict=" in MACHINE
DEVICE = TEST_DEVICES[0]


@pytest.fixture(scope="module")
def harness() -> Iterator[CoherencyHarness]:
    with pci.vfio_bound(DEVICE), Iommufd() as iommufd:
        device = VfioDevice(iommufd, DEVICE)
        ioas = iommufd.alloc_ioas()
        device.attach(device.alloc_hwpt(ioas))
        with CoherencyHarness(open_engine(device, ioas), ioas) as harness:
            yield harness


@pytest.fixture
def type1_harness() -> Iterator[CoherencyHarness]:
    with (
        pci.vfio_bound(TEST_DEVICES[1]),
        open_container(ContainerMode.VFIO_TYPE1V2, TEST_DEVICES[1]) as container,
        CoherencyHarness(open_engine(container.device, container), container) as harness,
    ):
        yield harness


@dataclass
class CacheLine:
    """A buffer that stays mapped for the device, so that the kernel does not flush it between two accesses."""

    buffer: DmaBuffer
    view: memoryview
    engine: EduEngine
    iova: int

    def store(self, at: int, data: bytes) -> None:
        self.view[at : at + len(data)] = data

    def load(self, at: int, length: int) -> bytes:
        return bytes(self.view[at : at + length])

    def run(self, op: LineOp, at: int, length: int) -> None:
        execute(op, self.buffer.user_va + at, length)

    def dma_read(self, at: int, length: int) -> bytes:
        return self.engine.fetch(self.iova + at, length)

    def dma_write(self, at: int, length: int) -> bytes:
        return self.engine.fill(self.iova + at, length)


@pytest.fixture
def line(harness: CoherencyHarness) -> Iterator[CacheLine]:
    assert isinstance(harness.engine, EduEngine)
    with DmaBuffer(PAGES * PAGE) as buffer, buffer.view as view:
        view[:] = os.urandom(len(view))
        buffer.flush()
        with harness.space.map(buffer, harness.iova):
            yield CacheLine(buffer, view, harness.engine, harness.iova)


alone = pytest.mark.skipif(SNOOPED or EVICTING, reason="of DMA that does not snoop, and lines that stay in the caches")


@alone
@pytest.mark.parametrize("op", LineOp)
def test_a_store_is_in_memory_after_a_write_back_or_flush(line: CacheLine, op: LineOp) -> None:
    before = line.load(0, LINE)
    line.store(0, bytes(range(LINE)))
    assert line.dma_read(0, LINE) == before
    line.run(op, 0, LINE)
    assert line.dma_read(0, LINE) == bytes(range(LINE))


@alone
@pytest.mark.parametrize("op", LineOp)
def test_a_flush_drops_a_clean_line_and_a_write_back_keeps_it(line: CacheLine, op: LineOp) -> None:
    before = line.load(0, LINE)
    written = line.dma_write(0, LINE)
    assert line.load(0, LINE) == before
    line.run(op, 0, LINE)
    assert line.load(0, LINE) == (before if op is LineOp.CLWB else written)
    assert line.dma_read(0, LINE) == written


@alone
@pytest.mark.parametrize("op", LineOp)
def test_a_dirty_line_overwrites_what_the_device_wrote(line: CacheLine, op: LineOp) -> None:
    line.store(8, b"CPU")
    mine = line.load(0, LINE)
    line.dma_write(32, 16)
    line.run(op, 0, LINE)
    assert line.load(0, LINE) == mine
    assert line.dma_read(0, LINE) == mine


@alone
@pytest.mark.parametrize("first", ["store", "DMA"])
def test_a_store_that_changes_nothing_makes_a_line_dirty(line: CacheLine, first: str) -> None:
    before = line.load(0, LINE)
    if first == "store":
        line.store(0, before)
    line.dma_write(0, LINE)
    if first == "DMA":
        line.store(0, before)
    line.run(LineOp.CLFLUSHOPT, 0, LINE)
    assert line.load(0, LINE) == before
    assert line.dma_read(0, LINE) == before


@alone
def test_lines_beside_a_flushed_one_stay_as_they_are(line: CacheLine) -> None:
    before = line.load(0, 3 * LINE)
    line.store(0, bytes(3 * LINE))
    line.run(LineOp.CLFLUSHOPT, LINE, 1)
    assert line.dma_read(0, 3 * LINE) == before[:LINE] + bytes(LINE) + before[2 * LINE :]


@alone
@pytest.mark.parametrize("boundary", [LINE, PAGE])
def test_one_store_into_two_lines_makes_both_dirty(line: CacheLine, boundary: int) -> None:
    before = line.load(boundary - LINE, 2 * LINE)
    struct.pack_into("<Q", line.view, boundary - 3, 0x1122334455667788)
    after = line.load(boundary - LINE, 2 * LINE)
    assert line.dma_read(boundary - LINE, 2 * LINE) == before
    line.run(LineOp.CLWB, boundary - LINE, 2 * LINE)
    assert line.dma_read(boundary - LINE, 2 * LINE) == after


@alone
def test_a_store_of_one_cpu_is_flushed_by_another(line: CacheLine) -> None:
    """The next store of the first CPU is tracked again, in spite of its TLB."""
    cpus = sorted(os.sched_getaffinity(0))
    try:
        for turn in range(20):
            data = bytes([turn]) * LINE
            os.sched_setaffinity(0, {cpus[turn % len(cpus)]})
            line.store(0, data)
            os.sched_setaffinity(0, {cpus[(turn + 1) % len(cpus)]})
            line.run(LineOp.CLFLUSHOPT, 0, LINE)
            assert line.dma_read(0, LINE) == data
    finally:
        os.sched_setaffinity(0, cpus)


@alone
def test_memory_above_4_gib(line: CacheLine) -> None:
    """Memory above 4 GiB, if the guest has any, is another part of the same RAM at another address."""
    if os.sysconf("SC_PHYS_PAGES") * PAGE < 3 << 30:
        pytest.skip("this guest has no memory above 4 GiB")
    page = next(page for page, frame in enumerate(line.buffer.frames()) if frame >= 4 << 30 >> 12)
    before = line.load(page * PAGE, LINE)
    line.store(page * PAGE, bytes(LINE))
    assert line.dma_read(page * PAGE, LINE) == before
    line.run(LineOp.CLFLUSH, page * PAGE, LINE)
    assert line.dma_read(page * PAGE, LINE) == bytes(LINE)


@alone
def test_wbinvd_writes_back_what_is_dirty_and_drops_the_rest(line: CacheLine) -> None:
    """Linux executes WBINVD when a memory type range is added, on CPUs without self-snoop (maybe_flush_caches())."""
    if "clearcpuid=ss" not in Path("/proc/cmdline").read_text():
        pytest.skip("for the guest with the option clearcpuid=ss: Linux executes no WBINVD on others")
    line.store(0, bytes(range(LINE)))
    written = line.dma_write(PAGE, LINE)
    mtrr = Path("/proc/mtrr")
    before = mtrr.read_text().splitlines()
    # Behind all that the firmware declares. Within a declared range, Linux only counts one more user of that range.
    mtrr.write_text("base=0x1000000000 size=0x100000 type=uncachable\n")
    assert len(mtrr.read_text().splitlines()) == len(before) + 1
    assert line.dma_read(0, LINE) == bytes(range(LINE))
    assert line.load(PAGE, LINE) == written


def test_random_walk(line: CacheLine, request: pytest.FixtureRequest) -> None:
    """After random operations of CPUs and device, each reads what the model of a write-back cache allows."""
    seed, steps = request.config.getoption("seed"), request.config.getoption("steps")
    chance = random.Random(seed)
    model = WriteBackCache(line.load(0, PAGES * PAGE), evicting=EVICTING)
    write, read = (model.store, model.load) if SNOOPED else (model.dma_write, model.dma_read)
    cpus = sorted(os.sched_getaffinity(0))
    done = []
    try:
        for _ in range(steps):
            # A few lines, so that each gets many operations.
            at = chance.randrange(4) * PAGE // 2 + chance.randrange(4 * LINE)
            length = min(chance.choice((1, 3, 8, LINE, 2 * LINE, 3 * LINE)), PAGES * PAGE - at)
            action = chance.choice(("store", "same", "load", "DMA write", "DMA read", "flush", "flush", "cpu", *LineOp))
            done.append((action, at, length))
            if action == "store":
                data = chance.randbytes(length)
                line.store(at, data)
                model.store(at, data)
            elif action == "same":
                data = line.load(at, length)
                line.store(at, data)
                model.load(at, data)
                model.store(at, data)
            elif action == "load":
                model.load(at, line.load(at, length))
            elif action == "DMA write":
                write(at, line.dma_write(at, length))
            elif action == "DMA read":
                read(at, line.dma_read(at, length))
            elif action == "cpu":
                os.sched_setaffinity(0, {chance.choice(cpus)})
            elif action == LineOp.CLWB:
                line.run(LineOp.CLWB, at, length)
                model.write_back(at, length)
            else:
                line.run(LineOp.CLFLUSH if action == LineOp.CLFLUSH else LineOp.CLFLUSHOPT, at, length)
                model.flush(at, length)
    except AssertionError as failure:
        raise AssertionError(f"--seed {seed}, step {len(done)}: {failure}; before: {done[-12:]}") from failure
    finally:
        os.sched_setaffinity(0, cpus)


staying = pytest.mark.skipif(EVICTING, reason="a line that leaves by itself may be fresh by luck")


@staying
@pytest.mark.parametrize("case", (*ANY_SPACE, *IOAS_ONLY), ids=lambda case: case.name)
def test_case(case: CoherencyCase, harness: CoherencyHarness) -> None:
    if case.name == "mapped file":
        with Iommufd() as iommufd:
            need_ioctl(iommufd, "IOMMU_IOAS_MAP_FILE", "6.13")
    judge(case, harness)


@staying
@pytest.mark.parametrize("case", (*ANY_SPACE, *TYPE1_ONLY), ids=lambda case: case.name)
def test_case_of_type1(case: CoherencyCase, type1_harness: CoherencyHarness) -> None:
    judge(case, type1_harness)


def judge(case: CoherencyCase, harness: CoherencyHarness) -> None:
    """Every case is wrong on the stock kernel unless the domain makes DMA snoop, and right on the patched one."""
    outcome = run_coherency_case(case, harness)
    wanted = CoherencyVerdict.WRONG if KERNEL == "stock" and not SNOOPED else CoherencyVerdict.RIGHT
    assert outcome.verdict is wanted, str(outcome)


def test_the_proof_tells_whether_dma_snoops(harness: CoherencyHarness) -> None:
    assert harness.snoops() == SNOOPED


@alone
@pytest.mark.skipif(KERNEL != "stock", reason="the examples show the stock kernel; the job incoherent-stock runs them")
@pytest.mark.parametrize("name", command_examples.examples(command_examples.INCOHERENT))
def test_example(name: str, tmp_path: Path) -> None:
    """Test the examples of the reference that need this machine."""
    command_examples.check_example(name, tmp_path)


def test_a_device_whose_dma_does_not_work_proves_nothing(type1_harness: CoherencyHarness) -> None:
    """Such a device also misses data that is in the caches alone."""
    type1_harness.engine.device.change_command(clear_bits=PciCommand.BUS_MASTER)
    with pytest.raises(DmaError, match="does not read the data that is in memory"):
        type1_harness.snoops()


def test_enable_no_snoop_is_put_back() -> None:
    with pci.vfio_bound(NVME_DEVICE), Iommufd() as iommufd:
        device = VfioDevice(iommufd, NVME_DEVICE)
        before = device.config.read(0, 256)
        with no_snoop_enabled(device) as enabled:
            assert enabled
            assert device.config.read(0, 256) != before
        assert device.config.read(0, 256) == before


@pytest.mark.parametrize(
    ("device", "container"),
    [(TEST_DEVICES[1], "iommufd"), (TEST_DEVICES[1], "vfio_type1v2"), (NVME_DEVICE, "iommufd")],
)
def test_the_command(cli: Cli, device: str, container: str) -> None:
    done = cli("dma", "coherency", "--device", device, "--bind", "--container", container, "--json")
    if SNOOPED:
        assert done.returncode == 4, done.stderr
        assert "its DMA snoops (the domain enforces it)" in done.stderr
        return
    document = validated(done, "iommufd-dma-coherency-1", 1 if KERNEL == "stock" else 0)
    ran = [case for case in document["cases"] if case["verdict"] != "skip"]
    cases = (*ANY_SPACE, *(IOAS_ONLY if container == "iommufd" else TYPE1_ONLY))
    # The kernel may not reuse a page, and the NVMe engine cannot return the bytes that the controller reads.
    assert len(ran) >= len(cases) - (4 if device == NVME_DEVICE else 2)
    verdicts = {case["name"]: case["verdict"] for case in ran}
    if KERNEL == "stock" and device == NVME_DEVICE:
        # The controller writes whole pages: a next owner finds no older bytes beside the new ones.
        assert {verdicts["fill before map"], verdicts["fresh page"], verdicts["after unmap"]} == {"wrong"}, verdicts
        return
    assert set(verdicts.values()) == {"wrong" if KERNEL == "stock" else "right"}, verdicts


@pytest.mark.parametrize("device", [TEST_DEVICES[1], NVME_DEVICE])
def test_where_a_devices_dma_goes(cli: Cli, device: str) -> None:
    await_fault_log()
    done = cli("dma", "check", "--device", device, "--bind", "--storm", "20", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {case["verdict"] for case in json.loads(done.stdout)["cases"]} <= {"pass", "skip"}
