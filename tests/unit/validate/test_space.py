# SPDX-License-Identifier: MIT
"""The space of scenarios: every pair is covered, the model follows the kernel's rules, and walks are shortened."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from iommufd_py.cli.validate import validate

from iommufd_py import Coherency
from iommufd_py.validate.catalogue import SPACES
from iommufd_py.validate.space import model
from iommufd_py.validate.space.combinations import Space
from iommufd_py.validate.space.covering import (
    Forbidden,
    Row,
    complete,
    covering_array,
    impossible_values,
    is_possible,
)
from iommufd_py.validate.space.model import Area, FlushedPages, IoasModel, PageSet, Pin
from iommufd_py.validate.space.of_container import CONTAINER_SPACE
from iommufd_py.validate.space.of_ioas import IOAS_SPACE
from iommufd_py.validate.space.walk import WalkStep, draw, shorten

N, C = Coherency.NON_COHERENT, Coherency.COHERENT
NAMES = [space.name for space in SPACES]


def rows_of(space: Space, *, full: bool = False) -> list[Row]:
    return [space._row(one.name) for one in space.scenarios(full=full)]


def as_words(row: Row) -> list[str]:
    return [f"{axis} {value}" for axis, value in row.items()]


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
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("space", "most"), [(IOAS_SPACE, (70, 420)), (CONTAINER_SPACE, (40, 170))], ids=NAMES)
def test_the_space_is_covered(space: Space, most: tuple[int, int], full: bool) -> None:
    """A tuple that no row has is impossible: the test tries every way to complete it."""
    rows = rows_of(space, full=full)
    assert all(is_possible(row, space.forbidden) and list(row) == list(space.axes) for row in rows)
    covered = tuples(rows, 3 if full else 2)
    missing = 0
    for names in combinations(space.axes, 3 if full else 2):
        for values in product(*(space.axes[name] for name in names)):
            if tuple(zip(names, values, strict=True)) not in covered:
                missing += 1
                assert complete(dict(zip(names, values, strict=True)), space.axes, space.forbidden) is None
    assert missing
    assert len(rows) < most[full]


def test_the_help_names_every_dimension() -> None:
    text = " ".join((validate.help or "").split())
    for space, intro in (IOAS_SPACE, "these dimensions: "), (CONTAINER_SPACE, "type1 containers, which combine "):
        dimensions = text.partition(intro)[2].partition(". ")[0]
        assert dimensions.endswith("and the end")
        assert [axis for axis in space.axes if not re.search(rf"\b{axis}", dimensions)] == []


@pytest.mark.parametrize("space", SPACES, ids=NAMES)
def test_rows_are_the_same_every_time(space: Space) -> None:
    assert covering_array(space.axes, space.forbidden, 2) == rows_of(space)


@pytest.mark.parametrize("space", SPACES, ids=NAMES)
def test_names_are_unique_and_tell_the_row(space: Space) -> None:
    scenarios = space.scenarios()
    assert len({one.name for one in scenarios}) == len(scenarios)
    assert all(told in one.what for one, row in zip(scenarios, rows_of(space), strict=True) for told in as_words(row))
    for one in scenarios:
        named = space.named(one.name)
        assert named is not None
        assert (named.name, named.what) == (one.name, one.what)


def test_a_name_of_no_combination_names_nothing() -> None:
    zeros = "0" * len(IOAS_SPACE.axes)
    assert IOAS_SPACE.named(f"combination-{zeros}") is not None
    for name in (
        "map-non-coherent",
        "combination",
        "combination-",
        f"combination-{zeros}0",
        f"combination-{zeros[1:]}",
        f"combination-9{zeros[1:]}",
        f"combination-{zeros[1:]}x",
        f"combination-{zeros[1:]}\u0661",
        f"container-combination-{zeros}",
    ):
        assert IOAS_SPACE.named(name) is None, name
    attached_with_a_flag = "combination-0000000110000"
    assert IOAS_SPACE.named(attached_with_a_flag) is None


def run_with_substitutes(space: Space, can_run: Callable[[Row], bool]) -> dict[str, bool]:
    """Run all scenarios and their substitutes, where those can run of whose row *can_run* is true."""
    observed: dict[str, bool] = {}
    more = space.scenarios()
    while more:
        assert not observed.keys() & {one.name for one in more}
        observed |= {one.name: can_run(space._row(one.name)) for one in more}
        more = space.substitutes(observed)
    return observed


@pytest.mark.slow
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_pairs_that_a_machine_makes_impossible_are_combined_again(data: st.DataObject) -> None:
    space = data.draw(st.sampled_from(SPACES))
    values = [(axis, value) for axis, values in space.axes.items() for value in values]
    lacking = data.draw(st.sets(st.sampled_from(values), max_size=6))
    observed = run_with_substitutes(space, lambda row: lacking.isdisjoint(row.items()))
    assume(any(observed.values()))
    left = {axis: [one for one in ones if (axis, one) not in lacking] for axis, ones in space.axes.items()}
    seen = tuples([space._row(name) for name, ran in observed.items() if ran], 2)
    for names in combinations(left, 2):
        for pair in product(*(left[name] for name in names)):
            wanted = dict(zip(names, pair, strict=True))
            assert tuple(wanted.items()) in seen or complete(wanted, left, space.forbidden) is None


@pytest.mark.slow
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 30))
def test_scenarios_that_fail_for_no_value_of_their_own_end_the_search(seed: int) -> None:
    """A third of the scenarios cannot run, whatever their values are: no scenario is tried twice."""
    source = random.Random(seed)
    assert len(run_with_substitutes(CONTAINER_SPACE, lambda row: source.random() > 0.3)) >= len(
        rows_of(CONTAINER_SPACE)
    )


def test_on_a_machine_without_any_of_them_nothing_is_tried_again() -> None:
    assert len(run_with_substitutes(CONTAINER_SPACE, lambda row: False)) == len(CONTAINER_SPACE.scenarios())


def test_a_value_is_impossible_if_a_row_could_not_run_whose_other_values_ran() -> None:
    axes = {"flags": ("plain", "dirty"), "end": ("unmap", "close")}
    rows = [{"flags": flags, "end": end} for flags, end in product(*axes.values())]
    assert impossible_values(rows[:2], rows[2:]) == {("flags", "dirty")}
    assert impossible_values(rows, []) == set()
    # Either value of the last row may be the reason that it could not run.
    assert impossible_values(rows[:1], rows[3:]) == set()
    # Every value ran in another row, so the reason is no value.
    assert impossible_values([rows[0], rows[3]], rows[1:3]) == set()


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
