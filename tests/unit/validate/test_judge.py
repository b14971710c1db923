# SPDX-License-Identifier: MIT
"""The judge accepts every order that keeps the rules, and names each violation."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import Coherency, ToolError
from iommufd_py.validate.counts import judge_counts
from iommufd_py.validate.events import Event, Flush, Map, MapFailed, NewDomain, StepBegin, StepEnd, Unmap, Unpin
from iommufd_py.validate.judge import judge_scenario
from iommufd_py.validate.steps import Page, ScenarioStep

PAGE = 4096
FRAME, IOVA = 0x100, 0x2000_0000
NON_COHERENT, COHERENT = 0xA0, 0xC0
PAGES = tuple(Page("buffer", index) for index in range(4))
FRAMES = {FRAME + page.number: page for page in PAGES}

MAKE_NON_COHERENT = ScenarioStep("a domain joins", rule=2, makes=Coherency.NON_COHERENT)
MAKE_COHERENT = ScenarioStep("a coherent domain joins", rule=2, makes=Coherency.COHERENT)
MAP = ScenarioStep("map", 1, enter=PAGES, frames=FRAMES)
UNMAP = ScenarioStep("unmap", 3, leave=PAGES, frames=FRAMES)


def flush(first: int = 0, count: int = 4) -> Flush:
    return Flush((FRAME + first) * PAGE, count * PAGE)


def map_(domain: int = NON_COHERENT, first: int = 0, count: int = 4) -> Map:
    return Map(domain, IOVA + first * PAGE, (FRAME + first) * PAGE, count * PAGE)


def unmap(domain: int = NON_COHERENT) -> Unmap:
    return Unmap(domain, IOVA, 4 * PAGE)


def unpin(first: int = 0, count: int = 4) -> Unpin:
    return Unpin(FRAME + first, count)


def verdicts(*played: tuple[ScenarioStep, list[Event]]) -> list[tuple[int, str, str]]:
    """Judge steps with their events; return (rule, step, what) of each violation."""
    events: list[Event] = []
    for index, (_, happened) in enumerate(played):
        events += [StepBegin(index), *happened, StepEnd(index)]
    return [(one.rule, one.step, one.what) for one in judge_scenario([step for step, _ in played], events)]


def map_unmap(mapped: list[Event], unmapped: list[Event]) -> list[tuple[int, str, str]]:
    return verdicts((MAKE_NON_COHERENT, [NewDomain(NON_COHERENT)]), (MAP, mapped), (UNMAP, unmapped))


def test_steps_that_were_not_recorded_permit_no_verdict() -> None:
    steps = [MAKE_NON_COHERENT, MAP]
    begun: list[Event] = [StepBegin(0), NewDomain(NON_COHERENT), StepEnd(0)]
    for events, seen in (([], 0), (begun, 1), ([*begun, StepBegin(1), *GOOD_MAP], 1)):
        with pytest.raises(ToolError, match=f"the trace has only {seen} of 2 steps"):
            judge_scenario(steps, events)


GOOD_MAP: list[Event] = [flush(), map_()]
GOOD_UNMAP: list[Event] = [unmap(), flush(), unpin()]


@pytest.mark.parametrize(
    ("mapped", "unmapped"),
    [
        (GOOD_MAP, GOOD_UNMAP),
        # page by page, backwards, each page as early as possible
        (
            [flush(i, 1) for i in (3, 2, 1, 0)] + [map_()],
            [unmap()] + [e for i in range(4) for e in (flush(i, 1), unpin(i, 1))],
        ),
        ([e for i in range(4) for e in (flush(i, 1), map_(first=i, count=1))], GOOD_UNMAP),
        # in pieces smaller than a page
        ([Flush(FRAME * PAGE + at, 1024) for at in range(0, 4 * PAGE, 1024)] + [map_()], GOOD_UNMAP),
    ],
)
def test_right_orders(mapped: list[Event], unmapped: list[Event]) -> None:
    assert map_unmap(mapped, unmapped) == []


IN = "mapped into non-coherent domain 1 and not flushed"
IN_LATE = "mapped into non-coherent domain 1 before all of it was flushed"


@pytest.mark.parametrize(
    ("mapped", "what"),
    [
        ([map_()], IN),
        ([map_(), flush()], IN_LATE),
        ([flush(1, 3), map_()], IN),
        ([flush(0, 3), map_()], IN),
        ([Flush(FRAME * PAGE, 4), map_()], IN_LATE),  # a length given in pages instead of bytes
        ([flush(), flush(), map_()], "flushed twice, not once"),
        ([flush(), map_(), flush()], "flushed twice, not once"),
        ([flush(), flush(2, 1), map_()], "flushed twice, not once"),
        ([flush(0, 6), map_()], "2 flushed page frames belong to no page of the scenario"),
    ],
)
def test_wrong_maps(mapped: list[Event], what: str) -> None:
    assert (1, "map", what) in map_unmap(mapped, GOOD_UNMAP)


@pytest.mark.parametrize(
    ("unmapped", "what"),
    [
        ([unmap(), unpin()], "unpinned and not flushed"),
        ([flush(), unmap(), unpin()], "flushed before it was unmapped, not after"),
        ([unmap(), unpin(), flush()], "flushed only after it was unpinned"),
        ([flush(), unpin(), unmap()], "unpinned before it was unmapped"),
        ([unmap(), flush(0, 3), unpin()], "unpinned and not flushed"),
        ([unmap(), flush(), flush(), unpin()], "flushed twice, not once"),
        ([flush(), unmap(), flush(), unpin()], "flushed twice, not once"),
        ([unmap(), Flush(FRAME * PAGE, 4), unpin()], "unpinned before all of it was flushed"),
    ],
)
def test_wrong_unmaps(unmapped: list[Event], what: str) -> None:
    assert (3, "unmap", what) in map_unmap(GOOD_MAP, unmapped)


def test_a_page_of_the_kernel_s_own_that_it_maps_itself() -> None:
    """type1 of 6.12 does this when a device joins, to find the page sizes of the domain."""
    joins = replace(MAKE_NON_COHERENT, frames=FRAMES)
    there, away = Map(NON_COHERENT, 0, 0, PAGE), Unmap(NON_COHERENT, 0, PAGE)
    own = Flush(0, PAGE)
    assert verdicts((joins, [NewDomain(NON_COHERENT), own, there, away, own])) == []
    stray = verdicts((joins, [NewDomain(NON_COHERENT), own, there, away, own]), (joins, [own]))
    assert stray == [(2, "a domain joins", "1 flushed page frames belong to no page of the scenario")]


def test_memory_that_stays_mapped_and_is_no_page_of_the_scenario() -> None:
    """An example is memory of a dma-buf, for which a flush is useless."""
    joins = replace(MAKE_NON_COHERENT, frames=FRAMES)
    there = Map(NON_COHERENT, 0, 0, PAGE)
    elsewhere = Unmap(NON_COHERENT, PAGE, PAGE), Unmap(COHERENT, 0, PAGE)
    stray = verdicts((joins, [NewDomain(NON_COHERENT), Flush(0, PAGE), there, *elsewhere]))
    assert stray == [(2, "a domain joins", "1 flushed page frames belong to no page of the scenario")]


def test_several_domains_take_one_flush() -> None:
    joins = (MAKE_NON_COHERENT, [NewDomain(NON_COHERENT)]), (MAKE_COHERENT, [NewDomain(COHERENT)])
    for mapped in (
        [flush(), map_(COHERENT), map_()],
        [flush(), map_(), map_(COHERENT)],
        [map_(COHERENT), flush(), map_()],
    ):
        assert verdicts(*joins, (MAP, mapped), (UNMAP, [unmap(COHERENT), *GOOD_UNMAP])) == []
    each = [flush(), map_(COHERENT), flush(), map_()]
    assert (1, "map", "flushed twice, not once") in verdicts(*joins, (MAP, each))
    early = [unmap(), flush(), unmap(COHERENT), unpin()]
    assert (3, "unmap", "flushed before it was unmapped, not after") in verdicts(
        *joins, (MAP, [flush(), map_(), map_(COHERENT)]), (UNMAP, early)
    )


def test_a_coherent_domain_takes_none() -> None:
    coherent = (MAKE_COHERENT, [NewDomain(COHERENT)])
    mapped = replace(MAP, enter=())
    assert verdicts(coherent, (mapped, [map_(COHERENT)])) == []
    assert verdicts(coherent, (mapped, [flush(), map_(COHERENT)])) == [(1, "map", "flushed once, not at all")]


def test_the_rule_is_that_of_the_step() -> None:
    joins = ScenarioStep("joins", 2, enter=PAGES, makes=Coherency.NON_COHERENT, frames=FRAMES)
    assert verdicts((joins, [NewDomain(NON_COHERENT), map_()])) == [(2, "joins", IN)]


def test_a_domain_where_another_was() -> None:
    """The kernel may reuse the address of a domain for one of the other kind."""
    made = MAKE_NON_COHERENT, [NewDomain(NON_COHERENT)]
    again = MAKE_COHERENT, [NewDomain(NON_COHERENT)]
    assert verdicts(made, again, (replace(MAP, enter=()), [map_()])) == []


def test_a_transient_page_may_be_mapped_or_not() -> None:
    """A failing map need not map a page, but a mapped page is flushed before the map and before the unpin."""
    made = MAKE_NON_COHERENT, [NewDomain(NON_COHERENT)]
    fails = ScenarioStep("map that fails", 1, transient=PAGES, frames=FRAMES)
    half = [flush(0, 2), map_(count=2)]
    for happened in (
        [],
        [flush()],
        [*half, *GOOD_UNMAP],
        [flush(), map_(), MapFailed(NON_COHERENT, IOVA, 4 * PAGE), flush(), unpin()],
    ):
        assert verdicts(made, (fails, happened)) == []
    for taken_out in (unmap(), MapFailed(NON_COHERENT, IOVA, 2 * PAGE)):
        missed = verdicts(made, (fails, [*half, taken_out, unpin(0, 2)]))
        assert [rule for rule, _, _ in missed] == [3]
    unmapped_late = verdicts(made, (fails, [*half, flush(0, 2), unpin(0, 2), unmap()]))
    assert unmapped_late == [(3, fails.name, "unpinned before it was unmapped")]


def test_two_flushes_for_two_unpins() -> None:
    """A page in two mappings is unpinned twice, and flushed before each unpin."""
    made = MAKE_NON_COHERENT, [NewDomain(NON_COHERENT)]
    twice = replace(MAP, enter=PAGES + PAGES), [flush(), map_(), flush(), Map(NON_COHERENT, 0, FRAME * PAGE, 4 * PAGE)]
    away = replace(UNMAP, leave=PAGES + PAGES)
    second = Unmap(NON_COHERENT, 0, 4 * PAGE)
    assert verdicts(made, twice, (away, [unmap(), flush(), unpin(), second, flush(), unpin()])) == []
    missed = verdicts(made, twice, (away, [unmap(), flush(), unpin(), second, unpin()]))
    assert [rule for rule, _, _ in missed] == [3]


@pytest.mark.parametrize("happened", [[], [flush(), map_(COHERENT)]])
def test_a_step_without_its_intended_effect(happened: list[Event]) -> None:
    """If the expected pages do not appear, there is no verdict."""
    joins = (MAKE_NON_COHERENT, [NewDomain(NON_COHERENT)]), (MAKE_COHERENT, [NewDomain(COHERENT)])
    with pytest.raises(ToolError, match="must map page 0"):
        verdicts(*joins, (MAP, happened))
    with pytest.raises(ToolError, match="no unpin was recorded"):
        verdicts(*joins, (MAP, GOOD_MAP), (UNMAP, [unmap()]))


def test_a_violation_says_where() -> None:
    steps = [MAKE_NON_COHERENT, MAP]
    events = [StepBegin(0), NewDomain(NON_COHERENT), StepEnd(0), StepBegin(1), flush(0, 2), map_(), StepEnd(1)]
    (violation,) = judge_scenario(steps, events)
    assert (violation.page, violation.frame, violation.others) == (PAGES[2], FRAME + 2, 1)
    assert violation.history == ("map: mapped into non-coherent domain 1",)
    assert str(violation) == f"rule 1, map: page 2 of buffer (pfn 0x102) and 1 more {IN}"


Spoil = Callable[[list[Event], int], list[Event]]


def _without(events: list[Event], at: int) -> list[Event]:
    return events[:at] + events[at + 1 :]


def _twice(events: list[Event], at: int) -> list[Event]:
    return [*events[:at], events[at], *events[at:]]


def _last(events: list[Event], at: int) -> list[Event]:
    return [*_without(events, at), events[at]]


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Draw a division of the pages into runs: (first, count)."""
    cuts = sorted(draw(st.sets(st.integers(1, 3))))
    edges = [0, *cuts, 4]
    return [(first, end - first) for first, end in pairwise(edges)]


@pytest.mark.slow
@given(data=st.data(), domains=st.integers(1, 3), spoil=st.sampled_from([None, _without, _twice, _last]))
def test_any_history(data: st.DataObject, domains: int, spoil: Spoil | None) -> None:
    """For any runs and batches, a history that keeps the rules is accepted, and one with a wrong flush is not."""
    addresses = [NON_COHERENT + index for index in range(domains)]
    made: list[Event] = [NewDomain(address) for address in addresses]
    mapped: list[Event] = []
    for first, count in data.draw(runs()):
        mapped += [flush(first, count), *(map_(address, first, count) for address in addresses)]
    unmapped: list[Event] = [unmap(address) for address in addresses]
    for first, count in data.draw(runs()):
        unmapped += [flush(first, count), unpin(first, count)]
    if spoil is not None:
        spoiled = data.draw(st.sampled_from([mapped, unmapped]))
        at = data.draw(st.sampled_from([index for index, event in enumerate(spoiled) if isinstance(event, Flush)]))
        spoiled[:] = spoil(spoiled, at)
    found = verdicts((MAKE_NON_COHERENT, made), (MAP, mapped), (UNMAP, unmapped))
    if spoil is None:
        assert found == []
    else:
        assert {rule for rule, _, _ in found} == {1 if spoiled is mapped else 3}


@pytest.mark.parametrize(
    ("counts", "rules"), [([0, 4, 4], []), ([0, 3, 4], [1]), ([0, 4, 8], [3]), ([1, 4, 4], [2]), ([0, 0, 0], [1, 3])]
)
def test_counts_alone(counts: list[int], rules: list[int]) -> None:
    assert [one.rule for one in judge_counts([MAKE_NON_COHERENT, MAP, UNMAP], counts)] == rules


def test_arguments_that_are_no_range_are_no_flush() -> None:
    """A wrong --flush-symbol records two arbitrary registers. The judge must refuse them quickly."""
    flushed = Flush(0xFFFF_8880_0000_1000, (1 << 64) - 1)
    (violation,) = judge_scenario([replace(UNMAP, leave=())], [StepBegin(0), flushed, StepEnd(0)])
    assert "no page of the scenario" in str(violation.what)
