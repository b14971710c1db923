# SPDX-License-Identifier: MIT
"""Convert the records of the trace into the events that the judge reads. Pure.

Threads: all events of our own threads count. A kernel thread may work for us (workqueue, padata) or for others, so only
its events on pages and domains of the scenario count; the judge knows these. Events of other processes are not
recorded, see :meth:`~iommufd_py.validate.probes.Probes.follow`.

Flushes: the kernel calls a known function (``arch_flush_cache_phys``) for a range. Inside it, a loop executes the flush
instruction for each line. If the loop is a function with a probe, its calls tell which lines were flushed. If not, the
whole range counts as flushed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.host.trace_records import TraceRecord
from iommufd_py.validate.addresses import PageStructs
from iommufd_py.validate.events import (
    BEGIN,
    END,
    Event,
    Flush,
    Map,
    MapFailed,
    NewDomain,
    StepBegin,
    StepEnd,
    Synced,
    Unmap,
    Unpin,
)

_SYNCHRONOUS = "iommu_unmap"  # invalidates the IOTLB before it returns, unlike iommu_unmap_fast()


@dataclass(frozen=True, slots=True)
class Layout:
    """Facts about this kernel, needed to read the records.

    Attributes:
        structs: the array of struct page.
        direct_map: address of the direct map; None if unknown. The addresses of the loops then cannot be used.
        sees_sync: whether IOTLB invalidations by this IOMMU's driver are recorded.
    """

    structs: PageStructs
    direct_map: int | None = None
    sees_sync: bool = True


@dataclass(slots=True)
class Observed:
    """The events of a scenario.

    Attributes:
        events: the events for the judge.
        calls: the calls of the flush function and the marks of the steps, to compare with counters.
        inside_seen: whether the loop inside the flush function was recorded.
        unnamed: functions that flush outside the known flush functions.
    """

    events: list[Event] = field(default_factory=list)
    calls: list[Event] = field(default_factory=list)
    inside_seen: bool = False
    unnamed: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The loop in function *symbol* flushes a range."""

    phys: int
    length: int
    symbol: str
    own: bool


@dataclass(frozen=True, slots=True)
class _Everything:
    """The function *symbol* writes back and invalidates all caches."""

    symbol: str
    own: bool


_Raw = tuple[int, "Event | _Lines | _Everything"]


def read_records(
    records: Iterable[TraceRecord], layout: Layout, threads: Collection[int], frames: Collection[int] = ()
) -> Observed:
    """Read the records of a scenario.

    Args:
        records: the records, in the order of the events.
        layout: facts about the kernel.
        threads: the threads of this process.
        frames: frame numbers of the scenario's pages. An IOMMU driver flushes its own tables by the same loops.
    """
    raw = [
        (tid, event)
        for tid, event in _raw_events(records, layout, threads)
        if not (isinstance(event, Flush | _Lines) and not event.own and not _touches(event, frames))
    ]
    calls = [(tid, event) for tid, event in raw if isinstance(event, Flush)]
    lines = [event for _, event in raw if isinstance(event, _Lines)]
    observed = Observed(calls=[event for _, event in raw if isinstance(event, Flush | StepBegin | StepEnd)])
    if not calls:
        ours = [event for event in lines if _touches(event, frames)]
        everything = [event for _, event in raw if isinstance(event, _Everything) and event.own]
        observed.unnamed = {event.symbol for event in ours} | {event.symbol for event in everything}
        observed.events = [
            Flush(event.phys, event.length, event.own) if isinstance(event, _Lines) else event
            for _, event in raw
            if not isinstance(event, _Everything) and not (isinstance(event, _Lines) and not _touches(event, frames))
        ]
        return observed
    observed.inside_seen = _any_inside(calls, lines)
    observed.events = list(_done(raw) if observed.inside_seen else _claimed(raw))
    return observed


def _touches(flush: Flush | _Lines, frames: Collection[int]) -> bool:
    first, last = flush.phys // PAGE_BYTES, (flush.phys + max(flush.length, 1) - 1) // PAGE_BYTES
    if last - first > len(frames):
        return any(first <= frame <= last for frame in frames)
    return any(frame in frames for frame in range(first, last + 1))


def _any_inside(calls: Sequence[tuple[int, Flush]], lines: Sequence[_Lines]) -> bool:
    frames: set[int] = set()
    for _, call in calls:
        if call.length < 1 << 30:
            frames.update(range(call.phys // PAGE_BYTES, -(-(call.phys + call.length) // PAGE_BYTES)))
    return any(_touches(one, frames) for one in lines)


def _claimed(raw: Sequence[_Raw]) -> Iterator[Event]:
    """Take the whole range of each call of the flush function as flushed."""
    for _, event in raw:
        if not isinstance(event, _Lines | _Everything):
            yield event


def _done(raw: Sequence[_Raw]) -> Iterator[Event]:
    """Replace each call of the flush function by the lines that its loop flushed, each line once."""
    under_way: dict[int, tuple[Flush, list[tuple[int, int]]]] = {}
    for tid, event in raw:
        if isinstance(event, Flush):
            under_way[tid] = event, [(event.phys, event.phys + event.length)]
        elif isinstance(event, _Everything):
            if tid in under_way:
                call, left = under_way.pop(tid)
                for first, end in left:
                    yield Flush(first, end - first, call.own)
        elif isinstance(event, _Lines):
            found = _call_of(event, tid, under_way)
            if found is None:
                # A kernel thread flushes for a call that has ended or was not recorded.
                if not event.own:
                    yield Flush(event.phys, event.length, own=False)
                continue
            call, left = found
            for first, end in _cut(left, event.phys, event.phys + event.length):
                yield Flush(first, end - first, call.own)
        else:
            under_way.pop(tid, None)
            yield event


def _call_of(
    lines: _Lines, tid: int, under_way: dict[int, tuple[Flush, list[tuple[int, int]]]]
) -> tuple[Flush, list[tuple[int, int]]] | None:
    """Return the flush call to which a loop belongs: the call of the same thread, or a call that covers the range."""
    if tid in under_way:
        return under_way[tid]
    if lines.own:
        return None
    for call, left in under_way.values():
        if call.phys <= lines.phys and lines.phys + lines.length <= call.phys + call.length:
            return call, left
    return None


def _cut(left: list[tuple[int, int]], first: int, end: int) -> list[tuple[int, int]]:
    """Remove a range from the ranges *left*, and return the removed parts."""
    taken, kept = [], []
    for low, high in left:
        start, stop = max(low, first), min(high, end)
        if start >= stop:
            kept.append((low, high))
            continue
        taken.append((start, stop))
        kept += [part for part in ((low, start), (stop, high)) if part[0] < part[1]]
    left[:] = kept
    return taken


def _raw_events(records: Iterable[TraceRecord], layout: Layout, threads: Collection[int]) -> Iterator[_Raw]:
    maps: dict[int, Map] = {}
    domains: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    before: dict[int, TraceRecord] = {}
    for record in records:
        tid, own = record.tid, record.tid in threads
        if record.name == "tracing_mark_write":
            if own:
                yield from ((tid, mark) for mark in _mark(record.text))
            continue
        numbers = {name: value for name, value in record.fields().items() if isinstance(value, int)}
        kind, _, symbol = record.name.partition("__")
        last, before[tid] = before.get(tid), record
        match kind:
            case "flush":
                yield tid, Flush(numbers["phys"], numbers["length"], own)
            case "lines" if layout.direct_map is not None and not _is_nested(last, record):
                if numbers["virt"] >= layout.direct_map:
                    yield tid, _Lines(numbers["virt"] - layout.direct_map, numbers["length"], symbol, own)
            case "everything":
                yield tid, _Everything(symbol, own)
            case "map":
                one = Map(numbers["domain"], numbers["iova"], numbers["phys"], numbers["length"])
                maps[tid] = one
                yield tid, one
            case "mapped" if numbers["result"] < 0 and tid in maps:
                failed = maps[tid]
                yield tid, MapFailed(failed.domain, failed.iova, failed.length)
            case "unmap":
                pending = layout.sees_sync or symbol == _SYNCHRONOUS
                yield tid, Unmap(numbers["domain"], numbers["iova"], numbers["length"], pending)
                if symbol == _SYNCHRONOUS:
                    domains[tid, symbol].append(numbers["domain"])
            case "sync":
                domains[tid, symbol].append(numbers["domain"])
            case "unmapped" | "synced" if domains[tid, symbol]:
                yield tid, Synced(domains[tid, symbol].pop())
            case "unpin" if not _is_nested(last, record):
                yield from ((tid, event) for event in _unpins(record, layout.structs))
            case "domain" if own:
                yield tid, NewDomain(numbers["domain"])


def _is_nested(last: TraceRecord | None, record: TraceRecord) -> bool:
    """Return whether a record belongs to a function that a probed function called with the same arguments.

    ``unpin_user_pages_dirty_lock()`` calls ``unpin_user_pages()``, ``clflush_cache_range()`` its own loop.
    """
    if last is None or last.name == record.name or last.name.split("__")[0] != record.name.split("__")[0]:
        return False
    return _arguments(last) == _arguments(record)


def _arguments(record: TraceRecord) -> str:
    return record.text[record.text.find(")") + 1 :].strip()


def _unpins(record: TraceRecord, structs: PageStructs) -> Iterator[Unpin]:
    fields = record.fields()
    page, count = fields.get("page"), fields.get("count", 1)
    if isinstance(page, int) and isinstance(count, int):
        yield Unpin(structs.frame(page), count)
        return
    for address in page_addresses(record):
        yield Unpin(structs.frame(address), 1)


def page_addresses(record: TraceRecord) -> list[int]:
    """Return the struct pages of an unpin: the first one of a range, or the recorded ones of an array."""
    fields = record.fields()
    page, count = fields.get("page"), fields.get("count", 0)
    if isinstance(page, int):
        return [page]
    listed = str(fields.get("pages", "")).strip("{}").split(",")
    # "(fault)" is an element that the kernel could not read.
    return [int(one, 0) for one in listed[: count if isinstance(count, int) else 0] if one[:1].isdigit()]


def _mark(text: str) -> Iterator[Event]:
    kind, _, index = text.partition(" ")
    if kind == BEGIN:
        yield StepBegin(int(index))
    elif kind == END:
        yield StepEnd(int(index))
