# SPDX-License-Identifier: MIT
"""What the probes saw, as values. Pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from iommufd_py.base.errors import SkipError
from iommufd_py.host.tracefs import TraceRecord


@dataclass(frozen=True, slots=True)
class Flush:
    """The CPU caches are flushed for physical memory.

    Attributes:
        own: one of our own threads flushes, not a kernel thread that may work for somebody else.
    """

    phys: int
    length: int
    own: bool = True


@dataclass(frozen=True, slots=True)
class Map:
    """Physical memory is about to be mapped into a domain."""

    domain: int
    iova: int
    phys: int
    length: int


@dataclass(frozen=True, slots=True)
class MapFailed:
    """A map failed: the domain has none of it."""

    domain: int
    iova: int
    length: int


@dataclass(frozen=True, slots=True)
class Unmap:
    """A range of a domain is about to be unmapped.

    Attributes:
        pending: the IOTLB is invalidated later, which :class:`Synced` reports.
    """

    domain: int
    iova: int
    length: int
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """The IOTLB of a domain was invalidated for all that was unmapped before."""

    domain: int


@dataclass(frozen=True, slots=True)
class Unpin:
    """Page frames are about to be unpinned."""

    frame: int
    count: int


@dataclass(frozen=True, slots=True)
class NewDomain:
    """A domain was made, perhaps where one was before."""

    domain: int


@dataclass(frozen=True, slots=True)
class StepBegin:
    """A step of the scenario begins."""

    index: int


@dataclass(frozen=True, slots=True)
class StepEnd:
    """A step of the scenario is over."""

    index: int


Event = Flush | Map | MapFailed | Unmap | Synced | Unpin | NewDomain | StepBegin | StepEnd

_BEGIN, _END = "step-begin", "step-end"


def begin_mark(index: int) -> str:
    """Return the text that marks the begin of a step in the trace."""
    return f"{_BEGIN} {index}"


def end_mark(index: int) -> str:
    """Return the text that marks the end of a step in the trace."""
    return f"{_END} {index}"


@dataclass(frozen=True, slots=True)
class PageStructs:
    """Where the kernel's array of struct page lies, to tell frame numbers from the addresses that unpins are given.

    Attributes:
        base: address of the struct page of frame 0.
        size: bytes of one.
    """

    base: int
    size: int

    @classmethod
    def solve(cls, known: Iterable[tuple[int, int]]) -> "PageStructs":
        """Find the array from (address, frame) pairs.

        Raises:
            SkipError: they are too few, or lie on no line, as with a memory model without such an array.
        """
        pairs = sorted(set(known))
        if len({frame for _, frame in pairs}) < 2:
            raise SkipError("the unpin of the pages cannot be observed: the kernel unpins them in no known way")
        (low_address, low_frame), (high_address, high_frame) = pairs[0], pairs[-1]
        size, rest = divmod(high_address - low_address, high_frame - low_frame) if high_frame > low_frame else (0, 1)
        base = low_address - low_frame * size
        if rest or any(base + frame * size != address for address, frame in pairs):
            raise SkipError("the unpin of the pages cannot be observed: struct pages do not lie in one array")
        return cls(base, size)

    def frame(self, address: int) -> int:
        """Return the frame number of a struct page."""
        return (address - self.base) // self.size


def parse_events(records: Iterable[TraceRecord], structs: PageStructs, threads: Collection[int]) -> Iterator[Event]:
    """Read the events of our own *threads*; what other processes do meanwhile is none of ours."""
    under_way: dict[int, Map] = {}
    for record in records:
        if record.tid not in threads:
            continue
        if record.name == "tracing_mark_write":
            yield from _mark(record.text)
            continue
        fields = {name: value for name, value in record.fields().items() if isinstance(value, int)}
        match record.name.split("__")[0]:
            case "flush":
                yield Flush(fields["phys"], fields["length"])
            case "map":
                one = Map(fields["domain"], fields["iova"], fields["phys"], fields["length"])
                under_way[record.tid] = one
                yield one
            case "mapped" if fields["result"] < 0 and record.tid in under_way:
                failed = under_way[record.tid]
                yield MapFailed(failed.domain, failed.iova, failed.length)
            case "unmap":
                yield Unmap(fields["domain"], fields["iova"], fields["length"])
            case "unpin":
                yield Unpin(structs.frame(fields["page"]), fields.get("count", 1))
            case "domain":
                yield NewDomain(fields["domain"])


def _mark(text: str) -> Iterator[Event]:
    kind, _, index = text.partition(" ")
    if kind == _BEGIN:
        yield StepBegin(int(index))
    elif kind == _END:
        yield StepEnd(int(index))
