# SPDX-License-Identifier: MIT
"""Measure the other activity on the machine during a benchmark, block by block, outside the timed parts."""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.results.model import Noise
from iommufd_py.results.noise import MOST_SLOWDOWN
from iommufd_py.uapi.bench import clock_ns

_STAT = Path("/proc/stat")
# Columns of the line "cpu" in /proc/stat (Documentation/filesystems/proc.rst): user to steal add up to all time.
_ALL_TIME = 8
_STEAL_COLUMN = 7
# The fixed piece of work takes about 30 us natively. The fastest of three counts, to exclude interrupts.
_WORK = range(3000)
_WORK_TRIES = 3
_CLOCK_TRIES = 3
# Two clocks are read one after the other. A smaller difference is the time between the reads.
_CLOCK_NOISE_NS = 1_000_000
_LEAST_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """One reading of /proc/stat: all CPU time and stolen time in ticks (None: unknown), and runnable tasks."""

    total: int
    steal: int | None
    runnable: int

    @staticmethod
    def parse(text: str) -> "CpuTimes":
        """Parse the text of /proc/stat."""
        lines = dict(line.split(None, 1) for line in text.splitlines() if " " in line)
        ticks = [int(word) for word in lines["cpu"].split()]
        return CpuTimes(
            sum(ticks[:_ALL_TIME]),
            ticks[_STEAL_COLUMN] if len(ticks) > _STEAL_COLUMN else None,
            int(lines["procs_running"]),
        )


class NoiseMeter:
    """Readings between blocks of samples. Call :meth:`end_block` after each block.

    A block begins when the one before ends. If the process slept meanwhile, call :meth:`begin_block`.

    Attributes:
        work_ns: the longest time of a fixed piece of work before, in and after each block.
    """

    def __init__(self) -> None:
        self._first = CpuTimes.parse(_STAT.read_text())
        self._last = self._first
        self._switches = _switches()
        self._slowest_ns = _work_ns()
        self.work_ns: list[int] = []
        self._waiting: list[int] = []
        self._clock_jump = 0.0
        self._start_ns = clock_ns()
        self._clocks = _both_clocks()

    def begin_block(self) -> None:
        """Take the speed of the CPU before a block."""
        self._slowest_ns = _work_ns()

    def look_at_speed(self) -> None:
        """Take the speed of the CPU between two parts of a block."""
        self._slowest_ns = max(self._slowest_ns, _work_ns())

    def end_block(self) -> None:
        """Take the readings of the block that has just ended."""
        raw, real = _both_clocks()
        elapsed, jump = raw - self._clocks[0], abs((real - self._clocks[1]) - (raw - self._clocks[0]))
        if jump > _CLOCK_NOISE_NS:
            self._clock_jump = max(self._clock_jump, jump / max(elapsed, 1))
        self._last = CpuTimes.parse(_STAT.read_text())
        self._waiting.append(max(self._last.runnable - 1, 0))  # One of these tasks is this process.
        end_ns = _work_ns()
        self.work_ns.append(max(self._slowest_ns, end_ns))
        self._slowest_ns = end_ns
        self._clocks = _both_clocks()

    def keep(self, numbers: Sequence[int]) -> None:
        """Forget the speed of the CPU in all other blocks, because their samples do not count."""
        self.work_ns = [self.work_ns[number] for number in numbers]

    def noise(self) -> Noise:
        """Return the noise of all blocks together."""
        seconds = max(clock_ns() - self._start_ns, 1) / 1e9
        ticks = self._last.total - self._first.total
        steal = None
        if self._last.steal is not None and self._first.steal is not None:
            steal = (self._last.steal - self._first.steal) / ticks if ticks > 0 else 0.0
        return Noise(
            steal=steal,
            switches=(_switches() - self._switches) / seconds,
            waiting=sum(self._waiting) / len(self._waiting) if self._waiting else 0.0,
            clock_jump=self._clock_jump,
            slowdown=max(self.work_ns, default=1) / min(self.work_ns, default=1),
        )


def fast_blocks(work_ns: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers of the blocks in which the CPU was fast for all guests.

    The CPU was slow in a block if a fixed piece of work took more than 15 % longer than around the fastest block.

    Args:
        work_ns: the time of this work for each guest and block. All guests run on the same CPU.
    """
    bound = min(map(min, work_ns)) * MOST_SLOWDOWN
    return [number for number, block in enumerate(zip(*work_ns, strict=True)) if max(block) <= bound]


def blocks_to_keep(work_ns: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers of the blocks whose samples count: those with a fast CPU.

    If they are fewer than three, the blocks count in which the CPU was about as fast for each guest as for the others.
    If these are fewer than three, all blocks count.
    """
    blocks = [*zip(*work_ns, strict=True)]
    alike = [number for number, block in enumerate(blocks) if max(block) <= min(block) * MOST_SLOWDOWN]
    choices = (fast_blocks(work_ns), alike)
    return next((one for one in choices if len(one) >= _LEAST_BLOCKS), [*range(len(blocks))])


def _both_clocks() -> tuple[int, int]:
    """Return the clock of the samples and CLOCK_REALTIME at one moment.

    The fastest of some tries counts: the host can take the CPU of a guest between the two reads.
    """
    fastest, found = 1 << 62, (0, 0)
    for _ in range(_CLOCK_TRIES):
        before, real, after = clock_ns(), time.time_ns(), clock_ns()
        if after - before < fastest:
            fastest, found = after - before, ((before + after) // 2, real)
    return found


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _work_ns() -> int:
    fastest = 1 << 62
    for _ in range(_WORK_TRIES):
        start = clock_ns()
        sum(_WORK)
        fastest = min(fastest, clock_ns() - start)
    return max(fastest, 1)
