# SPDX-License-Identifier: MIT
"""Run a benchmark: all rows in all processes, and for each row its samples, counts and floors."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from iommufd_py import vtd
from iommufd_py.base.coherency import FlushCount
from iommufd_py.base.command_line import recorded_command
from iommufd_py.base.pci_address import normalize_bdf
from iommufd_py.base.version import tool_version
from iommufd_py.bench.processes import PartOfRow, messages
from iommufd_py.bench.processes import Plan as Plan
from iommufd_py.bench.sampling import take, take_in_turns
from iommufd_py.bench.turns import Turn
from iommufd_py.bench.workloads import Setup, set_up, target
from iommufd_py.host import environment, pinned_bytes
from iommufd_py.host.page_tables import page_tables
from iommufd_py.mock import flush_count
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.results.model import (
    LEGACY_MODES,
    BenchResult,
    Floor,
    Point,
    Row,
    Run,
    Samples,
    Workload,
)
from iommufd_py.uapi.bench import (
    CLOCK,
    Loop,
    clock,
    clock_ns,
    empty_ioctl,
)
from iommufd_py.vtd.leaves import MAX_BYTES

_FLOOR_ROUNDS = 1000
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
        IommufdError: an ioctl of a row failed. The same holds.
    """
    result = BenchResult(
        tool_version=tool_version(),
        command=recorded_command(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(),
        target=target(plan.device, plan.coherency, plan.vf_token),
        floor=_floor(plan.turn),
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


def _floor(turn: Turn | None) -> Floor:
    if turn is not None:
        turn.meet("floor", 0).wait()
    with Iommufd() as iommufd:
        (batch,) = Loop([empty_ioctl(iommufd.fileno())]).run(_FLOOR_ROUNDS)
    return Floor(clock(_FLOOR_ROUNDS), batch.ns, CLOCK)


def _measure(plan: Plan, point: Point, process: int, tell: Callable[[PartOfRow], None]) -> Row:
    with set_up(point, plan.device, plan.coherency, plan.iova, plan.vf_token) as setup:
        pinned, tables, flushes, leaves = _examine(setup, point, with_leaves=process == 0)
        worker = setup.workers[0]
        runs = worker.buffer.physical_runs()
        if plan.turn is None:
            timed = take(setup, plan, point, lambda part: tell(PartOfRow(point, part)))
        else:
            timed = take_in_turns(setup, plan, point, plan.turn, f"{process}-{plan.points.index(point)}")
    operations = {
        name: Samples(one.ns, tuple(one.switched), tuple(one.faulted), flushed)
        for name, one, flushed in zip(worker.loop.names, timed.taken, flushes, strict=True)
        if name
    }
    return Row(
        point=point,
        iova=worker.iova,
        runs=(
            Run(
                boot_id=_BOOT_ID.read_text().strip(),
                warmup_rounds=timed.warmup_rounds,
                steady=timed.steady,
                pinned_bytes=pinned,
                run_lengths=runs,
                operations=operations,
                user_flush_ns=timed.user_flush_ns,
                clock_ns=timed.clock_ns,
                ioctl_ns=timed.ioctl_ns,
                noise=timed.noise,
                discarded=timed.discarded,
                page_table_bytes=tables,
                round_id=plan.turn.directory.name if plan.turn else "",
                leaves=leaves,
                page_sets=timed.page_sets,
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
