# SPDX-License-Identifier: MIT
"""Take the samples of one row in one process: warm up, measure block by block, and measure the floors."""

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from iommufd_py.base.errors import ToolError
from iommufd_py.bench.noise import NoiseMeter, blocks_to_keep, fast_blocks
from iommufd_py.bench.processes import Plan
from iommufd_py.bench.turns import Turn
from iommufd_py.bench.workloads import Setup, Worker
from iommufd_py.results.model import CacheState, Noise, Point
from iommufd_py.results.noise import disturbances, loudness
from iommufd_py.results.stats import median, settled
from iommufd_py.uapi.bench import (
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

_MIN_VALUES = 5
_MAX_VALUES = 2000
# Duration of one call into the extension, after which Ctrl-C is handled.
_CALL_NS = 100_000_000
# A warm-up is a series of blocks, each with a tenth of the row's time. It ends when two consecutive blocks agree, or
# after this number of blocks.
_WARMUP_BLOCKS = 10
# Share of a row's time for flushing from user space.
_FLUSH_PART = 0.2
# Share of a slot for the samples. The rest is for flushing from user space, and for the noise of the machine.
_SAMPLES_PART = 0.6
# Before a part of the samples the buffer gets other pages, and runs one round that does not count. The new pages and
# this round get at most this share of a slot or a block. If they need more, the pages stay.
_NEW_PAGES_PART = 0.2
# A row in turns gets a second part if the CPU was fast in less than this share of the slots of the first. With more
# parts, fewer boots would fit into the time of the whole benchmark.
_MOST_PARTS = 2
_FAST_PART = 0.5
# Slots for the warm-up. The last two show whether the times are steady.
_WARMUP_TURNS = 2
# Rounds whose fastest tells how many rounds fit into a slot.
_TRIES = 3
# Rounds of the floor in each process of each row.
_FLOOR_ROUNDS = 200
# Maximum number of repetitions of a row in a process if the machine was busy.
_MORE_ATTEMPTS = 2
# Time between two progress reports of a row.
_PART_NS = 2_000_000_000


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
class Attempt:
    """One attempt at a row: samples by step, warm-up, noise, and the number of sets of pages behind the samples."""

    taken: list[SampleStore]
    warmup_rounds: int
    steady: bool
    noise: Noise
    page_sets: int


@dataclass(frozen=True, slots=True)
class Taken(Attempt):
    """All that one process measured for one row. The attributes are those of :class:`iommufd_py.results.model.Run`."""

    user_flush_ns: "array[int]"
    clock_ns: float
    ioctl_ns: float
    discarded: tuple[str, ...] = ()


def take(setup: Setup, plan: Plan, point: Point, on_part: Callable[[float], None]) -> Taken:
    """Take samples, repeat this if the machine was busy, and return the quietest attempt."""
    clock_floor, ioctl_floor = _floors(setup)
    renews = 0 < _renewal_ns(setup.workers[0]) <= _CALL_NS * _NEW_PAGES_PART
    attempts = [_take_once(setup.workers, plan, on_part, renews=renews)]
    while disturbances(attempts[-1].noise) and len(attempts) <= _MORE_ATTEMPTS * plan.retry:
        attempts.append(_take_once(setup.workers, plan, on_part, renews=renews))
    best = min(attempts, key=lambda one: loudness(one.noise))
    return Taken(
        best.taken,
        best.warmup_rounds,
        best.steady,
        best.noise,
        best.page_sets,
        _user_flush(setup.workers[0], plan, point.cache),
        clock_floor,
        ioctl_floor,
        tuple("; ".join(disturbances(one.noise)) for one in attempts if one is not best),
    )


def take_in_turns(setup: Setup, plan: Plan, point: Point, turn: Turn, place: str) -> Taken:
    """Take samples in the slots of *turn* only, and the floors too.

    Every guest uses the same number of slots, so that none works on its next row while another measures.

    Args:
        place: the name under which the guests meet.
    """
    workers, worker = setup.workers, setup.workers[0]
    _together(workers, 1)  # The first round also builds page tables.
    longest_ns = _duration_ns(lambda: _together(workers, 1)) + _duration_ns(lambda: _flush(worker, point.cache, 1))
    renewal_ns = _renewal_ns(worker)
    slots = turn.meet(place, longest_ns / 1e9)
    renewals = int(slots.seconds * 1e9 * _NEW_PAGES_PART / renewal_ns) if renewal_ns else 0
    share_ns = slots.seconds * 1e9 * _SAMPLES_PART - renewals * renewal_ns
    turns = max(round(plan.row_seconds / slots.seconds), _MIN_VALUES)
    most, most_flushes = math.ceil((plan.values or _MAX_VALUES) / turns), math.ceil(_MAX_VALUES / turns)

    # The first round of a slot finds cold caches, so a slow round does not set the number of rounds.
    slots.wait()
    round_ns = min(_duration_ns(lambda: _together(workers, 1)) for _ in range(_TRIES))
    at_once = _fitting(share_ns, round_ns, most=most)
    shares = _shares(at_once, max(renewals, 1))
    flush_ns = _duration_ns(lambda: _flush(worker, point.cache, 1))
    flushes = _fitting(share_ns * _FLUSH_PART, flush_ns, most=most_flushes)
    clock_floor, ioctl_floor = _floors(setup)
    blocks = []
    for _ in range(_WARMUP_TURNS):
        slots.wait()
        blocks.append(_together(workers, at_once)[0])

    meter = NoiseMeter()
    found: list[_Block] = []
    for part in range(_MOST_PARTS):
        for _ in range(turns):
            slots.wait()
            meter.begin_block()
            samples = _take_slot(workers, shares, meter, renews=renewals > 0)
            found.append(_Block(samples, _flush(worker, point.cache, flushes)))
            meter.end_block()
        # The others are in their last slots.
        slots.wait()
        # Each guest gets the speeds of all guests, so all guests make the same decision.
        work_ns = turn.exchange(f"{place}-{part}", meter.work_ns)
        if len(fast_blocks(work_ns)) >= turns * _FAST_PART:
            break
    numbers = blocks_to_keep(work_ns)
    meter.keep(numbers)
    kept = [found[number] for number in numbers]
    others = len(found) - len(kept)
    taken = [SampleStore() for _ in worker.loop.names]
    for block in kept:
        _store(block.samples, taken)
    return Taken(
        taken,
        warmup_rounds=2 + _TRIES + _WARMUP_TURNS * at_once,
        steady=_all_settled(*blocks),
        noise=meter.noise(),
        page_sets=len(kept) * len(shares) if renewals else 1,
        user_flush_ns=array("Q", chain.from_iterable(block.user_flush_ns for block in kept)),
        clock_ns=clock_floor,
        ioctl_ns=ioctl_floor,
        discarded=(f"the CPU had another speed in {others} of {len(found)} blocks",) if others else (),
    )


class _Block(NamedTuple):
    """The samples of one slot: of the steps, as :func:`_together` returns them, and of the flush from user space."""

    samples: list[list[Batch]]
    user_flush_ns: "array[int]"


def _take_slot(
    workers: Sequence[Worker], shares: Sequence[int], meter: NoiseMeter, *, renews: bool
) -> list[list[Batch]]:
    """Run the rounds of a slot. *shares* are numbers of rounds; *renews* replaces the pages before each share."""
    samples = []
    for count in shares:
        if renews:
            _renew(workers[0])
        samples += _together(workers, count)
        meter.look_at_speed()
    return samples


def _shares(count: int, parts: int) -> list[int]:
    """Divide *count* into *parts* that differ by at most one, or into fewer of 1."""
    parts = min(count, parts)
    return [(count + number) // parts for number in range(parts)]


def _renewal_ns(worker: Worker) -> int:
    """Replace the pages of the buffer once, and return the time for this; 0 if they cannot be replaced."""
    return _duration_ns(lambda: _renew(worker)) if worker.replace_pages else 0


def _renew(worker: Worker) -> None:
    """Replace the pages of the buffer, and run one round with the new ones.

    A map of 2M takes 4 % more or less time on other pages of the same kind, and the same time on the same pages. A map
    of 64M takes 8 % more or less. (These are standard deviations, of 24 blocks in a User-Mode Linux guest.) So a row
    that keeps its pages measures them.
    """
    assert worker.replace_pages is not None
    worker.replace_pages()
    worker.loop.run(1)


def _fitting(time_ns: float, one_ns: float, *, least: int = 1, most: int = _MAX_VALUES) -> int:
    """Return how many measurements of *one_ns* fit into *time_ns*: at least *least*, and at most *most*."""
    return min(max(int(time_ns / one_ns), least), most)


def _duration_ns(measurement: Callable[[], object]) -> int:
    start = clock_ns()
    measurement()
    return max(clock_ns() - start, 1)


def _floors(setup: Setup) -> tuple[float, float]:
    """Return the medians of two clock reads and of an ioctl that only reads an option."""
    (floor,) = Loop([empty_ioctl(setup.iommufd.fileno())]).run(_FLOOR_ROUNDS)
    return median(clock(_FLOOR_ROUNDS)), median(floor.ns)


def _user_flush(worker: Worker, plan: Plan, cache: CacheState) -> "array[int]":
    once = _duration_ns(lambda: _flush(worker, cache, 1))
    return _flush(worker, cache, _fitting(plan.row_seconds * _FLUSH_PART * 1e9, once, least=_MIN_VALUES))


def _flush(worker: Worker, cache: CacheState, count: int) -> "array[int]":
    """Flush the buffer from user space, and return the *count* samples; none on a CPU without the instruction."""
    return flush(worker.buffer.user_va, worker.buffer.length, cache, count) if can_flush() else array("Q")


def _take_once(workers: Sequence[Worker], plan: Plan, on_part: Callable[[float], None], *, renews: bool) -> Attempt:
    budget = int(plan.row_seconds * 1e9)
    round_ns, warmup_rounds, steady = _warm_up(workers, budget)
    values = plan.values or _fitting(budget, round_ns, least=_MIN_VALUES)
    # Threads do all rounds in one call. Between two calls of one thread, the others would run without it.
    at_once = values if len(workers) > 1 else max(_CALL_NS // round_ns, 1)
    taken = [SampleStore() for _ in workers[0].loop.names]
    meter, left, last = NoiseMeter(), values, clock_ns()
    while left:
        count = min(at_once, left)
        if renews:
            _renew(workers[0])
        _store(_together(workers, count), taken)
        left -= count
        meter.end_block()
        if left and clock_ns() - last > _PART_NS:
            last = clock_ns()
            on_part(1 - left / values)
    return Attempt(taken, warmup_rounds, steady, meter.noise(), math.ceil(values / at_once) if renews else 1)


def _store(samples: Iterable[Sequence[Batch]], taken: Sequence[SampleStore]) -> None:
    """Append the samples of each step to *taken*."""
    for batches in samples:
        for store, batch in zip(taken, batches, strict=True):
            store.add(batch)


def _warm_up(workers: Sequence[Worker], budget: int) -> tuple[int, int, bool]:
    """Run rounds until two consecutive blocks have equal medians; return ns per round, rounds, and success."""
    _together(workers, 1)
    # The first round also builds page tables. The time of the second gives the number of rounds in a block.
    round_ns = _duration_ns(lambda: _together(workers, 1))
    block = _fitting(budget / _WARMUP_BLOCKS, round_ns, least=3)
    rounds, before = 2, None
    for _ in range(_WARMUP_BLOCKS):
        start = clock_ns()
        batches = _together(workers, block)[0]
        round_ns = max((clock_ns() - start) // block, 1)
        rounds += block
        if before is not None and _all_settled(before, batches):
            return round_ns, rounds, True
        before = batches
    return round_ns, rounds, False


def _all_settled(before: Sequence[Batch], after: Sequence[Batch]) -> bool:
    """Return whether no step's median changed between two successive blocks."""
    return all(settled(a.ns, b.ns) for a, b in zip(before, after, strict=True))


def _together(workers: Sequence[Worker], count: int) -> list[list[Batch]]:
    """Let every worker do *count* rounds, all starting at the same moment, and return their samples."""
    if len(workers) == 1:
        return [workers[0].loop.run(count)]
    # This import loads logging. On an emulated CPU the imports of a run take seconds, and most runs have one thread.
    from concurrent.futures import ThreadPoolExecutor

    gate = Gate(len(workers))
    with ThreadPoolExecutor(len(workers)) as threads:
        runs = [threads.submit(worker.loop.run, count, gate) for worker in workers]
    failures = [failure for run in runs if (failure := run.exception()) is not None]
    if failures:
        # Threads that waited in vain have a ToolError. The thread that did not arrive at the gate has the reason.
        raise min(failures, key=lambda one: isinstance(one, ToolError))
    return [run.result() for run in runs]
