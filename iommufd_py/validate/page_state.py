# SPDX-License-Identifier: MIT
"""The state of one page: over all steps, and within one step. Pure."""

from dataclasses import dataclass, field

_SHOWN_EVENTS = 12  # events of one step in the printed history of a page


@dataclass(slots=True)
class PageState:
    """The state of a page over all steps.

    Attributes:
        exposed: lines that a non-coherent domain maps or mapped. An unpin that follows a flush ends the exposure.
        flushed: lines that were flushed since their last unmap.
        history: the events of the page, by step.
    """

    exposed: int = 0
    flushed: int = 0
    history: list[tuple[str, list[str]]] = field(default_factory=list)

    def note(self, step: str, event: str) -> None:
        """Add an event to the history."""
        if not self.history or self.history[-1][0] != step:
            self.history.append((step, []))
        self.history[-1][1].append(event)

    def history_lines(self) -> tuple[str, ...]:
        """Return the history as text, a line for each step."""
        return tuple(f"{step}: {_joined(events)}" for step, events in self.history)


@dataclass(slots=True)
class PageInStep:
    """The state of a page within one step.

    Attributes:
        lines: lines that were exposed at the start of the step or became exposed in it.
        flushes: the lines of each flush.
        flushed: lines that were flushed in this step, since the last unpin.
        mapped: the page was mapped into a domain.
        exposed: the page was mapped into a non-coherent domain.
        unflushed_in: first non-coherent domain that got the page before all of it was flushed.
        skipped: entries without a flush into a domain while another non-coherent domain has the flushed page.
        skipped_text: the sentence about the first of them.
        unpins: number of unpins.
        stale_unpins: unpins of lines that were exposed and not flushed since their last unmap.
        bare_unpins: unpins without a flush since the unpin before.
        unmapped_after_unpin: the page was unmapped, and no unpin followed.
        flushed_before_unmap: the page was flushed before its unmap.
        flushed_before_sync: the page was flushed between its unmap and the invalidation of the IOTLB.
        flushed_after_unpin: the page was flushed after its unpin.
        unpinned_before_sync: the page was unpinned between its unmap and the invalidation of the IOTLB.
    """

    lines: int
    flushes: list[int] = field(default_factory=list)
    flushed: int = 0
    mapped: bool = False
    exposed: bool = False
    unflushed_in: str = ""
    skipped: int = 0
    skipped_text: str = ""
    unpins: int = 0
    stale_unpins: int = 0
    bare_unpins: int = 0
    unmapped_after_unpin: bool = False
    flushed_before_unmap: bool = False
    flushed_before_sync: bool = False
    flushed_after_unpin: bool = False
    unpinned_before_sync: bool = False
    _flushed_since_unpin: bool = True

    def flush(self, lines: int) -> None:
        """Note a flush of *lines*."""
        self.flushes.append(lines)
        self.flushed |= lines
        self.flushed_after_unpin |= bool(self.unpins)
        self._flushed_since_unpin = True

    def unpin(self, *, stale: bool) -> None:
        """Note an unpin. It is *stale* if exposed lines were not flushed since their last unmap."""
        self.unpins += 1
        self.stale_unpins += stale
        self.bare_unpins += not self._flushed_since_unpin
        self._flushed_since_unpin = False
        self.flushed = 0
        self.unmapped_after_unpin = False

    def entry_fault(self) -> str:
        """Return the fault in the page's entry into a domain, empty for none."""
        if not self.unflushed_in:
            return ""
        if self.flushes:
            return f"mapped into {self.unflushed_in} before all of it was flushed"
        return f"mapped into {self.unflushed_in} and not flushed"

    def exit_fault(self, must_leave: int, others: int) -> str:
        """Return the violation of rule 3 by the page, empty for none.

        Args:
            must_leave: number of unpins in this step that the scenario expects, each after a flush.
            others: number of unpins in this step by other users, without a flush.
        """
        if self.unpinned_before_sync and (must_leave or self.stale_unpins):
            return "unpinned before the IOTLB was invalidated"
        if must_leave and self.unmapped_after_unpin:
            return "unpinned before it was unmapped"
        if self.stale_unpins:
            return self._stale()
        if self.bare_unpins > others and self.unpins - others > must_leave > 0:
            return f"unpinned {times(self.unpins)}, and not flushed before each unpin"
        return ""

    def _stale(self) -> str:
        if self.flushed_after_unpin:
            return "flushed only after it was unpinned"
        if self.flushed_before_sync:
            return "flushed after the unmap, but before the IOTLB was invalidated"
        if self.flushed_before_unmap:
            return "flushed before it was unmapped, not after"
        return "unpinned before all of it was flushed" if self.flushes else "unpinned and not flushed"


def times(count: int) -> str:
    """Return a count in words: ``once``, ``twice``, ``3 times``."""
    return {0: "at all", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _joined(events: list[str]) -> str:
    left = len(events) - _SHOWN_EVENTS
    return ", ".join(events[:_SHOWN_EVENTS]) + (f", and {left} more" if left > 0 else "")
