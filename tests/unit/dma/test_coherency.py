# SPDX-License-Identifier: MIT
"""The origin of bytes as text, the verdict on a case, and the Python model of the cache that checks the lab's
emulator."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iommufd_py import DmaBuffer
from iommufd_py.base.errors import SkipError
from iommufd_py.dma.coherency.cases import COHERENCY_CASES, CoherencyCase, run_coherency_case
from iommufd_py.dma.coherency.harness import CoherencyHarness
from iommufd_py.dma.coherency.readings import (
    LINE_BYTES,
    CoherencyVerdict,
    Content,
    Piece,
    Reading,
    in_words,
    merged,
    recognize,
)
from iommufd_py.dma.harness import Window
from tests.machines.write_back_cache import LINE, ImpossibleError, WriteBackCache

MINE = Content("the CPU's data", os.urandom(256))
OLD = Content("the old contents of memory", os.urandom(256))


def test_each_line_is_recognized_where_it_lay() -> None:
    found = MINE.data[:64] + OLD.data[64:128] + bytes(64) + b"POWER-ON" * 8 + MINE.data[:64]
    assert recognize(found, [MINE, OLD]) == (
        Piece(0, 64, "the CPU's data"),
        Piece(64, 64, "the old contents of memory"),
        Piece(128, 64, "zeros"),
        Piece(192, 64, "memory as it was at power-on"),
        Piece(256, 64, "bytes of unknown origin"),
    )


def test_a_line_of_two_origins_is_nobodys() -> None:
    found = MINE.data[:32] + OLD.data[32:64]
    assert recognize(found, [MINE, OLD]) == (Piece(0, 64, "bytes of unknown origin"),)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_joined_pieces_cover_the_same_bytes(origins: list[str]) -> None:
    pieces = [Piece(at * LINE_BYTES, LINE_BYTES, origin) for at, origin in enumerate(origins)]
    whole = merged(pieces)
    assert [one for piece in whole for one in [piece.origin] * (piece.length // LINE_BYTES)] == origins
    assert all(one.origin != other.origin for one, other in pairwise(whole))
    assert [piece.offset for piece in whole] == [sum(one.length for one in whole[:n]) for n in range(len(whole))]


def test_words() -> None:
    pieces = (Piece(0, 1024, "zeros"), Piece(1024, 64, "x"), Piece(1088, 960, "zeros"), Piece(2048, 4096, "y"))
    assert in_words(pieces) == "1984 bytes of zeros, 64 bytes of x and 4096 bytes of y"
    reading = Reading("device", "after the map", pieces[:1], (Piece(0, 1024, "x"),), 1)
    assert not reading.right
    assert str(reading) == "after the map the device reads 1024 bytes of zeros instead of 1024 bytes of x"
    assert str(Reading("CPU", "then", pieces[:1], pieces[:1], 3)) == "then the CPU reads 1024 bytes of zeros"


def test_every_case_has_a_condition_and_a_unique_name() -> None:
    assert all(case.purpose.endswith(".") and "\n" not in case.purpose for case in COHERENCY_CASES)
    assert len({case.name for case in COHERENCY_CASES}) == len(COHERENCY_CASES)
    assert {case.rule for case in COHERENCY_CASES} == {1, 2, 3}


def test_the_page_of_the_machine_explains_every_case() -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/incoherent-machine.md").read_text()
    assert [case.name for case in COHERENCY_CASES if case.name not in page] == []


def test_one_wrong_reading_makes_a_case_wrong() -> None:
    harness = CoherencyHarness.__new__(CoherencyHarness)
    harness.readings = []
    right, wrong = (Reading("CPU", "now", (Piece(0, 64, one),), (Piece(0, 64, "x"),), 3) for one in "xy")

    def case_of(*readings: Reading) -> CoherencyCase:
        def read(harness: CoherencyHarness) -> None:
            harness.readings.extend(readings)

        return CoherencyCase(1, read)

    assert run_coherency_case(case_of(right), harness).verdict is CoherencyVerdict.RIGHT
    outcome = run_coherency_case(case_of(right, wrong, right), harness)
    assert outcome.verdict is CoherencyVerdict.WRONG
    assert str(outcome) == str(wrong)
    # The rule belongs to the reading. The case mainly checks another one.
    assert (outcome.rule, outcome.broken) == (1, {3})
    assert [reading["right"] for reading in outcome.as_dict()["readings"]] == [True, False, True]  # type: ignore[attr-defined]


def test_a_case_that_cannot_run_gives_the_reason() -> None:
    harness = CoherencyHarness.__new__(CoherencyHarness)
    harness.readings = []

    def refuse(harness: CoherencyHarness) -> None:
        raise SkipError("no such memory")

    outcome = run_coherency_case(CoherencyCase(2, refuse), harness)
    assert (outcome.verdict, outcome.remark, outcome.readings) == (CoherencyVerdict.SKIP, "no such memory", ())


def test_a_case_that_ends_early_hides_no_wrong_reading() -> None:
    harness = CoherencyHarness.__new__(CoherencyHarness)
    harness.readings = []
    readings = {origin: Reading("device", "now", (Piece(0, 64, origin),), (Piece(0, 64, "x"),), 1) for origin in "xy"}

    def ended_after(origin: str) -> CoherencyCase:
        def read(harness: CoherencyHarness) -> None:
            harness.readings.append(readings[origin])
            raise SkipError("no such memory")

        return CoherencyCase(1, read)

    wrong = run_coherency_case(ended_after("y"), harness)
    assert (wrong.verdict, wrong.readings) == (CoherencyVerdict.WRONG, (readings["y"],))
    assert run_coherency_case(ended_after("x"), harness).verdict is CoherencyVerdict.SKIP


def test_a_case_that_reads_nothing_is_not_right() -> None:
    harness = CoherencyHarness.__new__(CoherencyHarness)
    harness.readings = []
    outcome = run_coherency_case(CoherencyCase(1, lambda _: None), harness)
    assert (outcome.verdict, outcome.remark) == (CoherencyVerdict.SKIP, "nothing was read")


def test_a_window_flushes_where_dma_does_not_snoop(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[int, int | None]] = []
    monkeypatch.setattr(DmaBuffer, "flush", lambda _, offset=0, length=None: flushed.append((offset, length)))
    with DmaBuffer(4096) as buffer:
        for snooped in (True, False):
            window = Window(buffer, 0x10000, bytes(4096), None, snooped)
            window.put(0x10100, b"abc")
            window.found()
    assert flushed == [(0x100, 3), (0, None)]


def test_a_flush_stays_inside_the_buffer() -> None:
    with DmaBuffer(4096) as buffer:
        buffer.flush()
        buffer.invalidate(4095, 1)
        with pytest.raises(ValueError, match="are not inside"):
            buffer.flush(1, 4096)


@pytest.mark.slow
@given(st.binary(min_size=1, max_size=3 * LINE), st.integers(0, LINE))
def test_a_store_is_in_memory_only_after_a_flush(data: bytes, at: int) -> None:
    cache = WriteBackCache(bytes(4 * LINE))
    cache.store(at, data)
    cache.load(at, data)
    cache.dma_read(at, bytes(len(data)))
    cache.flush(at, len(data))
    cache.dma_read(at, data)


@given(st.binary(min_size=LINE, max_size=LINE))
def test_a_line_may_leave_between_two_reads(data: bytes) -> None:
    cache = WriteBackCache(bytes(LINE), evicting=True)
    cache.dma_write(0, data)
    cache.load(0, bytes(LINE))
    cache.load(0, data)


@given(st.binary(min_size=LINE, max_size=LINE), st.booleans())
def test_a_line_that_may_leave_by_itself_may_be_read_either_way_but_not_both(data: bytes, evicting: bool) -> None:
    zeros = bytes(LINE)
    cache = WriteBackCache(zeros, evicting=evicting)
    cache.dma_write(0, data)
    if evicting or data == zeros:
        cache.load(0, data)
        if data != zeros:
            with pytest.raises(ImpossibleError):
                cache.load(0, zeros)
    else:
        with pytest.raises(ImpossibleError):
            cache.load(0, data)
        cache.load(0, zeros)
