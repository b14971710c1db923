# SPDX-License-Identifier: MIT
"""Run a benchmark: processes, warm-up, samples, and another attempt where the machine was busy."""

import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

from iommufd_py import vtd
from iommufd_py.base.coherency import FlushCount
from iommufd_py.base.command_line import without_secrets
from iommufd_py.base.errors import IommufdError
from iommufd_py.base.pci_address import normalize_bdf
from iommufd_py.base.version import tool_version
from iommufd_py.bench.noise import NoiseMeter
from iommufd_py.bench.processes import PartOfRow, messages
from iommufd_py.bench.processes import Plan as Plan
from iommufd_py.bench.workloads import Setup, Worker, set_up, target
from iommufd_py.host import environment, pinned_bytes
from iommufd_py.host.page_tables import page_tables
from iommufd_py.mock import flush_count
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.results.model import (
    LEGACY_MODES,
    BenchResult,
    CacheState,
    Floor,
    Noise,
    Point,
    Row,
    Run,
    Samples,
    Workload,
)
from iommufd_py.results.noise import disturbances, loudness
from iommufd_py.results.stats import median, settled
from iommufd_py.uapi.bench import (
    CLOCK,
    FAULTED,
    SWITCHED,
    Batch,
    Gate,
    Loop,
    can_flush,
    clock,
    clock_ns,
    empty_ioctl,
    flush,
)
from iommufd_py.vtd.leaves import MAX_BYTES

_FLOOR_ROUNDS = 1000
_MIN_VALUES = 5
_MAX_VALUES = 2000
# Duration of one call into the extension, after which Ctrl-C is handled.
_CALL_NS = 100_000_000
# A warm-up is a series of blocks, each with a tenth of the row's time. It ends when two consecutive blocks agree, or
# after this number of blocks.
_WARMUP_BLOCKS = 10
# Share of a row's time for flushing from user space.
_FLUSH_PART = 0.2
# Rounds of the floor in each process of each row.
_ROW_FLOOR_ROUNDS = 200
# Maximum number of repetitions of a row in a process if the machine was busy.
_MORE_ATTEMPTS = 2
# Number of progress reports of a row.
_PART_NS = 2_000_000_000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class RowProgress:
    """Progress of a run. *seconds_left* is an estimate from the rows done so far; None before the first.

    Attributes:
        done: rows that are complete.
        part: completed share of the samples of the next row, 0 to 1.
        point: the row that was completed last, or is being measured.
    """

    done: int
    total: int
    seconds_left: float | None
    point: Point
    part: float = 0.0


def measure(
    plan: Plan,
    on_row: Callable[[BenchResult], None] = lambda result: None,
    on_progress: Callable[[RowProgress], None] = lambda progress: None,
) -> BenchResult:
    """Time all rows of the plan; *on_row* gets the result so far after each row, so that no row can be lost.

    Each process measures all rows once, one after the other, so that a drift affects all rows alike.

    Raises:
        ToolError: the plan cannot be executed here. Nothing stays mapped or bound to the iommufd.
    """
    result = BenchResult(
        tool_version=tool_version(),
        command=tuple(map(_printable, without_secrets(sys.argv))),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(),
        target=target(plan.device, plan.coherency, plan.vf_token),
        floor=_floor(),
        name=plan.name,
    )
    total, done, start = plan.processes * len(plan.points), 0, clock_ns()
    for row in messages(plan, _measure):
        if isinstance(row, PartOfRow):
            left = (clock_ns() - start) / done * (total - done) / 1e9 if done else None
            on_progress(RowProgress(done, total, left, row.point, row.part))
            continue
        done += 1
        left = (clock_ns() - start) / done * (total - done) / 1e9
        result = result.with_run(row)
        on_row(result)
        on_progress(RowProgress(done, total, left, row.point))
    return result


def _printable(text: str) -> str:
    """Return *text* without the characters that a result must not contain."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _floor() -> Floor:
    with Iommufd() as iommufd:
        (batch,) = Loop([empty_ioctl(iommufd.fileno())]).run(_FLOOR_ROUNDS)
    return Floor(clock(_FLOOR_ROUNDS), batch.ns, CLOCK)


# --- one row --------------------------------------------------------------------------------------------------------


def _measure(plan: Plan, point: Point, first: bool, tell: Callable[[PartOfRow], None]) -> Row:
    with set_up(point, plan.device, plan.coherency, plan.iova, plan.vf_token) as setup:
        pinned, tables, flushes, leaves = _examine(setup, point, with_leaves=first)
        worker = setup.workers[0]
        runs = worker.buffer.physical_runs()
        (floor,) = Loop([empty_ioctl(setup.iommufd.fileno())]).run(_ROW_FLOOR_ROUNDS)
        clock_floor = clock(_ROW_FLOOR_ROUNDS)
        attempt = _take(setup.workers, plan, lambda part: tell(PartOfRow(point, part)))
        user_flush = _user_flush(worker, plan, point.cache)
    operations = {
        name: Samples(one.ns, tuple(one.switched), tuple(one.faulted), flushed)
        for name, one, flushed in zip(worker.loop.names, attempt.taken, flushes, strict=True)
        if name
    }
    return Row(
        point=point,
        iova=worker.iova,
        leaves=leaves,
        runs=(
            Run(
                boot_id=_BOOT_ID.read_text().strip(),
                warmup_rounds=attempt.warmup_rounds,
                steady=attempt.steady,
                pinned_bytes=pinned,
                run_lengths=runs,
                operations=operations,
                user_flush_ns=user_flush,
                clock_ns=median(clock_floor),
                ioctl_ns=median(floor.ns),
                noise=attempt.noise,
                discarded=attempt.discarded,
                page_table_bytes=tables,
            ),
        ),
    )


def _examine(
    setup: Setup, point: Point, *, with_leaves: bool
) -> tuple[int, int | None, list[FlushCount | None], dict[int, int] | None]:
    """Run one round step by step.

    Return the pinned bytes, the growth of page tables by the first operation, the flushes of each, and the leaves.
    """
    worker, leaves, tables = setup.workers[0], None, None
    flushes: list[FlushCount | None] = []
    maps = point.workload in (Workload.MAP, Workload.MAP_FILE)
    shown = with_leaves and maps and point.size_bytes <= MAX_BYTES
    pinned_before, pinned = pinned_bytes(), 0
    tables_before = page_tables().iommu_bytes
    for number in range(len(worker.loop.names)):
        before = _flushed(setup, point)
        worker.loop.run_step(number)
        after = _flushed(setup, point)
        flushes.append(None if before is None or after is None else after - before)
        pinned = max(pinned, pinned_bytes() - pinned_before)
        if number == 0 and tables_before is not None:
            tables = (page_tables().iommu_bytes or 0) - tables_before
        if number == 0 and shown and setup.bdf is not None:
            leaves = vtd.leaf_sizes(normalize_bdf(setup.bdf), worker.iova, point.size_bytes)
    return pinned, tables, flushes, leaves


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
    """Samples of one step: 8 bytes each, and the positions of the few that were disturbed."""

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


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt at a row: samples by step, warm-up, noise, and the disturbances of discarded attempts."""

    taken: list[SampleStore]
    warmup_rounds: int
    steady: bool
    noise: Noise
    discarded: tuple[str, ...] = ()


def _take(workers: Sequence[Worker], plan: Plan, on_part: Callable[[float], None]) -> _Attempt:
    """Take samples, repeat this if the machine was busy, and return the quietest attempt."""
    attempts: list[_Attempt] = []
    for _ in range(1 + _MORE_ATTEMPTS * plan.retry):
        attempts.append(_take_once(workers, plan, on_part))
        if not disturbances(attempts[-1].noise):
            break
    best = min(attempts, key=lambda one: loudness(one.noise))
    return replace(best, discarded=tuple("; ".join(disturbances(one.noise)) for one in attempts if one is not best))


def _take_once(workers: Sequence[Worker], plan: Plan, on_part: Callable[[float], None]) -> _Attempt:
    budget = int(plan.row_seconds * 1e9)
    round_ns, warmup_rounds, steady = _warm_up(workers, budget)
    values = plan.values or min(max(budget // round_ns, _MIN_VALUES), _MAX_VALUES)
    # Threads do all rounds in one call. Between two calls of one thread, the others would run without it.
    at_once = values if len(workers) > 1 else max(_CALL_NS // round_ns, 1)
    taken = [SampleStore() for _ in workers[0].loop.names]
    meter, left, last = NoiseMeter(), values, clock_ns()
    while left:
        count = min(at_once, left)
        for batches in _together(workers, count):
            for store, batch in zip(taken, batches, strict=True):
                store.add(batch)
        left -= count
        meter.end_block()
        if left and clock_ns() - last > _PART_NS:
            last = clock_ns()
            on_part(1 - left / values)
    return _Attempt(taken, warmup_rounds, steady, meter.noise())


def _warm_up(workers: Sequence[Worker], budget: int) -> tuple[int, int, bool]:
    """Run rounds until two consecutive blocks have equal medians; return ns per round, rounds, and success."""
    _together(workers, 1)
    # The first round also builds page tables. The time of the second gives the number of rounds in a block.
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
    """Let every worker do *count* rounds, all starting at the same moment, and return their samples."""
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
