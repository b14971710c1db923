# SPDX-License-Identifier: MIT
"""Measure the other activity on the machine during a benchmark, block by block, outside the timed parts."""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from iommufd_py.results.model import Noise
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
    """Readings between blocks of samples. Call :meth:`end_block` after each block."""

    def __init__(self) -> None:
        self._first = CpuTimes.parse(_STAT.read_text())
        self._last = self._first
        self._switches = _switches()
        self._work_ns = [_work_ns()]
        self._waiting: list[int] = []
        self._clock_jump = 0.0
        self._start_ns = clock_ns()
        self._clocks = _both_clocks()

    def end_block(self) -> None:
        """Take the readings of the block that has just ended."""
        raw, real = _both_clocks()
        elapsed, jump = raw - self._clocks[0], abs((real - self._clocks[1]) - (raw - self._clocks[0]))
        if jump > _CLOCK_NOISE_NS:
            self._clock_jump = max(self._clock_jump, jump / max(elapsed, 1))
        self._last = CpuTimes.parse(_STAT.read_text())
        self._waiting.append(max(self._last.runnable - 1, 0))  # One of these tasks is this process.
        self._work_ns.append(_work_ns())
        self._clocks = _both_clocks()

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
            slowdown=max(self._work_ns) / min(self._work_ns),
        )


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
