# SPDX-License-Identifier: MIT
"""The judge over several steps: lasting exposure, incomplete unmaps, the refinement, and the last step."""

from dataclasses import replace

import pytest

from iommufd_py import Coherency
from iommufd_py.base.errors import ToolError
from iommufd_py.validate.counts import judge_counts
from iommufd_py.validate.events import Event, Flush, Map, NewDomain, StepBegin, StepEnd, Synced, Unmap, Unpin
from iommufd_py.validate.judge import judge_scenario
from iommufd_py.validate.steps import Page, ScenarioStep

PAGE = 4096
FRAME, IOVA = 0x100, 0x2000_0000
FIRST, SECOND, COHERENT = 0xA0, 0xB0, 0xC0
PAGES = tuple(Page("buffer", index) for index in range(2))
FRAMES = {FRAME + page.number: page for page in PAGES}

MADE = ScenarioStep("two domains", 2, makes=Coherency.NON_COHERENT), [NewDomain(FIRST), NewDomain(SECOND)]
MADE_COHERENT = ScenarioStep("a coherent domain", 2, makes=Coherency.COHERENT), [NewDomain(COHERENT)]
MAP = ScenarioStep("map", 1, enter=PAGES, frames=FRAMES)
QUIET = ScenarioStep("something else", 3, frames=FRAMES)
UNMAP = ScenarioStep("unmap", 3, leave=PAGES, frames=FRAMES)
FINAL = ScenarioStep("close", 3, frames=FRAMES, final=True)

FLUSH = Flush(FRAME * PAGE, 2 * PAGE)
UNPIN = Unpin(FRAME, 2)

Played = tuple[ScenarioStep, list[Event]]


def map_(domain: int = FIRST) -> Map:
    return Map(domain, IOVA, FRAME * PAGE, 2 * PAGE)


def unmap(domain: int = FIRST, *, pending: bool = False) -> Unmap:
    return Unmap(domain, IOVA, 2 * PAGE, pending)


GOOD_MAP: Played = MAP, [FLUSH, map_()]


def verdicts(*played: Played, refined: bool = False) -> list[tuple[int, str, str]]:
    events: list[Event] = []
    for index, (_, happened) in enumerate(played):
        events += [StepBegin(index), *happened, StepEnd(index)]
    found = judge_scenario([step for step, _ in played], events, refined=refined)
    return [(one.rule, one.step, one.what) for one in found]


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([unmap(), UNPIN], ["unpinned and not flushed"]),
        ([unmap(), Flush(FRAME * PAGE, PAGE), Unpin(FRAME, 1)], ["flushed once, not at all"]),
        ([UNPIN], []),  # Another user unpins the page while a domain maps it.
        ([unmap()], []),
    ],
)
def test_an_unpin_that_the_step_does_not_expect(events: list[Event], found: list[str]) -> None:
    assert verdicts(MADE, GOOD_MAP, (QUIET, events)) == [(3, QUIET.name, what) for what in found]


def test_an_unpin_in_a_later_step_than_the_unmap() -> None:
    assert verdicts(MADE, GOOD_MAP, (QUIET, [unmap()]), (QUIET, [UNPIN])) == [
        (3, QUIET.name, "unpinned and not flushed")
    ]
    assert verdicts(MADE, GOOD_MAP, (QUIET, [unmap()]), (UNMAP, [FLUSH, UNPIN])) == []


def test_one_unpin_more_than_expected() -> None:
    twice = [unmap(), FLUSH, UNPIN, UNPIN]
    assert verdicts(MADE, GOOD_MAP, (UNMAP, twice)) == [
        (3, "unmap", "unpinned twice, and not flushed before each unpin")
    ]


def test_an_unpin_by_another_user() -> None:
    """Another user of the memory gives its pin back. One flush is enough, in whichever order the pins go."""
    step = ScenarioStep("close", 3, leave=PAGES, others=PAGES, frames=FRAMES)
    for events in ([unmap(), FLUSH, UNPIN, UNPIN], [UNPIN, unmap(), FLUSH, UNPIN]):
        assert verdicts(MADE, GOOD_MAP, (step, events)) == []
    assert verdicts(MADE, GOOD_MAP, (step, [unmap(), UNPIN, FLUSH, UNPIN])) == [
        (3, "close", "flushed only after it was unpinned")
    ]
    assert verdicts(MADE, GOOD_MAP, (step, [unmap(), FLUSH, UNPIN, UNPIN, UNPIN])) == [
        (3, "close", "unpinned 3 times, and not flushed before each unpin")
    ]
    with pytest.raises(ToolError, match="1 of 2 unpins was recorded"):
        verdicts(MADE, GOOD_MAP, (step, [unmap(), FLUSH, UNPIN]))


def test_exposure_ends_with_a_flush_and_an_unpin() -> None:
    """A page was exposed as a whole. Later one half is mapped and flushed, which is correct."""
    half = Flush(FRAME * PAGE, PAGE // 2)
    map_half = Map(FIRST, IOVA, FRAME * PAGE, PAGE // 2), Unmap(FIRST, IOVA, PAGE // 2)
    step_in = ScenarioStep("map a half", 1, enter=PAGES[:1], frames=FRAMES)
    step_out = ScenarioStep("unmap a half", 3, leave=PAGES[:1], frames=FRAMES)
    whole = MADE, GOOD_MAP, (UNMAP, [unmap(), FLUSH, UNPIN])
    halves = (step_in, [half, map_half[0]]), (step_out, [map_half[1], half, Unpin(FRAME, 1)])
    assert verdicts(*whole, *halves) == []
    missed = (step_in, [half, map_half[0]]), (step_out, [map_half[1], Flush(FRAME * PAGE, 64), Unpin(FRAME, 1)])
    assert verdicts(*whole, *missed) == [(3, step_out.name, "unpinned before all of it was flushed")]


def test_two_halves_of_a_page_with_a_pin_each() -> None:
    step = ScenarioStep("halves", 1, enter=PAGES[:1] + PAGES[:1], leave=PAGES[:1] + PAGES[:1], frames=FRAMES)
    first, second = FRAME * PAGE, FRAME * PAGE + PAGE // 2
    size = PAGE // 2
    events: list[Event] = []
    for at, iova in ((first, IOVA), (second, IOVA + PAGE // 2)):
        events += [Flush(at, size), Map(FIRST, iova, at, size)]
    for at, iova in ((first, IOVA), (second, IOVA + PAGE // 2)):
        events += [Unmap(FIRST, iova, size), Flush(at, size), Unpin(FRAME, 1)]
    halves = replace(step, enter=PAGES[:1], leave=PAGES[:1], may=PAGES[:1])
    assert verdicts(MADE, (halves, events)) == []
    del events[-2]  # the flush of the second half
    assert verdicts(MADE, (halves, events)) == [(3, "halves", "unpinned before all of it was flushed")]


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([unmap(pending=True), Synced(FIRST), FLUSH, UNPIN], []),
        (
            [unmap(pending=True), FLUSH, Synced(FIRST), UNPIN],
            ["flushed after the unmap, but before the IOTLB was invalidated"],
        ),
        ([unmap(pending=True), FLUSH, UNPIN, Synced(FIRST)], ["unpinned before the IOTLB was invalidated"]),
        ([unmap(pending=True), FLUSH, UNPIN], ["unpinned before the IOTLB was invalidated"]),
        ([FLUSH, unmap(pending=True), Synced(FIRST), UNPIN], ["flushed before it was unmapped, not after"]),
        ([unmap(pending=True), Synced(SECOND), FLUSH, UNPIN], ["unpinned before the IOTLB was invalidated"]),
    ],
)
def test_an_unmap_is_complete_when_the_iotlb_was_invalidated(events: list[Event], found: list[str]) -> None:
    assert verdicts(MADE, GOOD_MAP, (UNMAP, events)) == [(3, "unmap", what) for what in found]


def test_the_sync_of_one_domain_after_the_unpin_of_another_mapping() -> None:
    """Two mappings of one page in one domain: the unpin of the first one says nothing about the unmap of the second
    one."""
    again = Map(FIRST, IOVA * 2, FRAME * PAGE, 2 * PAGE), Unmap(FIRST, IOVA * 2, 2 * PAGE, pending=True)
    away: list[Event] = [unmap(pending=True), Synced(FIRST), FLUSH, UNPIN, again[1], Synced(FIRST), FLUSH, UNPIN]
    twice = replace(UNMAP, leave=PAGES + PAGES)
    assert verdicts(MADE, (replace(MAP, enter=PAGES + PAGES), [FLUSH, map_(), FLUSH, again[0]]), (twice, away)) == []


class TestRefinement:
    JOINS = ScenarioStep("the second joins", 2, enter=PAGES, frames=FRAMES)

    def test_the_seed_asks_for_the_second_flush_and_says_which_there_was(self) -> None:
        what = "flushed for non-coherent domain 1, still in it, not again for non-coherent domain 2"
        assert verdicts(MADE, GOOD_MAP, (self.JOINS, [map_(SECOND)])) == [(2, self.JOINS.name, what)]

    def test_refined_accepts_both(self) -> None:
        for events in ([map_(SECOND)], [FLUSH, map_(SECOND)]):
            assert verdicts(MADE, GOOD_MAP, (self.JOINS, events), refined=True) == []

    def test_refined_wants_the_flush_where_the_first_domain_is_gone(self) -> None:
        coherent = MADE_COHERENT, (replace(MAP, enter=()), [map_(COHERENT)])
        unflushed = [(2, self.JOINS.name, "mapped into non-coherent domain 1 and not flushed")]
        assert verdicts(MADE, *coherent, (self.JOINS, [map_(SECOND)]), refined=True) == unflushed
        gone = (QUIET, [unmap()])
        found = verdicts(
            MADE, *coherent, (self.JOINS, [FLUSH, map_()]), gone, (self.JOINS, [map_(SECOND)]), refined=True
        )
        assert [(rule, what) for rule, _, what in found] == [(2, "mapped into non-coherent domain 2 and not flushed")]

    def test_refined_wants_one_flush_for_two_domains_of_one_map(self) -> None:
        """The first domain got the page in the same step without a flush, so it does not excuse the second."""
        found = verdicts(MADE, (MAP, [map_(), map_(SECOND)]), refined=True)
        assert found == [(1, "map", "mapped into non-coherent domain 1 and not flushed")]

    def test_counts(self) -> None:
        assert judge_counts([self.JOINS], [0], refined=True) == judge_counts([self.JOINS], [2]) == []
        assert len(judge_counts([self.JOINS], [0])) == len(judge_counts([MAP], [0], refined=True)) == 1


class TestTheEnd:
    def test_a_page_that_leaves_unflushed_by_an_unknown_way(self) -> None:
        found = verdicts(MADE, GOOD_MAP, (QUIET, [unmap()]), (FINAL, []))
        what = "not flushed after its last unmap, and no unpin was recorded, although everything is closed"
        assert found == [(3, "close", what)]

    def test_a_page_that_is_flushed_and_leaves_by_an_unknown_way(self) -> None:
        may = replace(QUIET, may=PAGES)
        assert verdicts(MADE, GOOD_MAP, (may, [unmap(), FLUSH]), (FINAL, [])) == []
        with pytest.raises(ToolError, match="no unpin was recorded"):
            verdicts(MADE, GOOD_MAP, (UNMAP, [unmap(), FLUSH]), (FINAL, []))

    def test_a_violation_counts_more_than_an_unpin_that_was_not_seen(self) -> None:
        found = verdicts(MADE, GOOD_MAP, (UNMAP, [unmap()]), (FINAL, []))
        assert [rule for rule, _, _ in found] == [3]

    def test_a_page_that_stays_in_a_domain_is_none(self) -> None:
        assert verdicts(MADE, GOOD_MAP, (FINAL, [])) == []


def test_a_flush_by_a_kernel_thread() -> None:
    """Its flushes of our pages count, and its other flushes do not."""
    there, elsewhere = Flush(FRAME * PAGE, 2 * PAGE, own=False), Flush(0, PAGE, own=False)
    assert verdicts(MADE, (MAP, [elsewhere, there, map_()])) == []
