# SPDX-License-Identifier: MIT
"""How `scripts/mutants` judges an answer, and the properties of its patches."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.mutation import answers, patches

ROOT = Path(__file__).parents[3]


def scenario(name: str, outcome: str, *rules: int | None, reason: str | None = None) -> dict[str, Any]:
    return {"name": name, "outcome": outcome, "reason": reason, "violations": [{"rule": rule} for rule in rules]}


def document(outcome: str, *scenarios: dict[str, Any]) -> dict[str, Any]:
    return {"outcome": outcome, "scenarios": list(scenarios)}


KEPT = document("kept", scenario("a", "kept"))
VIOLATED = document(
    "violated", scenario("a", "kept"), scenario("b", "violated", 3, 1, 3), scenario("c", "violated", None)
)
ERROR = document("error", scenario("a", "error", reason="it stopped"))
DISAGREES = document(
    "counters disagree",
    scenario("a", "counters disagree", reason="counted 3"),
    scenario("b", "kernel report", reason="a WARNING"),
)


@pytest.mark.parametrize(
    ("is_right", "answer", "trouble", "good", "said"),
    [
        (True, KEPT, "", True, "accepted"),
        (True, KEPT, "reported a WARNING", False, "accepted; the guest reported a WARNING"),
        (True, VIOLATED, "", False, "not accepted, violated: b (1, 3), c (VFIO_DMA_CC_IOMMU)"),
        (True, ERROR, "", False, "not accepted, error: a (it stopped)"),
        (True, None, "hung for 400 s", False, "no answer; the guest hung for 400 s"),
        (False, VIOLATED, "", True, "b (1, 3) and 1 more"),
        (False, VIOLATED, "reported a WARNING", True, "b (1, 3) and 1 more; the guest reported a WARNING"),
        (False, KEPT, "", False, "survived, kept"),
        (False, ERROR, "", False, "survived, error, a (it stopped)"),
        (False, DISAGREES, "", True, "a (counters disagree) and 1 more"),
        (True, DISAGREES, "", False, "not accepted, counters disagree: a (counters disagree), b (kernel report)"),
        (False, None, "reported a panic", False, "no answer; the guest reported a panic"),
    ],
)
def test_each_answer_gets_its_verdict(
    is_right: bool, answer: dict[str, Any] | None, trouble: str, good: bool, said: str
) -> None:
    assert answers.judge_answer(is_right, answer, trouble) == (good, said)


def test_natively_the_kernel_checks_the_order_and_counts_are_enough() -> None:
    agree = document("counts agree", scenario("a", "counts agree"))
    assert answers.judge_answer(True, agree, "", native=True) == (True, "accepted")
    assert answers.judge_answer(True, agree, "") == (False, "not accepted, counts agree: ")
    assert answers.judge_answer(True, DISAGREES, "", native=True)[0] is False
    assert answers.judge_answer(False, agree, "", native=True) == (False, "survived, counts agree")


def test_native_patches_are_those_of_iommufd() -> None:
    native = [one for one in patches.subjects(tables=True) if one.file is not None and one.is_native]
    assert len(native) >= 38
    assert all("+++ b/drivers/iommu/iommufd/" in one.text for one in native)
    assert "another-name" not in {one.file.stem for one in native}


def test_every_patch_says_what_is_wrong() -> None:
    series, *others = patches.subjects(tables=False)
    assert series.is_right and series.command == ["iommufd", "validate", "--json"]
    assert len([one for one in others if not one.is_right]) >= 40
    assert len([one for one in others if one.is_right]) >= 15
    for one in others:
        assert ".\n\n" in one.text, one.name
        assert ("vfio_iommu_type1" in one.text) == ("--device" in one.command), one.name
    tables = [one for one in patches.subjects(tables=True) if one.is_of_tables]
    assert len(tables) >= 8
    assert all(".\n\n" in one.text and "drivers/iommu/iommufd" not in one.text for one in tables)
    assert set(patches.QUICK) <= {one.file.stem for one in (*others, *tables)}


def test_bytes_are_looked_at_where_the_patch_is() -> None:
    for one in patches.subjects(tables=False):
        in_container = one.data_command.endswith("--container vfio_type1v2")
        assert in_container == ("vfio_iommu_type1" in one.text), one.name


RIGHT, WRONG = (
    {
        "cases": [
            {"name": "a", "verdict": "right", "rule": 1, "readings": [{"rule": 1, "right": True}]},
            # The case mainly checks rule 1, and its reading for rule 3 can be wrong.
            {"name": "b", "verdict": verdict, "rule": 1, "readings": [{"rule": 1, "right": True}, *readings]},
        ]
    }
    for verdict, readings in (("skip", []), ("wrong", [{"rule": 3, "right": False}]))
)


@pytest.mark.parametrize(
    ("is_right", "unseen", "good", "answer", "expected"),
    [
        (True, None, True, RIGHT, (True, "right")),
        (True, None, True, WRONG, (False, "b (3)")),
        (True, None, False, RIGHT, (False, "right")),
        (False, None, True, WRONG, (True, "b (3)")),
        (False, "why", True, WRONG, (True, "b (3)")),
        (False, "why", True, RIGHT, (True, "nothing: why")),
        (False, None, True, RIGHT, (False, "nothing: and the patch gives no reason")),
        (False, None, False, WRONG, (False, "b (3)")),
        (False, "why", True, None, (False, "no answer")),
    ],
)
def test_two_witnesses(
    is_right: bool,
    unseen: str | None,
    good: bool,
    answer: dict[str, Any] | None,
    expected: tuple[bool, str],
) -> None:
    assert answers.judge_data(is_right, unseen, good, answer) == expected


def test_a_pattern_that_nothing_matches_is_wrong_usage() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/mutants", "--only", "rule*", "--only", "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no patch matches 'nothing'" in done.stderr


def test_the_selection_for_ci_is_complete() -> None:
    """A patch that gets another name must not leave the selection unnoticed."""
    plain = patches.chosen_subjects(["*"], quick=True, incoherent=False, native=False)
    whole = patches.chosen_subjects(["*"], quick=True, incoherent=True, native=False)
    assert {one.file.stem for one in whole if one.file} == set(patches.QUICK)
    assert (len(plain) - 1, len(whole) - len(plain)) == (3, 2)
    assert [one.name for one in plain if one.file and one.unseen is None] == [
        "rule1-skips-marked",
        "rule2-skips-marked",
    ]
