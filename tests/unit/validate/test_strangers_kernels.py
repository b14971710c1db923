# SPDX-License-Identifier: MIT
"""Histories of kernels that a stranger could write: each mistake is found, and each correct kernel is accepted."""

import pytest

from iommufd_py import Coherency
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
from iommufd_py.validate.judge import judge_scenario
from iommufd_py.validate.steps import Page, ScenarioStep

PAGE, LINE = 4096, 64
IOVA = 0x2000_0000
FIRST, SECOND = 0xA0, 0xB0
PAGES = tuple(Page("buffer", index) for index in range(4))
# The frames are scattered: two of them are neighbours.
PLACES = (0x100, 0x101, 0x300, 0x1_0000_0200)
FRAMES = dict(zip(PLACES, PAGES, strict=True))

MADE = ScenarioStep("two domains", 2, makes=Coherency.NON_COHERENT), [NewDomain(FIRST), NewDomain(SECOND)]
MAP = ScenarioStep("map", 1, enter=PAGES, frames=FRAMES)
UNMAP = ScenarioStep("unmap", 3, leave=PAGES, frames=FRAMES)
FAILS = ScenarioStep("a map fails", 1, transient=PAGES, frames=FRAMES)
QUIET = ScenarioStep("something else", 3, frames=FRAMES)
FINAL = ScenarioStep("close", 3, frames=FRAMES, final=True)


def flush(*which: int, offset: int = 0, length: int = PAGE) -> list[Event]:
    return [Flush(PLACES[at] * PAGE + offset, length) for at in which or range(4)]


def map_(domain: int = FIRST, *which: int, iova: int = IOVA) -> list[Event]:
    return [Map(domain, iova + at * PAGE, PLACES[at] * PAGE, PAGE) for at in which or range(4)]


def unmap(domain: int = FIRST, *, pending: bool = False, iova: int = IOVA) -> list[Event]:
    return [Unmap(domain, iova, 4 * PAGE, pending)]


def unpin(*which: int) -> list[Event]:
    return [Unpin(PLACES[at], 1) for at in which or range(4)]


def rules(*played: tuple[ScenarioStep, list[Event]]) -> set[int]:
    events: list[Event] = []
    for index, (_, happened) in enumerate(played):
        events += [StepBegin(index), *happened, StepEnd(index)]
    return {one.rule for one in judge_scenario([step for step, _ in played], events)}


GOOD_MAP = MAP, [*flush(), *map_()]
GOOD_UNMAP = UNMAP, [*unmap(), *flush(), *unpin()]

MISTAKES = {
    "each run is flushed at the address of the first": (1, MADE, (MAP, [*flush(0, 0, 0, 0), *map_()]), GOOD_UNMAP),
    "the address of a flush is cut to 32 bits": (
        1,
        MADE,
        (MAP, [*flush(0, 1, 2), Flush(PLACES[3] * PAGE % (1 << 32), PAGE), *map_()]),
        GOOD_UNMAP,
    ),
    "the last line of each page is left out": (1, MADE, (MAP, [*flush(length=PAGE - LINE), *map_()]), GOOD_UNMAP),
    "an unaligned range begins with the next line": (
        1,
        MADE,
        (MAP, [*flush(offset=LINE, length=PAGE - LINE), *map_()]),
        GOOD_UNMAP,
    ),
    "a map that is tried again is not flushed again": (1, MADE, (MAP, [*flush(), *map_(), *unmap(), *map_()])),
    "the flush is between the maps of two domains": (1, MADE, (MAP, [*map_(), *flush(), *map_(SECOND)])),
    "a failed map unpins without a flush": (
        3,
        MADE,
        (FAILS, [*flush(0, 1), *map_(FIRST, 0, 1), MapFailed(FIRST, IOVA, 2 * PAGE), *unpin(0, 1)]),
    ),
    "half is flushed before the IOTLB is invalidated": (
        3,
        MADE,
        GOOD_MAP,
        (UNMAP, [*unmap(pending=True), *flush(0, 1), Synced(FIRST), *flush(2, 3), *unpin()]),
    ),
    "the IOTLB of one domain of two is invalidated": (
        3,
        MADE,
        (MAP, [*flush(), *map_(), *map_(SECOND)]),
        (UNMAP, [*unmap(pending=True), *unmap(SECOND, pending=True), Synced(FIRST), *flush(), *unpin()]),
    ),
    "the pages are flushed while the last domain maps them": (
        3,
        MADE,
        (MAP, [*flush(), *map_(), *map_(SECOND)]),
        (UNMAP, [*unmap(), *flush(), *unmap(SECOND), *unpin()]),
    ),
    "a domain is freed with its pages, which are not flushed": (3, MADE, GOOD_MAP, (UNMAP, unpin())),
    "the flush of the unpin is in the step before the unmap": (
        3,
        MADE,
        GOOD_MAP,
        (ScenarioStep("flushes too early", 3, may=PAGES, frames=FRAMES), flush()),
        (UNMAP, [*unmap(), *unpin()]),
    ),
    "an access unpins later, without a flush": (3, MADE, GOOD_MAP, (QUIET, unmap()), (QUIET, unpin(1))),
    "the pages are never unpinned nor flushed": (3, MADE, GOOD_MAP, (QUIET, unmap()), (FINAL, [])),
    "an unpinned page is flushed in the next step": (
        3,
        MADE,
        GOOD_MAP,
        (UNMAP, [*unmap(), *flush(0, 1, 2), *unpin()]),
        (ScenarioStep("later", 3, may=PAGES, frames=FRAMES), flush(3)),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name: str) -> None:
    rule, *played = MISTAKES[name]
    assert rule in rules(*played)


CORRECT = {
    "line by line, backwards": (
        MADE,
        (
            MAP,
            [
                event
                for at in reversed(range(4))
                for event in (
                    *(Flush(PLACES[at] * PAGE + line, LINE) for line in reversed(range(0, PAGE, LINE))),
                    *map_(FIRST, at),
                )
            ],
        ),
        GOOD_UNMAP,
    ),
    "the IOTLB is invalidated for each page": (
        MADE,
        GOOD_MAP,
        (
            UNMAP,
            [
                event
                for at in range(4)
                for event in (
                    Unmap(FIRST, IOVA + at * PAGE, PAGE, True),
                    Synced(FIRST),
                    *flush(at),
                    *unpin(at),
                )
            ],
        ),
    ),
    "all domains are unmapped, then all are invalidated, and pages flushed before each unpin": (
        MADE,
        (MAP, [*flush(), *map_(), *map_(SECOND)]),
        (
            UNMAP,
            [
                *unmap(SECOND, pending=True),
                *unmap(pending=True),
                Synced(FIRST),
                Synced(SECOND),
                *(event for at in (2, 0, 3, 1) for event in (*flush(at), *unpin(at))),
            ],
        ),
    ),
    "a kernel thread flushes for the caller": (
        MADE,
        (MAP, [*(Flush(place * PAGE, PAGE, own=False) for place in PLACES), *map_()]),
        GOOD_UNMAP,
    ),
    "a flush in two calls, between lines": (
        MADE,
        (
            MAP,
            [
                event
                for at in range(4)
                for event in (
                    *flush(at, length=960),
                    *flush(at, offset=960, length=PAGE - 960),
                    *map_(FIRST, at),
                )
            ],
        ),
        GOOD_UNMAP,
    ),
    "a failed map takes out and flushes all that it had put in": (
        MADE,
        (FAILS, [*flush(0, 1), *map_(FIRST, 0, 1), *unmap(), *flush(0, 1), *unpin(0, 1)]),
    ),
}


@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_kernel_is_accepted(name: str) -> None:
    assert rules(*CORRECT[name]) == set()
