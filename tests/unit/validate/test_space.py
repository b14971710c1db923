# SPDX-License-Identifier: MIT
"""The space of scenarios: every pair is covered, the model follows the kernel's rules, and walks are shortened."""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from iommufd_py.cli.validate import validate

from iommufd_py import Coherency
from iommufd_py.validate.space import model
from iommufd_py.validate.space.combinations import AXES, FORBIDDEN, combination_scenarios, combinations_of
from iommufd_py.validate.space.covering import Forbidden, Row, complete, covering_array, is_possible
from iommufd_py.validate.space.model import Area, FlushedPages, IoasModel, PageSet, Pin
from iommufd_py.validate.space.walk import WalkStep, draw, shorten

N, C = Coherency.NON_COHERENT, Coherency.COHERENT


def possible_rows(axes: Mapping[str, Sequence[str]], forbidden: Sequence[Forbidden]) -> list[Row]:
    """Return all possible rows, by brute force."""
    rows = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    return [row for row in rows if not any(all(row[a] in values for a, values in one.items()) for one in forbidden)]


def tuples(rows: Sequence[Row], strength: int) -> set[tuple[tuple[str, str], ...]]:
    return {chosen for row in rows for chosen in combinations(row.items(), strength)}


@st.composite
def small_spaces(draw_: st.DrawFn) -> tuple[dict[str, list[str]], list[dict[str, frozenset[str]]]]:
    axes = {f"axis{number}": [str(value) for value in range(draw_(st.integers(2, 4)))] for number in range(4)}
    forbidden = []
    for _ in range(draw_(st.integers(0, 4))):
        names = draw_(st.lists(st.sampled_from(list(axes)), min_size=1, max_size=3, unique=True))
        forbidden.append(
            {name: frozenset(draw_(st.sets(st.sampled_from(axes[name]), min_size=1, max_size=2))) for name in names}
        )
    return axes, forbidden


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(space=small_spaces(), strength=st.integers(2, 3))
def test_any_space_is_covered(
    space: tuple[dict[str, list[str]], list[dict[str, frozenset[str]]]], strength: int
) -> None:
    axes, forbidden = space
    possible = possible_rows(axes, forbidden)
    rows = covering_array(axes, forbidden, strength)
    assert all(row in possible for row in rows)
    assert tuples(rows, strength) == tuples(possible, strength)


@pytest.mark.slow
@pytest.mark.parametrize("strength", [2, 3])
def test_the_space_is_covered(strength: int) -> None:
    """A tuple that no row has is impossible: the test tries every way to complete it."""
    rows = combinations_of(strength)
    assert all(is_possible(row, FORBIDDEN) and list(row) == list(AXES) for row in rows)
    covered = tuples(rows, strength)
    missing = 0
    for names in combinations(AXES, strength):
        for values in product(*(AXES[name] for name in names)):
            if tuple(zip(names, values, strict=True)) not in covered:
                missing += 1
                assert complete(dict(zip(names, values, strict=True)), AXES, FORBIDDEN) is None
    assert missing
    assert len(rows) < (70 if strength == 2 else 420)


def test_the_help_names_every_dimension() -> None:
    text = " ".join((validate.help or "").split())
    dimensions = text.partition("these dimensions: ")[2].partition("Together they")[0]
    assert dimensions.endswith(", and the end. ")
    assert [axis for axis in AXES if not re.search(rf"\b{axis}", dimensions)] == []


def test_rows_are_the_same_every_time() -> None:
    assert covering_array(AXES, FORBIDDEN, 2) == list(combinations_of(2))


def test_names_are_unique_and_say_what() -> None:
    scenarios = combination_scenarios()
    assert len({one.name for one in scenarios}) == len(scenarios) == len(combinations_of(2))
    assert all(f"memory {row['memory']}" in one.what for one, row in zip(scenarios, combinations_of(2), strict=True))


def told(flushes: FlushedPages) -> dict[str, list[int]]:
    return {
        kind: sorted(index for _, index in getattr(flushes, kind))
        for kind in ("enter", "leave", "may")
        if getattr(flushes, kind)
    }


def area(space: IoasModel, pages: PageSet | None = None, first: int = 0, count: int = 2) -> Area:
    return Area(space, pages or PageSet(0), first, count)


class TestModel:
    def test_map_and_unmap(self) -> None:
        space = IoasModel()
        assert told(model.add_domain(space, N)) == {}
        one = area(space)
        assert told(model.add_area(one)) == {"enter": [0, 1]}
        assert told(model.remove_areas([one])) == {"leave": [0, 1]}

    def test_coherent(self) -> None:
        space = IoasModel()
        model.add_domain(space, C)
        one = area(space)
        assert told(model.add_area(one)) == told(model.remove_areas([one])) == {}

    def test_each_non_coherent_domain_that_joins_flushes(self) -> None:
        space = IoasModel()
        one = area(space)
        model.add_area(one)
        assert told(model.add_domain(space, C)) == {}
        assert [told(model.add_domain(space, N)) for _ in range(2)] == [{"enter": [0, 1]}] * 2
        assert told(model.remove_domain(space, N)) == told(model.remove_domain(space, N)) == {}
        assert told(model.remove_domain(space, C)) == {"leave": [0, 1]}

    def test_the_mark_stays_and_exposure_ends(self) -> None:
        space = IoasModel()
        one = area(space)
        model.add_area(one)
        model.add_domain(space, N)
        assert told(model.remove_domain(space, N)) == {"leave": [0, 1]}
        model.add_domain(space, C)
        assert told(model.remove_domain(space, C)) == {"may": [0, 1]}

    def test_an_access_keeps_pages(self) -> None:
        space = IoasModel()
        model.add_domain(space, N)
        one = area(space)
        model.add_area(one)
        pin = Pin(one, 1, 1)
        model.add_pin(pin)
        assert told(model.remove_domain(space, N)) == {"leave": [0]}
        assert told(model.remove_pin(pin)) == {"leave": [1]}

    def test_an_unmap_makes_accesses_unpin(self) -> None:
        space = IoasModel()
        model.add_domain(space, N)
        one = area(space)
        model.add_area(one)
        model.add_pin(Pin(one, 0, 2))
        assert told(model.remove_areas([one])) == {"leave": [0, 1]}
        assert not one.pins

    def test_a_copy_shares_the_pages(self) -> None:
        first, second = IoasModel(), IoasModel()
        model.add_domain(first, C)
        model.add_domain(second, N)
        source = area(first, count=4)
        model.add_area(source)
        copy = area(second, source.pages, first=1, count=2)
        assert told(model.add_area(copy)) == {"enter": [1, 2]}
        assert told(model.remove_areas([copy])) == {}
        assert told(model.remove_areas([source])) == {"leave": [1, 2], "may": [0, 3]}


def test_walks_are_the_same_for_the_same_seed() -> None:
    assert draw(7, 30) == draw(7, 30) != draw(8, 30)
    assert len(draw(7, 30)) == 30


@settings(deadline=None)
@given(length=st.integers(1, 40), wanted=st.sets(st.integers(0, 39), min_size=1, max_size=4))
def test_a_walk_is_shortened_to_what_it_takes(length: int, wanted: set[int]) -> None:
    steps = [WalkStep("map", (number, 0, 0)) for number in range(length)]
    culprits = {number % length for number in wanted}

    def fails(shorter: Sequence[WalkStep]) -> bool:
        return culprits <= {step.numbers[0] for step in shorter}

    assert {step.numbers[0] for step in shorten(steps, fails)} == culprits
