# SPDX-License-Identifier: MIT
"""Watch the maps of another process with probes on the kernel's functions."""

import os
import select
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from iommufd_py.base.errors import SkipError, ToolError
from iommufd_py.explain import calls, pieces
from iommufd_py.explain.pieces import FAULT_IN, ZEROING, Measured, WorkPiece
from iommufd_py.host.map_parts import PARTS, RETURN
from iommufd_py.host.tracefs import NoSymbolError, Trace, require_host_pids

_ALL_PARTS: Mapping[str, tuple[str, ...]] = {
    FAULT_IN: ("handle_mm_fault", "memfd_alloc_folio"),
    ZEROING: ("folio_zero_user", "clear_huge_page"),
    # iommu_map() calls iommu_map_nosync(): probes on both cost twice as much and tell no more.
    **{part: tuple(one for one in functions if one != "iommu_map_nosync") for part, functions in PARTS.items()},
}
PART_NAMES = tuple(_ALL_PARTS)
"""The parts of an ioctl's time, in the order of a map."""

# enum fault_flag in include/linux/mm_types.h: the flag of a fault in user space, which is not part of an ioctl.
_FAULT_FLAG_USER = 64
_FAULT = "handle_mm_fault"
_FAULT_FLAGS = {"flags": "$arg3:u32"}
_FIELDS = {pieces.MAP_FUNCTION: {"iova": "$arg2:x64", "length": "$arg4:u64"}}

_POLL_SECONDS = 0.1
_MOST_BUFFER_BYTES = 8 << 20
_ALL_BUFFERS_BYTES = 256 << 20
_FULL = 0.5
# A system call that has no effect. Every kernel has it under one of these names.
_NOTHING = ("__x64_sys_getppid", "__arm64_sys_getppid", "__se_sys_getppid")
_BATCHES, _CALLS = 5, 1000


@dataclass(frozen=True, slots=True)
class Watched:
    """The observed ioctls of a process.

    Attributes:
        seconds: duration of the watch.
        ended: whether the process ended during the watch.
        interrupted: whether a signal ended the watch early.
        ioctls: the ioctls that mapped, unmapped or pinned.
        invisible: parts without a function that can be probed on this kernel.
        pair_s: seconds that the two probes of one call take; None if it could not be measured.
        recorded_s: seconds in which every event was recorded.
        unreadable: number of pieces of ioctls that could not be read.
        ioctls_dropped: whether later ioctls are missing, because there were too many.
    """

    seconds: float
    ended: bool
    interrupted: bool
    ioctls: tuple[Measured, ...]
    invisible: tuple[str, ...]
    pair_s: float | None
    recorded_s: float
    unreadable: int
    ioctls_dropped: bool


def watch(pid: int, seconds: float, begun: Callable[[], None]) -> Watched:
    """Record the ioctls of a process and their parts until it ends, *seconds* have passed, or Ctrl-C.

    *begun* is called when all probes are set.

    Raises:
        SkipError: this machine cannot trace, or its kernel has no function to probe.
        ToolError: the process has ended.
    """
    require_host_pids()
    pair_s = probe_seconds()
    with _handle(pid) as handle, ExitStack() as stack:
        size = min(_MOST_BUFFER_BYTES, _ALL_BUFFERS_BYTES // (os.cpu_count() or 1))
        listed = stack.enter_context(Trace("mono_raw", size, keep_oldest=True))
        parts = stack.enter_context(Trace("mono_raw", size, keep_oldest=True))
        for trace in (listed, parts):
            trace.follow(_threads(pid))
            _probe_ioctls(trace)
        part_of = _probe_parts(parts)
        listed.clear()
        recorder = _Recorder(parts, part_of)
        start, ended, interrupted = _now(), False, False
        try:
            begun()
            while not ended and (left := start + seconds - _now()) > 0:
                ended = bool(select.select([handle], [], [], min(left, _POLL_SECONDS))[0])
                recorder.take_if_full()
        except KeyboardInterrupt:
            interrupted = True
        end = _now()
        recorder.take()
        records, complete = listed.take()
    found = pieces.measured(
        calls.calls_of(record for record in records if record.time <= min(end, complete)), recorder.pieces
    )
    return Watched(
        seconds=end - start,
        ended=ended,
        interrupted=interrupted,
        ioctls=tuple(found),
        invisible=tuple(name for name in PART_NAMES if name not in part_of.values()),
        pair_s=pair_s,
        recorded_s=recorder.seconds,
        unreadable=recorder.unreadable,
        ioctls_dropped=complete < end,
    )


class _Recorder:
    """Records the parts in intervals. In the gaps between them it reads the full buffer."""

    def __init__(self, trace: Trace, part_of: Mapping[str, str]) -> None:
        self._trace = trace
        self._part_of = part_of
        self.pieces: list[WorkPiece] = []
        self.seconds = 0.0
        self.unreadable = 0
        trace.clear()
        self._start = _now()

    def take_if_full(self) -> None:
        """Read the buffer if it is nearly full, and begin another interval."""
        if self._trace.fill() >= _FULL:
            self.take()
            self._start = _now()
            self._trace.resume()

    def take(self) -> None:
        """End the interval, and read its events."""
        end = _now()
        records, complete = self._trace.take()
        end = min(end, complete)
        found, unreadable = pieces.pieces_of(records, self._start, end, self._part_of)
        self.pieces += found
        self.unreadable += unreadable
        self.seconds += max(0.0, end - self._start)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)


@contextmanager
def _handle(pid: int) -> Iterator[int]:
    """Open a descriptor that becomes readable when the process ends."""
    try:
        handle = os.pidfd_open(pid)
    except OSError as failure:
        raise ToolError(f"process {pid} cannot be watched: {failure.strerror}") from None
    try:
        yield handle
    finally:
        os.close(handle)


def _threads(pid: int) -> Collection[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    raise ToolError(f"process {pid} has ended")


def _probe_ioctls(trace: Trace) -> None:
    found = 0
    for function in calls.FUNCTIONS:
        with suppress(NoSymbolError):
            trace.probe(function, calls.FIELDS)
            trace.probe(function, calls.RESULT, name=function + RETURN, at_return=True)
            found += 1
    if not found:
        raise SkipError("this kernel has no function of iommufd or VFIO that can be probed: are the modules loaded?")


def _probe_parts(trace: Trace) -> dict[str, str]:
    """Set the probes of all parts, and return the part of each function that this kernel has."""
    found = {}
    for part, functions in _ALL_PARTS.items():
        for function in functions:
            with suppress(NoSymbolError):
                if function == _FAULT:
                    _probe_faults(trace)
                else:
                    trace.probe(function, _FIELDS.get(function))
                    trace.probe(function, name=function + RETURN, at_return=True)
                found[function] = part
    return found


def _probe_faults(trace: Trace) -> None:
    """Record the page faults of the kernel, for example for a pin."""
    try:
        # Since 6.9 a return probe can read the arguments of the call.
        trace.probe(_FAULT, _FAULT_FLAGS, name=_FAULT + RETURN, at_return=True)
    except NoSymbolError:
        # On older kernels, faults of user space fill the buffer too, and are left out afterwards.
        trace.probe(_FAULT, name=_FAULT + RETURN, at_return=True)
        trace.probe(_FAULT)
        return
    trace.probe(_FAULT, _FAULT_FLAGS)
    for name in (_FAULT, _FAULT + RETURN):
        trace.select(name, f"!(flags & {_FAULT_FLAG_USER})")


def probe_seconds() -> float | None:
    """Return the seconds that two probes take, at the entry and at the return of a function; None if not measurable.

    The time includes the write of both events. The probed function is a system call that has no effect.
    """
    with Trace("mono_raw", 1 << 20) as trace:
        bare = _shortest()
        for function in _NOTHING:
            with suppress(NoSymbolError):
                trace.probe(function)
                trace.probe(function, name=function + RETURN, at_return=True)
                return max(0.0, _shortest() - bare)
    return None


def _shortest() -> float:
    """Return the seconds of one call in the fastest of some batches."""
    batches = []
    for _ in range(_BATCHES):
        start = time.perf_counter()
        for _ in range(_CALLS):
            os.getppid()
        batches.append(time.perf_counter() - start)
    return min(batches) / _CALLS
