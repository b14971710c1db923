# SPDX-License-Identifier: MIT
"""The parts of ioctls within the intervals in which every event was recorded. Pure.

A long map has more events than any buffer can hold. So events are recorded in intervals, with gaps between them. A
piece is the work of one ioctl of one thread in one interval.
"""

import bisect
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from iommufd_py.base.errors import ToolError
from iommufd_py.explain.calls import FUNCTIONS, Request, TracedIoctl, is_return
from iommufd_py.host.map_parts import PartTime, add_parts, divide, functions_at_start
from iommufd_py.host.trace_records import TraceRecord

FAULT_IN = "fault-in"
ZEROING = "zeroing of huge pages"
REST = "rest"
"""The work of iommufd or type1 itself: batches of pages, locks, accounting."""
MAP_FUNCTION = "iommu_map"
# A process also calls these functions for other reasons, so they alone do not show a map.
_NO_SIGN = frozenset({FAULT_IN, ZEROING, REST})


@dataclass(frozen=True, slots=True)
class WorkPiece:
    """The work of a thread in an interval.

    Attributes:
        start: start in seconds of the trace's clock.
        end: end in seconds of the trace's clock.
        sure: whether the thread was in an ioctl during the whole interval. If not, only the list of ioctls shows that.
        parts: time by part.
        runs: number of physically contiguous runs by their bytes that went into page tables.
        first_iova: IOVA of the first run; None without runs.
        probed: number of calls of functions with probes.
    """

    tid: int
    start: float
    end: float
    sure: bool
    parts: Mapping[str, PartTime]
    runs: Mapping[int, int]
    first_iova: int | None
    probed: int


@dataclass(frozen=True, slots=True)
class Measured:
    """An ioctl with its parts.

    Attributes:
        call: the ioctl.
        iova: first IOVA, which the kernel may have chosen; None if unknown.
        seen_s: seconds of the ioctl in which its parts were recorded.
        parts: time by part, within those seconds.
        runs: number of physically contiguous runs by their bytes, within those seconds.
        probed: number of calls of functions with probes, within those seconds.
        begun_before: whether the ioctl began before the probes were set. Then its name and its end are unknown.
    """

    call: TracedIoctl
    iova: int | None = None
    seen_s: float = 0.0
    parts: Mapping[str, PartTime] = field(default_factory=dict)
    runs: Mapping[int, int] = field(default_factory=dict)
    probed: int = 0
    begun_before: bool = False

    @property
    def seconds(self) -> float:
        """Seconds from the entry to the return; without a return, the recorded seconds."""
        return self.seen_s if self.call.end is None else self.call.end - self.call.start


def pieces_of(
    records: Iterable[TraceRecord], start: float, end: float, part_of: Mapping[str, str]
) -> tuple[list[WorkPiece], int]:
    """Return the pieces of the interval from *start* to *end*, and the number of unreadable pieces."""
    threads: dict[int, list[TraceRecord]] = defaultdict(list)
    for record in records:
        if start <= record.time <= end:
            threads[record.tid].append(record)
    found: list[WorkPiece] = []
    unreadable = 0
    for tid, events in threads.items():
        for since, until, sure, within in _segments(events, start, end):
            try:
                found.append(_piece(tid, since, until, sure, within, part_of, start))
            except ToolError:
                unreadable += 1
    return found, unreadable


def _segments(
    events: Sequence[TraceRecord], start: float, end: float
) -> Iterable[tuple[float, float, bool, list[TraceRecord]]]:
    """Divide the events of a thread at the entries and returns of its ioctls. Leave out events outside ioctls."""
    since: float | None = start
    sure = False
    within: list[TraceRecord] = []
    for record in events:
        if record.name in FUNCTIONS:
            if since is not None and within:
                yield since, within[-1].time, False, within
            since, sure, within = record.time, True, []
        elif is_return(record):
            if since is not None:
                yield since, record.time, True, within
            since, within = None, []
        elif since is not None:
            within.append(record)
    if since is not None and (sure or within):
        yield since, end, sure, within


def _piece(
    tid: int,
    since: float,
    until: float,
    sure: bool,
    within: Sequence[TraceRecord],
    part_of: Mapping[str, str],
    start: float,
) -> WorkPiece:
    begun = functions_at_start(within) if since == start else ()
    parts = divide(within, since, until, part_of, begun=begun, rest=REST)
    maps = [record.fields() for record in within if record.name == MAP_FUNCTION]
    runs = Counter(length for one in maps if isinstance(length := one.get("length"), int))
    iova = maps[0].get("iova") if maps else None
    return WorkPiece(tid, since, until, sure, parts, runs, iova if isinstance(iova, int) else None, len(within) // 2)


def measured(calls: Sequence[TracedIoctl], pieces: Sequence[WorkPiece]) -> list[Measured]:
    """Assign the pieces to the ioctls. Work of an ioctl that began before the probes were set comes first.

    An ioctl is left out if it neither maps nor unmaps and has no work in any part.
    """
    threads: dict[int, list[int]] = defaultdict(list)
    for at, call in enumerate(calls):
        threads[call.tid].append(at)
    starts = {tid: [calls[at].start for at in numbers] for tid, numbers in threads.items()}
    found: dict[int, list[WorkPiece]] = defaultdict(list)
    strays: dict[int, list[WorkPiece]] = defaultdict(list)
    for piece in pieces:
        middle = (piece.start + piece.end) / 2
        before = bisect.bisect_right(starts.get(piece.tid, []), middle)
        owner = threads[piece.tid][before - 1] if before else None
        if owner is not None and middle <= (calls[owner].end or math.inf):
            found[owner].append(piece)
        elif not piece.sure and _worked(piece.parts):
            strays[piece.tid].append(piece)
    begun = [
        _sum(TracedIoctl(Request("begun before"), tid, of_thread[0].start, None, None), of_thread, begun_before=True)
        for tid, of_thread in strays.items()
    ]
    sums = [_sum(call, found[at]) for at, call in enumerate(calls)]
    return begun + [one for one in sums if one.call.request.is_map or one.call.request.is_unmap or _worked(one.parts)]


def _worked(parts: Mapping[str, PartTime]) -> bool:
    return any(part.calls for name, part in parts.items() if name not in _NO_SIGN)


def _sum(call: TracedIoctl, pieces: Sequence[WorkPiece], *, begun_before: bool = False) -> Measured:
    runs: Counter[int] = Counter()
    for piece in pieces:
        runs.update(piece.runs)
    parts = add_parts(piece.parts for piece in pieces)
    iova = call.request.iova
    if iova is None:
        iova = next((piece.first_iova for piece in pieces if piece.first_iova is not None), None)
    seen = sum(piece.end - piece.start for piece in pieces)
    probed = sum(piece.probed for piece in pieces)
    return Measured(call, iova, seen, parts, dict(sorted(runs.items())), probed, begun_before)
