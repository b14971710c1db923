# SPDX-License-Identifier: MIT
"""Each page's story, and whether it keeps the three rules. Pure.

A scenario is a row of steps, a step is one call into the kernel or a few of one kind. Every step says which pages must
be flushed on their way into a domain (`enter`) and which on their way out (`leave`), how often. The rules say where:

* Before a page is mapped into a non-coherent domain, in the same step; rule 1 if the mapping is new, 2 if the domain
  is.
* After the last unmap of the page in the step, before its unpin: rule 3.

And no flush more than that.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import ToolError
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.validate.events import Event, Flush, Map, MapFailed, NewDomain, StepBegin, StepEnd, Unmap, Unpin

_LINE_BYTES = 64
_TOLD_PARTS = 12  # of one step, in a story
_ALL_LINES = (1 << PAGE_BYTES // _LINE_BYTES) - 1
# Far more than any scenario has: what was called is no flush, and its arguments are no range.
_LONGEST_FLUSH = 1 << 30


@dataclass(frozen=True, slots=True, order=True)
class Page:
    """A page of a buffer of the scenario."""

    buffer: str
    index: int

    def __str__(self) -> str:
        return f"page {self.index} of {self.buffer}"


@dataclass(frozen=True, slots=True)
class ScenarioStep:
    """One step of a scenario, and what must be flushed in it. A page that is named twice must be flushed twice.

    Attributes:
        name: what is done.
        rule: 1 or 2, the rule by which pages enter domains in this step.
        enter: pages to be flushed before they are mapped.
        leave: pages to be flushed before they are unpinned.
        may: pages that may be flushed, and need not be.
        transient: pages of which the step leaves open how far they come, as in a map that fails: whatever is mapped
            must be flushed before, and again before it is unpinned.
        makes: coherency of the domains that are made in this step.
        frames: which page a frame number was, during the step.
    """

    name: str
    rule: int = 1
    enter: tuple[Page, ...] = ()
    leave: tuple[Page, ...] = ()
    may: tuple[Page, ...] = ()
    transient: tuple[Page, ...] = ()
    makes: Coherency | None = None
    frames: Mapping[int, Page] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule is broken.

    Attributes:
        rule: 1, 2 or 3; 0 for the kernel's answer about coherency, on which the rules stand.
        step: name of the step.
        what: the sentence, without the page.
        page: the first page it was seen at, None where it is not about a page.
        frame: its frame number.
        story: what happened to the page, from the beginning.
        others: how many more pages of the step have the same fate.
    """

    rule: int
    step: str
    what: str
    page: Page | None = None
    frame: int | None = None
    story: tuple[str, ...] = ()
    others: int = 0

    def __str__(self) -> str:
        where = f"{self.page} " if self.page else ""
        where += f"(pfn {self.frame:#x}) " if self.frame is not None else ""
        where += f"and {self.others} more " if self.others else ""
        return f"{'rule ' + str(self.rule) if self.rule else 'VFIO_DMA_CC_IOMMU'}, {self.step}: {where}{self.what}"


def judge(steps: Sequence[ScenarioStep], events: Iterable[Event]) -> list[Violation]:
    """Hold what happened against what the steps say.

    Raises:
        ToolError: a step did not do what the scenario is about, so that nothing can be said.
    """
    court = _Court(steps)
    for event in events:
        court.see(event)
    return court.violations


def judge_counts(steps: Sequence[ScenarioStep], flushed: Sequence[int]) -> list[Violation]:
    """Hold how many pages were flushed in each step against what the steps say: all that counters can decide."""
    violations = []
    for step, count in zip(steps, flushed, strict=True):
        least = len(step.enter) + len(step.leave)
        most = least + len(step.may) + 2 * len(step.transient)
        if least <= count <= most:
            continue
        rule = 3 if step.leave and not step.enter else step.rule
        violations.append(Violation(rule, step.name, f"{count} pages were flushed instead of {_span(least, most)}"))
    return violations


def _span(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _lines(offset: int, size: int) -> int:
    """Return the cache lines of a page that *size* bytes from *offset* touch, as bits."""
    first, end = offset // _LINE_BYTES, -(-(offset + size) // _LINE_BYTES)
    return (1 << end) - (1 << first)


def _slices(phys: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Cut a physical range at the pages: (frame, offset in the range, lines)."""
    at, end = phys, phys + length
    while at < end:
        frame, offset = divmod(at, PAGE_BYTES)
        size = min(PAGE_BYTES - offset, end - at)
        yield frame, at - phys, _lines(offset, size)
        at += size


def _depth(flushes: Sequence[int], lines: int) -> tuple[int, int]:
    """Return how often *lines* were flushed at least, and any line at most."""
    if all(flushed == _ALL_LINES for flushed in flushes):
        return len(flushes), len(flushes)
    bits = [1 << line for line in range(PAGE_BYTES // _LINE_BYTES)]
    depths = {bit: sum(bool(flushed & bit) for flushed in flushes) for bit in bits}
    return min(depth for bit, depth in depths.items() if bit & lines), max(depths.values())


@dataclass(slots=True)
class _Domain:
    coherency: Coherency
    name: str = ""
    mapped: dict[int, Page] = field(default_factory=dict)
    """The pages in it by IOVA, one page or a part of one each."""


@dataclass(slots=True)
class _Seen:
    """What one page saw in one step. Lines are those that were flushed since then."""

    flushes: list[int] = field(default_factory=list)
    lines_since_begin: int = 0
    lines_since_unmap: int = 0
    mapped: bool = False
    exposed: bool = False
    unflushed_in: str = ""
    unpins: int = 0
    flushed_unpins: int = 0
    flushed_before_unmap: bool = False
    flushed_after_unpin: bool = False
    unmapped_after_unpin: bool = False


class _Court:
    """Reads the events in order and judges each step when it ends."""

    def __init__(self, steps: Sequence[ScenarioStep]) -> None:
        self.violations: list[Violation] = []
        self._steps = steps
        self._step: ScenarioStep | None = None
        self._domains: dict[int, _Domain] = {}
        self._fresh: set[int] = set()
        self._named: Counter[Coherency] = Counter()
        self._seen: defaultdict[Page, _Seen] = defaultdict(_Seen)
        self._stray: list[int] = []
        # Frames that are no page of the scenario, by domain and IOVA where they were mapped in the step.
        self._foreign: dict[tuple[int, int], int] = {}
        # Those of them that were unmapped in it as well, as type1 of 6.12 tries out a domain with pages of its own.
        self._tried: set[int] = set()
        self._stories: defaultdict[Page, list[tuple[str, list[str]]]] = defaultdict(list)
        # Lines of a page through which a device could have gone past the caches.
        self._exposed: defaultdict[Page, int] = defaultdict(int)

    def see(self, event: Event) -> None:
        match event:
            case StepBegin(index):
                self._step = self._steps[index]
                self._seen.clear()
                self._stray.clear()
                self._foreign.clear()
                self._tried.clear()
                self._fresh.clear()
            case StepEnd(index):
                self._judge(self._steps[index])
                self._step = None
            case NewDomain(address) if address not in self._fresh:
                # Both the driver and the core, which calls it, tell of a new one.
                self._fresh.add(address)
                self._domains.pop(address, None)
                if self._step is not None and self._step.makes is not None:
                    self._domains[address] = _Domain(self._step.makes)
            case Flush(phys, length):
                self._flush(phys, length)
            case Map(address, iova, phys, length):
                self._map(address, iova, phys, length)
            case MapFailed(address, iova, length):
                # It may have mapped a part before it failed, and unmapped that by itself.
                self._unmap(address, iova, length, "which failed")
            case Unmap(address, iova, length):
                self._unmap(address, iova, length, "unmapped from {}")
            case Unpin(frame, count):
                self._unpin(frame, count)

    def _page(self, frame: int) -> Page | None:
        return None if self._step is None else self._step.frames.get(frame)

    def _flush(self, phys: int, length: int) -> None:
        if length > _LONGEST_FLUSH:
            self._stray.append(phys // PAGE_BYTES)
            return
        for frame, _, lines in _slices(phys, length):
            page = self._page(frame)
            if page is None:
                self._stray.append(frame)
                continue
            seen = self._seen[page]
            seen.flushes.append(lines)
            seen.lines_since_begin |= lines
            seen.lines_since_unmap |= lines
            seen.flushed_after_unpin |= bool(seen.unpins)
            self._tell(page, "flushed" if lines == _ALL_LINES else f"{lines.bit_count() * _LINE_BYTES} bytes flushed")

    def _map(self, address: int, iova: int, phys: int, length: int) -> None:
        for frame, offset, lines in _slices(phys, length):
            page = self._page(frame)
            if page is None:
                self._foreign[address, iova + offset] = frame
                continue
            domain = self._domain(address)
            domain.mapped[iova + offset] = page
            seen = self._seen[page]
            seen.mapped = True
            self._tell(page, f"mapped into {domain.name}")
            if domain.coherency is Coherency.NON_COHERENT:
                self._exposed[page] |= lines
                seen.exposed = True
                if lines & ~seen.lines_since_begin:
                    seen.unflushed_in = seen.unflushed_in or domain.name

    def _domain(self, address: int) -> _Domain:
        domain = self._domains.get(address)
        if domain is None:
            kinds = {step.makes for step in self._steps} - {None}
            if len(kinds) != 1:
                raise ToolError("a domain was mapped into of which is not known how it was made; report the kernel")
            domain = self._domains[address] = _Domain(kinds.pop() or Coherency.NON_COHERENT)
        if not domain.name:
            self._named[domain.coherency] += 1
            domain.name = f"{domain.coherency} domain {self._named[domain.coherency]}"
        return domain

    def _take(self, address: int, iova: int, length: int) -> list[Page]:
        """Take the pages of a range out of a domain."""
        domain = self._domains.get(address)
        if domain is None:
            return []
        gone = [at for at in domain.mapped if iova <= at < iova + length]
        return [domain.mapped.pop(at) for at in gone]

    def _unmap(self, address: int, iova: int, length: int, told: str) -> None:
        self._tried |= {
            frame for (domain, at), frame in self._foreign.items() if domain == address and iova <= at < iova + length
        }
        for page in self._take(address, iova, length):
            seen = self._seen[page]
            seen.flushed_before_unmap |= bool(seen.lines_since_unmap) and not seen.mapped
            seen.lines_since_unmap = 0
            seen.unmapped_after_unpin |= bool(seen.unpins)
            self._tell(page, told.format(self._domains[address].name))

    def _unpin(self, frame: int, count: int) -> None:
        for one in range(frame, frame + count):
            page = self._page(one)
            if page is None:
                continue
            seen = self._seen[page]
            seen.unpins += 1
            seen.flushed_unpins += not (self._exposed[page] or _ALL_LINES) & ~seen.lines_since_unmap
            seen.lines_since_begin = seen.lines_since_unmap = 0
            seen.unmapped_after_unpin = False
            self._tell(page, "unpinned")

    def _tell(self, page: Page, what: str) -> None:
        name = "between the steps" if self._step is None else self._step.name
        story = self._stories[page]
        if not story or story[-1][0] != name:
            story.append((name, []))
        story[-1][1].append(what)

    def _judge(self, step: ScenarioStep) -> None:
        enter, leave, may = Counter(step.enter), Counter(step.leave), Counter(step.may)
        frames = {page: frame for frame, page in step.frames.items()}
        found: dict[tuple[int, str], list[Page]] = {}
        for page in sorted({*enter, *leave, *step.transient, *self._seen}):
            transient = page in step.transient
            for verdict in self._verdicts(step, page, enter[page], leave[page], may[page], transient):
                found.setdefault(verdict, []).append(page)
        stray = [frame for frame in self._stray if frame not in self._tried]
        if stray:
            what = f"{len(stray)} page frames were flushed that are no page of the scenario"
            self.violations.append(Violation(step.rule, step.name, what, frame=stray[0]))
        for (rule, what), pages in found.items():
            page = pages[0]
            story = tuple(f"{name}: {_joined(parts)}" for name, parts in self._stories[page])
            others = len(pages) - 1
            self.violations.append(Violation(rule, step.name, what, page, frames.get(page), story, others))

    def _verdicts(
        self, step: ScenarioStep, page: Page, enter: int, leave: int, may: int, transient: bool
    ) -> Iterator[tuple[int, str]]:
        """Yield the rules that *page* breaks in *step*, and how."""
        seen = self._seen[page]
        if enter and not seen.exposed:
            raise ToolError(f"{page} did not enter a non-coherent domain in the step '{step.name}', as it should")
        if leave and seen.unpins < leave:
            raise ToolError(f"{page} was not seen to be unpinned in the step '{step.name}', as it should")
        entry = _entry_verdict(seen) if enter or transient or not may else ""
        if entry:
            yield step.rule, entry
        must_leave = seen.unpins if transient and seen.exposed else leave
        exit_ = _exit_verdict(seen, must_leave)
        if exit_:
            yield 3, exit_
        least, most = _depth(seen.flushes, self._exposed[page] or _ALL_LINES)
        wanted, allowed = enter + leave, enter + leave + may + 2 * transient
        if most > allowed:
            yield (
                3 if seen.unpins and not seen.mapped else step.rule,
                f"flushed {_times(most)}, not {_times(allowed)}",
            )
        elif least < wanted and not entry and not exit_:
            yield step.rule, f"flushed {_times(least)}, not {_times(wanted)}" if least else "not flushed"


def _joined(parts: Sequence[str]) -> str:
    left = len(parts) - _TOLD_PARTS
    return ", ".join(parts[:_TOLD_PARTS]) + (f", and {left} more" if left > 0 else "")


def _times(count: int) -> str:
    return {0: "at all", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _entry_verdict(seen: _Seen) -> str:
    if not seen.unflushed_in:
        return ""
    if seen.flushes:
        return f"mapped into {seen.unflushed_in} before all of it was flushed"
    return f"mapped into {seen.unflushed_in} and not flushed"


def _exit_verdict(seen: _Seen, must: int) -> str:
    if must and seen.unmapped_after_unpin:
        return "unpinned before it was unmapped"
    if seen.flushed_unpins >= must:
        return ""
    if seen.flushed_after_unpin:
        return "flushed only after it was unpinned"
    if seen.flushed_before_unmap:
        return "flushed before it was unmapped, not after"
    return "unpinned and not flushed" if not seen.flushes else "unpinned before all of it was flushed"
