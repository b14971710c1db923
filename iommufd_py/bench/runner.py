# SPDX-License-Identifier: MIT
"""Running a benchmark on the real thing: processes, warm-up, samples."""

import ctypes
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

from iommufd_py import vtd
from iommufd_py.base.coherency import Coherency, FlushCount
from iommufd_py.base.errors import IommufdError, ToolError
from iommufd_py.base.pci_address import normalize_bdf
from iommufd_py.base.signals import held_signals
from iommufd_py.bench.workloads import Setup, Worker, set_up, target
from iommufd_py.host import environment, pinned_bytes
from iommufd_py.mock import flush_count
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.results.model import (
    LEGACY_MODES,
    BenchResult,
    CacheState,
    Floor,
    Point,
    Row,
    Run,
    Samples,
    Workload,
)
from iommufd_py.results.stats import settled
from iommufd_py.uapi.bench import FAULTED, SWITCHED, Batch, Gate, Loop, can_flush, clock, clock_ns, empty_ioctl, flush

_PR_SET_PDEATHSIG = 1
_FLOOR_ROUNDS = 1000
_MIN_VALUES = 5
_MAX_VALUES = 2000
# One call into the extension lasts about so long, which is how soon Ctrl-C is heard.
_CALL_NS = 100_000_000
# A warm-up is blocks of a tenth of the row's time, until two in a row agree, ten at most.
_WARMUP_BLOCKS = 10
# The user-space flush of a row may take so much of its time.
_FLUSH_PART = 0.2
# The kernel prints the leaves with the IOMMU's lock held, and anew for each doubling of its buffer.
_MAX_LEAF_DUMP_BYTES = 64 << 20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to time, and how long.

    Attributes:
        device: PCI address of a device bound to vfio-pci, or ``mock``.
        points: a row each.
        coherency: what the domains must be.
        iova: where to map; None takes an aligned place that is allowed.
        processes: how often all rows are measured, each time by a new process with new memory.
        values: samples a row in each process; None takes as many as fit into *row_seconds*, 5 to 2000.
        row_seconds: time for a row in each process, without its warm-up.
    """

    device: str
    points: tuple[Point, ...]
    coherency: Coherency = Coherency.ANY
    iova: int | None = None
    processes: int = 5
    values: int | None = None
    row_seconds: float = 0.25


@dataclass(frozen=True, slots=True)
class RowProgress:
    """How far a run is. *seconds_left* is an estimate from the rows done so far."""

    done: int
    total: int
    seconds_left: float
    point: Point


def measure(
    plan: Plan,
    on_row: Callable[[BenchResult], None] = lambda result: None,
    on_progress: Callable[[RowProgress], None] = lambda progress: None,
) -> BenchResult:
    """Time everything as planned; *on_row* gets the result so far after each row, so that no row can be lost.

    The rows are gone through once by each process, one behind the other, so that what drifts hits all of them alike.

    Raises:
        ToolError: the plan cannot be carried out here; nothing stays mapped or bound to the iommufd.
    """
    result = BenchResult(
        tool_version=version("iommufd-py"),
        command=tuple(sys.argv),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(),
        target=target(plan.device, plan.coherency),
        floor=_floor(),
    )
    total, start = plan.processes * len(plan.points), clock_ns()
    rows = _rows(plan) if _has_one_thread() else _rows_of_a_program(plan)
    for done, row in enumerate(rows, start=1):
        left = (clock_ns() - start) / done * (total - done) / 1e9
        result = result.with_run(row)
        on_row(result)
        on_progress(RowProgress(done, total, left, row.point))
    return result


def _floor() -> Floor:
    with Iommufd() as iommufd:
        (batch,) = Loop([empty_ioctl(iommufd.fileno())]).run(_FLOOR_ROUNDS)
    return Floor(clock(_FLOOR_ROUNDS), batch.ns)


# --- one process ----------------------------------------------------------------------------------------------------


def _rows(plan: Plan) -> Iterator[Row]:
    """Yield every row of every measuring process, one process after the other."""
    for process in range(plan.processes):
        yield from _in_process(plan, first=process == 0)


def _in_process(plan: Plan, *, first: bool) -> Iterator[Row]:
    """Yield every row, with the one run that a new process measured of it."""
    # Not started anew: an emulated CPU takes seconds to import this. What must be new is its memory, and that is.
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_measure_rows, args=(plan, first, theirs, os.getpid()))
    try:
        # The other keeps the mask: a signal is for this process, which ends it.
        with held_signals():
            child.start()
        theirs.close()
        for _ in plan.points:
            try:
                answer = ours.recv()
            except EOFError:
                child.join()
                raise ToolError(
                    f"the measuring process ended before its time (status {child.exitcode}); see the kernel log, "
                    "it may have run out of memory"
                ) from None
            if isinstance(answer, Exception):
                raise answer
            yield answer
    finally:
        ours.close()
        if child.pid is not None:
            # Whether it is done or not: the kernel takes back all that it holds.
            child.kill()
            child.join()
            child.close()


def _dies_with(parent: int) -> bool:
    """Have this process killed when *parent* dies, even of SIGKILL (prctl(2)); tell whether *parent* lives still."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def _measure_rows(plan: Plan, first: bool, answers: Connection, parent: int) -> None:
    # Nothing may hold the device when who asked for the figures was killed.
    if not _dies_with(parent):
        return
    try:
        for point in plan.points:
            answers.send(_measure(plan, point, first=first))
    except IommufdError as failure:
        answers.send(ToolError(str(failure)))
    except (ToolError, OSError) as failure:
        answers.send(failure)


# --- a program for a caller with threads ----------------------------------------------------------------------------


def _has_one_thread() -> bool:
    return len(os.listdir("/proc/self/task")) == 1


def _rows_of_a_program(plan: Plan) -> Iterator[Row]:
    """Yield what :func:`_rows` does, from a program of one thread that forks the measuring processes.

    A lock that another thread of this process holds, be it one of numpy's, would stay locked in a fork for ever. The
    program is started once for all of them: importing this takes 0.4 s of a real CPU, and seconds of an emulated one.
    """
    script = f"from iommufd_py.bench import runner; runner._answer({os.getpid()})"
    # The program keeps the mask: a signal is for this process, which ends it.
    with held_signals():
        program = subprocess.Popen([sys.executable, "-P", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        with program.stdin as question:
            pickle.dump(plan, question)
        for _ in range(plan.processes * len(plan.points)):
            answer = pickle.load(program.stdout)
            if isinstance(answer, Exception):
                raise answer
            yield answer
    except (EOFError, BrokenPipeError):
        raise ToolError(
            f"the program that starts the measuring processes ended before its time (status {program.wait()}); "
            "see above, and the kernel log"
        ) from None
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


def _answer(parent: int) -> None:
    """Be that program: read a plan from standard input, and write its rows to standard output."""
    plan: Plan = pickle.load(sys.stdin.buffer)
    answers = sys.stdout.buffer
    if not _dies_with(parent):
        return
    try:
        for row in _rows(plan):
            pickle.dump(row, answers)
            answers.flush()
    except (ToolError, OSError) as failure:
        pickle.dump(failure, answers)


# --- one row --------------------------------------------------------------------------------------------------------


def _measure(plan: Plan, point: Point, *, first: bool) -> Row:
    with set_up(point, plan.device, plan.coherency, plan.iova) as setup:
        pinned, flushes, leaves = _examine(setup, point, with_leaves=first)
        worker = setup.workers[0]
        runs = worker.buffer.physical_runs()
        taken, warmup_rounds, steady = _take(setup.workers, plan)
        user_flush = _user_flush(worker, plan, point.cache) if first else array("Q")
    operations = {
        name: Samples(one.ns, tuple(one.switched), tuple(one.faulted), flushed)
        for name, one, flushed in zip(worker.loop.names, taken, flushes, strict=True)
        if name
    }
    return Row(
        point=point,
        iova=worker.iova,
        leaves=leaves,
        user_flush_ns=user_flush,
        runs=(Run(_BOOT_ID.read_text().strip(), warmup_rounds, steady, pinned, runs, operations),),
    )


def _examine(
    setup: Setup, point: Point, *, with_leaves: bool
) -> tuple[int, list[FlushCount | None], dict[int, int] | None]:
    """Go one round by hand and return how much was pinned, what each operation flushed, and the leaves."""
    worker, leaves = setup.workers[0], None
    flushes: list[FlushCount | None] = []
    maps = point.workload in (Workload.MAP, Workload.MAP_FILE)
    shown = with_leaves and maps and point.size_bytes <= _MAX_LEAF_DUMP_BYTES
    pinned_before, pinned = pinned_bytes(), 0
    for number in range(len(worker.loop.names)):
        before = _flushed(setup, point)
        worker.loop.run_step(number)
        after = _flushed(setup, point)
        flushes.append(None if before is None or after is None else after - before)
        pinned = max(pinned, pinned_bytes() - pinned_before)
        if number == 0 and shown and setup.bdf is not None:
            leaves = vtd.leaf_sizes(normalize_bdf(setup.bdf), worker.iova, point.size_bytes)
    return pinned, flushes, leaves


def _flushed(setup: Setup, point: Point) -> FlushCount | None:
    return None if point.backend in LEGACY_MODES else flush_count(setup.iommufd)


def _user_flush(worker: Worker, plan: Plan, cache: CacheState) -> "array[int]":
    if not can_flush():
        return array("Q")
    user_va, length = worker.buffer.user_va, worker.buffer.length
    start = clock_ns()
    flush(user_va, length, cache, 1)
    once = max(clock_ns() - start, 1)
    rounds = int(plan.row_seconds * _FLUSH_PART * 1e9 / once)
    return flush(user_va, length, cache, min(max(rounds, _MIN_VALUES), _MAX_VALUES))


# --- samples --------------------------------------------------------------------------------------------------------


class SampleStore:
    """Samples of one step as they come in: 8 bytes each, and positions of the few that were disturbed."""

    def __init__(self) -> None:
        self.ns = array("Q")
        self.switched: list[int] = []
        self.faulted: list[int] = []

    def add(self, batch: Batch) -> None:
        """Append a batch."""
        start = len(self.ns)
        self.ns.extend(batch.ns)
        if any(batch.disturbances):
            self.switched += [start + at for at, flags in enumerate(batch.disturbances) if flags & SWITCHED]
            self.faulted += [start + at for at, flags in enumerate(batch.disturbances) if flags & FAULTED]


def _take(workers: Sequence[Worker], plan: Plan) -> tuple[list[SampleStore], int, bool]:
    """Warm up and take samples; returns them step by step, and the warm-up's rounds and whether it settled."""
    budget = int(plan.row_seconds * 1e9)
    round_ns, warmup_rounds, steady = _warm_up(workers, budget)
    values = plan.values or min(max(budget // round_ns, _MIN_VALUES), _MAX_VALUES)
    # Threads take all of it in one go: whoever stopped between would leave the others alone for a while.
    at_once = values if len(workers) > 1 else max(_CALL_NS // round_ns, 1)
    taken = [SampleStore() for _ in workers[0].loop.names]
    while values:
        count = min(at_once, values)
        for batches in _together(workers, count):
            for store, batch in zip(taken, batches, strict=True):
                store.add(batch)
        values -= count
    return taken, warmup_rounds, steady


def _warm_up(workers: Sequence[Worker], budget: int) -> tuple[int, int, bool]:
    """Go rounds until two blocks in a row have the same medians; returns ns a round, rounds gone, and whether so."""
    start = clock_ns()
    _together(workers, 1)
    # The first round builds page tables and is no measure; the second tells how many make a block.
    start = clock_ns()
    _together(workers, 1)
    round_ns = max(clock_ns() - start, 1)
    block = min(max(budget // _WARMUP_BLOCKS // round_ns, 3), _MAX_VALUES)
    rounds, before = 2, None
    for _ in range(_WARMUP_BLOCKS):
        start = clock_ns()
        batches = _together(workers, block)[0]
        round_ns = max((clock_ns() - start) // block, 1)
        rounds += block
        if before is not None and all(settled(a.ns, b.ns) for a, b in zip(before, batches, strict=True)):
            return round_ns, rounds, True
        before = batches
    return round_ns, rounds, False


def _together(workers: Sequence[Worker], count: int) -> list[list[Batch]]:
    """Let every worker go *count* rounds, all starting at the same moment, and return their samples."""
    if len(workers) == 1:
        return [workers[0].loop.run(count)]
    gate = Gate(len(workers))
    answers: list[list[Batch] | Exception | None] = [None] * len(workers)

    def work(number: int) -> None:
        try:
            answers[number] = workers[number].loop.run(count, gate)
        except IommufdError as failure:
            answers[number] = failure

    threads = [Thread(target=work, args=(number,)) for number in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken: list[list[Batch]] = []
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        taken.append(answer)
    return taken
