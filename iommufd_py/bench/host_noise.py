# SPDX-License-Identifier: MIT
"""Measure the activity of a host while a guest on it is timed."""

import re
import time
from pathlib import Path

from iommufd_py.bench.noise import CpuTimes

_STAT = Path("/proc/stat")
# Documentation/accounting/psi.rst: microseconds in which a runnable task waited for a CPU. Absent without PSI.
_PRESSURE = Path("/proc/pressure/cpu")
_STEAL = 0.02
_WAITING = 0.20


class HostMeter:
    """Measure the activity of the host since this object was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._times = CpuTimes.parse(_STAT.read_text())
        self._waited = _waited_us()

    def disturbances(self) -> list[str]:
        """Return each disturbance since the start as a phrase with its figure; empty if the host was quiet."""
        times, waited = CpuTimes.parse(_STAT.read_text()), _waited_us()
        found = []
        if times.steal is not None and self._times.steal is not None and times.total > self._times.total:
            steal = (times.steal - self._times.steal) / (times.total - self._times.total)
            if steal > _STEAL:
                found.append(f"its hypervisor took {steal:.0%} of the CPU time")
        if waited is not None and self._waited is not None:
            waiting = (waited - self._waited) / 1e6 / max(time.monotonic() - self._start, 1e-3)
            if waiting > _WAITING:
                found.append(f"tasks waited for a CPU in {waiting:.0%} of the time")
        return found


def _waited_us() -> int | None:
    try:
        text = _PRESSURE.read_text()
    except OSError:  # there is no file, or reading fails with EOPNOTSUPP (psi=0)
        return None
    match = re.search(r"^some .*total=(\d+)", text, re.MULTILINE)
    return int(match[1]) if match else None
