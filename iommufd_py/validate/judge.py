# SPDX-License-Identifier: MIT
"""Judge a scenario by its events: follow each page and apply the three rules. Pure.

A scenario is a sequence of steps, a step is one call into the kernel or a few of one kind. Each step says which pages
must be flushed on their way into a domain (`enter`) and on their way out (`leave`), and how often. The rules say when:

* Before a page is mapped into a non-coherent domain, in the same step: rule 1 for a new mapping, rule 2 for a new
  domain.
* After the last unmap of the page is complete and before its unpin, in whichever step the kernel unpins it: rule 3.
  An unmap is complete when the IOTLB was invalidated.

More flushes than that are violations too.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import ToolError
from iommufd_py.base.units import PAGE_BYTES, counted
from iommufd_py.validate.events import (
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
from iommufd_py.validate.lines import ALL_LINES, LINE_BYTES, depth, slices
from iommufd_py.validate.page_state import PageInStep, PageState, times
from iommufd_py.validate.steps import Page, ScenarioStep, Violation

# Bytes of the longest possible flush; a scenario has much less memory. If a call covers more, the probed function is
# not a flush, or its arguments are not a range.
_LONGEST_FLUSH = 1 << 30
_NOT_UNPINNED = "not flushed after its last unmap, and no unpin was recorded, although everything is closed"


def judge_scenario(steps: Sequence[ScenarioStep], events: Iterable[Event], *, refined: bool = False) -> list[Violation]:
    """Apply the rules to the events of a scenario.

    Args:
        steps: the steps, in order.
        events: the events, in order, including the marks of the steps.
        refined: accept a page that enters a non-coherent domain without a flush while another non-coherent domain
            has it, for which it was flushed. The rules of docs/rules.md ask for this second flush.

    Raises:
        ToolError: a step did not have its intended effect, so there is no verdict.
    """
    court = _Judge(steps, refined)
    for event in events:
        court.see(event)
    return court.end()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A page, or a part of one, in a domain."""

    page: Page
    lines: int
    step: int


@dataclass(slots=True)
class _Domain:
    """A domain and the pages in it.

    Attributes:
        mapped: the mapped entries, by IOVA.
        going: entries that are unmapped but may still be in the IOTLB, each with the unpins of its page so far.
        held: the entries of each page, `going` included.
    """

    coherency: Coherency
    name: str = ""
    mapped: dict[int, _Entry] = field(default_factory=dict)
    going: list[tuple[_Entry, int]] = field(default_factory=list)
    held: defaultdict[Page, list[_Entry]] = field(default_factory=lambda: defaultdict(list))

    def add(self, iova: int, entry: _Entry) -> None:
        """Map a page."""
        self.mapped[iova] = entry
        self.held[entry.page].append(entry)

    def take(self, iova: int, length: int) -> list[_Entry]:
        """Remove the entries of a range, which stay in `held`."""
        return [self.mapped.pop(at) for at in [at for at in self.mapped if iova <= at < iova + length]]

    def forget(self, entry: _Entry) -> None:
        """Remove an entry from `held`."""
        self.held[entry.page].remove(entry)

    def lines(self, page: Page, before_step: int | None = None) -> int:
        """Return the lines of *page* that devices can access through this domain, or could before *before_step*."""
        lines = 0
        for entry in self.held.get(page, ()):
            if before_step is None or entry.step < before_step:
                lines |= entry.lines
        return lines


class _Judge:
    """Reads the events in order and judges each step at its end."""

    def __init__(self, steps: Sequence[ScenarioStep], refined: bool) -> None:
        self._violations: list[Violation] = []
        self._doubts: list[str] = []
        self._steps = steps
        self._judged = 0
        self._refined = refined
        self._index = -1
        self._step: ScenarioStep | None = None
        self._domains: dict[int, _Domain] = {}
        self._fresh: set[int] = set()
        self._named: Counter[Coherency] = Counter()
        self._pages: defaultdict[Page, PageState] = defaultdict(PageState)
        self._seen: dict[Page, PageInStep] = {}
        self._stray: list[int] = []
        # Frames outside the scenario that this step mapped, by domain and IOVA.
        self._foreign: dict[tuple[int, int], int] = {}
        # The frames outside the scenario that this step also unmapped: type1 of 6.12 tests a domain with pages of the
        # kernel.
        self._tried: set[int] = set()

    def see(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case StepBegin(index):
                self._begin(index)
            case StepEnd(index):
                self._judge(self._steps[index])
                self._judged += 1
                self._step = None
            case NewDomain(address) if address not in self._fresh:
                # Both the driver and the core, which calls it, report a new domain.
                self._fresh.add(address)
                self._domains.pop(address, None)
                if self._step is not None and self._step.makes is not None:
                    self._domains[address] = _Domain(self._step.makes)
            case Flush():
                self._flush(event)
            case Map(address, iova, phys, length):
                self._map(address, iova, phys, length)
            case MapFailed(address, iova, length):
                # The kernel may have mapped a part before the failure, and unmapped it again.
                self._unmap(address, iova, length, "which failed", pending=False)
            case Unmap(address, iova, length, pending):
                self._unmap(address, iova, length, "unmapped from {}", pending=pending)
            case Synced(address):
                self._sync(address)
            case Unpin(frame, count):
                self._unpin(frame, count)

    def end(self) -> list[Violation]:
        """Return the violations.

        Raises:
            ToolError: there is no violation, but a step or an expected unpin was not recorded.
        """
        if not self._violations and self._judged < len(self._steps):
            raise ToolError(
                f"the trace has only {self._judged} of {counted(len(self._steps), 'step')}, so there is no verdict: "
                "run the scenario again, and report it if this comes again"
            )
        if not self._violations and self._doubts:
            raise ToolError(self._doubts[0])
        return self._violations

    def _begin(self, index: int) -> None:
        self._index = index
        self._step = self._steps[index]
        self._seen.clear()
        self._stray.clear()
        self._foreign.clear()
        self._tried.clear()
        self._fresh.clear()

    def _page(self, frame: int) -> Page | None:
        return None if self._step is None else self._step.frames.get(frame)

    def _look(self, page: Page) -> PageInStep:
        seen = self._seen.get(page)
        if seen is None:
            seen = self._seen[page] = PageInStep(self._pages[page].exposed)
        return seen

    def _flush(self, event: Flush) -> None:
        if event.length > _LONGEST_FLUSH:
            self._stray.append(event.phys // PAGE_BYTES)
            return
        for frame, _, lines in slices(event.phys, event.length):
            page = self._page(frame)
            if page is None:
                if event.own:
                    self._stray.append(frame)
                continue
            self._look(page).flush(lines)
            self._pages[page].flushed |= lines
            self._note(page, "flushed" if lines == ALL_LINES else f"{lines.bit_count() * LINE_BYTES} bytes flushed")

    def _map(self, address: int, iova: int, phys: int, length: int) -> None:
        for frame, offset, lines in slices(phys, length):
            page = self._page(frame)
            if page is None:
                self._foreign[address, iova + offset] = frame
                continue
            domain = self._domain(address)
            seen, state = self._look(page), self._pages[page]
            seen.mapped = True
            self._note(page, f"mapped into {domain.name}")
            if domain.coherency is Coherency.NON_COHERENT:
                seen.exposed = True
                if lines & ~seen.flushed:
                    self._enter_unflushed(page, lines, domain)
                seen.lines |= lines
                state.exposed |= lines
                state.flushed &= ~lines
            domain.add(iova + offset, _Entry(page, lines, self._index))

    def _enter_unflushed(self, page: Page, lines: int, domain: _Domain) -> None:
        seen = self._look(page)
        keeper = self._keeper(page, lines, domain)
        if keeper is None:
            seen.unflushed_in = seen.unflushed_in or domain.name
            return
        seen.skipped += 1
        if not seen.skipped_text:
            seen.skipped_text = f"flushed for {keeper.name}, still in it, not again for {domain.name}"

    def _keeper(self, page: Page, lines: int, newcomer: _Domain) -> _Domain | None:
        """Return a non-coherent domain that has had the *lines* of the page since an earlier step."""
        for domain in self._domains.values():
            if domain is newcomer or domain.coherency is not Coherency.NON_COHERENT:
                continue
            if not lines & ~domain.lines(page, before_step=self._index):
                return domain
        return None

    def _domain(self, address: int) -> _Domain:
        domain = self._domains.get(address)
        if domain is None:
            kinds = {step.makes for step in self._steps} - {None}
            if len(kinds) != 1:
                raise ToolError("a page was mapped into a domain whose allocation was not seen; report the kernel")
            domain = self._domains[address] = _Domain(kinds.pop() or Coherency.NON_COHERENT)
        if not domain.name:
            self._named[domain.coherency] += 1
            domain.name = f"{domain.coherency} domain {self._named[domain.coherency]}"
        return domain

    def _unmap(self, address: int, iova: int, length: int, told: str, *, pending: bool) -> None:
        self._tried |= {
            frame for (domain, at), frame in self._foreign.items() if domain == address and iova <= at < iova + length
        }
        domain = self._domains.get(address)
        if domain is None:
            return
        for entry in domain.take(iova, length):
            seen = self._look(entry.page)
            seen.flushed_before_unmap |= bool(seen.flushed) and not seen.mapped
            self._note(entry.page, told.format(domain.name))
            if pending:
                domain.going.append((entry, seen.unpins))
                # Earlier flushes do not count for the unpin. Later ones do.
                self._pages[entry.page].flushed &= ~entry.lines
                seen.flushed = 0
            else:
                self._unmapped(domain, entry)

    def _sync(self, address: int) -> None:
        domain = self._domains.get(address)
        if domain is None:
            return
        for entry, unpins in domain.going:
            seen, state = self._look(entry.page), self._pages[entry.page]
            seen.flushed_before_sync |= bool(state.flushed & entry.lines)
            seen.unpinned_before_sync |= seen.unpins > unpins
            self._note(entry.page, "IOTLB invalidated")
            self._unmapped(domain, entry)
        domain.going.clear()

    def _unmapped(self, domain: _Domain, entry: _Entry) -> None:
        domain.forget(entry)
        seen, state = self._look(entry.page), self._pages[entry.page]
        state.flushed &= ~entry.lines
        seen.flushed = 0
        seen.unmapped_after_unpin |= bool(seen.unpins)

    def _reachable(self, page: Page) -> int:
        """Return the lines of *page* that a non-coherent device can still access."""
        lines = 0
        for domain in self._domains.values():
            if domain.coherency is Coherency.NON_COHERENT:
                lines |= domain.lines(page)
        return lines

    def _unpin(self, frame: int, count: int) -> None:
        for one in range(frame, frame + count):
            page = self._page(one)
            if page is None:
                continue
            state, reachable = self._pages[page], self._reachable(page)
            self._look(page).unpin(stale=bool(state.exposed & ~state.flushed & ~reachable))
            state.exposed = reachable
            self._note(page, "unpinned")

    def _note(self, page: Page, event: str) -> None:
        self._pages[page].note("between the steps" if self._step is None else self._step.name, event)

    def _judge(self, step: ScenarioStep) -> None:
        enter, leave, may = Counter(step.enter), Counter(step.leave), Counter(step.may)
        transient, others = Counter(step.transient), Counter(step.others)
        self._end_of_unmaps()
        found: dict[tuple[int, str], list[Page]] = {}
        for page in sorted({*enter, *leave, *transient, *self._seen}):
            for verdict in self._verdicts(
                step, page, enter[page], leave[page], may[page], transient[page] > 0, others[page]
            ):
                found.setdefault(verdict, []).append(page)
        if step.final:
            left = [page for page in sorted(self._pages) if self._is_left(page)]
            if left:
                found.setdefault((3, _NOT_UNPINNED), []).extend(left)
        stray = [frame for frame in self._stray if frame not in self._tried]
        if stray:
            what = f"{len(stray)} flushed page frames belong to no page of the scenario"
            self._violations.append(Violation(step.rule, step.name, what, frame=stray[0]))
        frames = {page: frame for frame, page in step.frames.items()}
        for (rule, what), pages in found.items():
            page = pages[0]
            history = self._pages[page].history_lines()
            self._violations.append(
                Violation(rule, step.name, what, page, frames.get(page), history, others=len(pages) - 1)
            )

    def _end_of_unmaps(self) -> None:
        """Note the unpinned pages whose unmap is not complete at the end of the step."""
        for domain in self._domains.values():
            for entry, unpins in domain.going:
                seen = self._look(entry.page)
                seen.unpinned_before_sync |= seen.unpins > unpins

    def _is_left(self, page: Page) -> bool:
        """Return whether *page* is in no domain, and was not flushed after its last unmap."""
        state = self._pages[page]
        if not state.exposed & ~state.flushed:
            return False
        return not any(domain.lines(page) for domain in self._domains.values())

    def _verdicts(
        self, step: ScenarioStep, page: Page, enter: int, leave: int, may: int, transient: bool, others: int
    ) -> Iterator[tuple[int, str]]:
        """Yield each rule that *page* breaks in *step*, with a description."""
        seen = self._look(page)
        if enter and not seen.exposed:
            raise ToolError(f"the step '{step.name}' must map {page} into a non-coherent domain, but did not")
        exit_ = seen.exit_fault(seen.unpins if transient and seen.exposed else leave, others)
        if leave and seen.unpins < leave + others:
            recorded = f"{seen.unpins} of {leave + others} unpins" if seen.unpins else "no unpin"
            self._doubts.append(f"the step '{step.name}' must unpin {page}, but {recorded} was recorded")
            if not exit_:
                return
        entry = seen.entry_fault() if enter or transient or not may else ""
        if not entry and seen.skipped and not self._refined:
            entry = seen.skipped_text
        if entry:
            yield step.rule, entry
        if exit_:
            yield 3, exit_
        least, most = depth(seen.flushes, seen.lines or ALL_LINES)
        wanted, allowed = enter + leave, enter + leave + may + 2 * transient
        if self._refined:
            wanted -= min(seen.skipped, enter)
        if most > allowed:
            yield 3 if seen.unpins and not seen.mapped else step.rule, f"flushed {times(most)}, not {times(allowed)}"
        elif least < wanted and not entry and not exit_:
            yield step.rule, f"flushed {times(least)}, not {times(wanted)}" if least else "not flushed"
