# SPDX-License-Identifier: MIT
"""Measure the activity of a host while a guest on it is timed."""

import os
import resource
import time
from collections.abc import Collection
from pathlib import Path

from iommufd_py.bench.noise import CpuTimes
from iommufd_py.results.noise import MOST_STEAL

_STAT = Path("/proc/stat")
# Columns of a line "cpuN" in /proc/stat (Documentation/filesystems/proc.rst) in which the CPU works for this host:
# user, nice, system, irq, softirq.
_WORK_COLUMNS = (0, 1, 2, 5, 6)
_OTHERS = 0.10


def work_seconds(text: str, cpus: Collection[int]) -> float:
    """Return the seconds that the CPUs *cpus* have worked, from *text*, the contents of /proc/stat."""
    ticks = 0
    for line in text.splitlines():
        name, *columns = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in cpus:
            ticks += sum(int(columns[column]) for column in _WORK_COLUMNS)
    return ticks / os.sysconf("SC_CLK_TCK")


class HostMeter:
    """Measure the activity of other processes on the host since this object was made.

    A guest runs as a child of this process. Its CPU time counts as soon as the child has ended. Pressure stall
    information does not serve here: the processes of a native guest share one CPU and wait for each other, which
    counts as pressure on an idle host too (seen: 32 to 44 % of the time).

    Args:
        cpus: the CPUs that the guest may use.
    """

    def __init__(self, cpus: Collection[int]) -> None:
        self._cpus = frozenset(cpus)
        self._start = time.monotonic()
        text = _STAT.read_text()
        self._times, self._work = CpuTimes.parse(text), work_seconds(text, self._cpus)
        self._own = _own_seconds()

    def disturbances(self) -> list[str]:
        """Return each disturbance since the start as a phrase with its figure; empty if the host was quiet."""
        text, elapsed = _STAT.read_text(), max(time.monotonic() - self._start, 1e-3)
        times, work = CpuTimes.parse(text), work_seconds(text, self._cpus) - self._work
        found = []
        if times.steal is not None and self._times.steal is not None and times.total > self._times.total:
            steal = (times.steal - self._times.steal) / (times.total - self._times.total)
            if steal > MOST_STEAL:
                found.append(f"its hypervisor took {steal:.0%} of the CPU time")
        others = (work - (_own_seconds() - self._own)) / elapsed / len(self._cpus)
        if others > _OTHERS:
            found.append(f"other processes took {others:.0%} of the guest's CPU time")
        return found


def _own_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )
