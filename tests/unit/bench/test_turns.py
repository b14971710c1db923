# SPDX-License-Identifier: MIT
"""Guests that measure in turns meet before each row, and never measure at the same time."""

import math
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py.base.errors import ArgumentValueError, ToolError
from iommufd_py.bench import turns
from iommufd_py.bench.turns import Slots, Turn

COUNT = 4


@given(number=st.integers(0, COUNT - 1), seconds=st.floats(0.1, 5), now=st.floats(-20, 100))
def test_a_guest_waits_for_a_slot_of_its_own(number: int, seconds: float, now: float) -> None:
    begin = Slots(0.0, seconds, number, COUNT).begin_of_next(now)
    assert now <= begin
    # A guest that comes to an early slot still gets its first one.
    assert begin - max(now, 0.0) <= COUNT * seconds + 1e-9
    slot = begin / seconds
    # The guest begins at the start of a slot, or in its first tenth.
    assert math.floor(slot + 1e-6) % COUNT == number
    assert slot - math.floor(slot + 1e-6) <= 0.1 + 1e-6


def test_a_late_guest_skips_its_slot() -> None:
    slots = Slots(start=10.0, seconds=1.0, number=1, count=COUNT)
    assert slots.begin_of_next(0.0) == 11.0
    assert slots.begin_of_next(11.05) == 11.05
    assert slots.begin_of_next(11.5) == 15.0


def test_guests_that_meet_have_the_same_slots(tmp_path: Path) -> None:
    """The length of a slot suits the slowest guest."""
    found: dict[int, Slots] = {}

    def guest(number: int) -> None:
        found[number] = Turn(tmp_path, number, COUNT).meet("row", 0.2 * number)

    guests = [threading.Thread(target=guest, args=(number,)) for number in range(COUNT)]
    for one in guests:
        one.start()
    for one in guests:
        one.join()
    assert {(one.start, one.seconds) for one in found.values()} == {(found[0].start, found[0].seconds)}
    assert found[0].seconds == pytest.approx(0.2 * (COUNT - 1) * 1.25)
    assert [found[number].number for number in range(COUNT)] == list(range(COUNT))


def test_a_guest_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 0)
    (tmp_path / "row-1").write_text("[0, 0]")
    with pytest.raises(ToolError, match="guest 3 of 3 did not begin its row"):
        Turn(tmp_path, 0, 3).meet("row", 0)


@pytest.mark.parametrize(("number", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_guest_outside_of_the_count_is_refused(tmp_path: Path, number: int, count: int) -> None:
    with pytest.raises(ArgumentValueError, match="is not one of"):
        Turn(tmp_path, number, count)
