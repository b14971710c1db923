# SPDX-License-Identifier: MIT
"""Divide the kernel's time by probes on its functions. Probes cost time, so this is separate from the timing."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.errors import SkipError, ToolError
from iommufd_py.bench.workloads import set_up
from iommufd_py.host.map_parts import PARTS, RETURN, divide
from iommufd_py.host.trace_records import TraceRecord
from iommufd_py.host.tracefs import NoSymbolError, Trace, require_host_pids
from iommufd_py.results.breakdown import REST, Breakdown, Part
from iommufd_py.results.model import Point, Workload
from iommufd_py.results.report import row_name
from iommufd_py.uapi.bench import Loop

# The kernel's function behind each ioctl. Its time is the whole.
_WHOLES = {
    "IOMMU_IOAS_MAP": "iommufd_ioas_map",
    "IOMMU_IOAS_MAP_FILE": "iommufd_ioas_map_file",
    "IOMMU_IOAS_COPY": "iommufd_ioas_copy",
    "IOMMU_IOAS_UNMAP": "iommufd_ioas_unmap",
    "IOMMU_HWPT_ALLOC": "iommufd_hwpt_alloc",
    "IOMMU_DESTROY": "iommufd_destroy",
}
_PART_OF = {symbol: name for name, symbols in PARTS.items() for symbol in symbols}
_WARMUP_ROUNDS = 3
_BUFFER_BYTES = 64 << 20
_SECOND_NS = 1_000_000_000


def break_down(
    device: str,
    points: Iterable[Point],
    coherency: Coherency = Coherency.ANY,
    rounds: int = 5,
    vf_token: UUID | None = None,
) -> Iterator[Breakdown]:
    """Divide the time of the operations of each point.

    Raises:
        SkipError: this kernel cannot be probed, or does not have the functions.
        LostEventsError: an operation has more events than the buffer holds; trace a smaller size.
    """
    require_host_pids()
    for point in points:
        if point.threads > 1 or point.backend is not ContainerMode.IOMMUFD:
            raise ToolError("only one thread on an iommufd can be traced: leave --threads and --backend out")
        if point.workload in (Workload.CLOSE, Workload.DMA):
            raise ToolError(f"{point.workload} is not a series of ioctls and cannot be traced: trace map or teardown")
        with (
            set_up(point, device, coherency, vf_token=vf_token) as setup,
            Trace("mono_raw", _BUFFER_BYTES) as buffer,
        ):
            (worker,) = setup.workers
            assert isinstance(worker.loop, Loop)
            wholes = {_WHOLES[step.ioctl]: step.name for step in worker.loop.steps}
            worker.loop.run(_WARMUP_ROUNDS)
            for symbol in (*wholes, *_PART_OF):
                try:
                    buffer.probe(symbol)
                    buffer.probe(symbol, name=symbol + RETURN, at_return=True)
                except NoSymbolError:
                    if symbol in wholes:
                        raise SkipError(f"this kernel's {symbol} cannot be probed: it may be inlined") from None
            buffer.clear()
            worker.loop.run(rounds)
            records = buffer.read()
        yield from breakdowns(records, wholes, rounds, threading.get_native_id(), row_name(point))


def breakdowns(
    records: Sequence[TraceRecord], wholes: Mapping[str, str], rounds: int, tid: int, row: str
) -> Iterator[Breakdown]:
    """Make a breakdown of each operation from the events of all.

    Args:
        records: events of the probes.
        wholes: the operation of each function.
        rounds: number of times that each operation was done.
        tid: the thread of the operations.
        row: name of the row.
    """
    mine = [record for record in records if record.tid == tid]
    for symbol, operation in wholes.items():
        times = split(mine, symbol)
        parts = [Part(name, ns, calls) for name, (ns, calls) in times.items()]
        whole = sum(part.ns for part in parts)
        order = [*PARTS, REST]
        parts.sort(key=lambda part: order.index(part.name))
        yield Breakdown(f"{operation}, {row}", rounds, whole, tuple(parts))


def split(records: Sequence[TraceRecord], whole: str) -> dict[str, tuple[int, int]]:
    """Return time in ns and calls of each part within the calls of the function *whole*.

    Raises:
        ToolError: a return does not belong to the call before it.
    """
    times: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for start, within, end in _calls(records, whole):
        for name, part in divide(within, start, end, _PART_OF).items():
            times[name] += round(part.seconds * _SECOND_NS)
            calls[name] += part.calls
    return {name: (ns, calls[name]) for name, ns in times.items()}


def _calls(records: Sequence[TraceRecord], whole: str) -> Iterator[tuple[float, list[TraceRecord], float]]:
    """Yield the start of each call of the function *whole*, the events in it, and its end."""
    start: float | None = None
    within: list[TraceRecord] = []
    for record in records:
        if start is None:
            start = record.time if record.name == whole else None
        elif record.name == whole + RETURN:
            yield start, within, record.time
            start, within = None, []
        else:
            within.append(record)
    if start is not None:
        yield start, within, within[-1].time if within else start
