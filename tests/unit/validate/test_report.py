# SPDX-License-Identifier: MIT
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from iommufd_py.lab.tap import parse_tap
from iommufd_py.validate.judge import Page, Violation
from iommufd_py.validate.report import junit, ktap, validation_document
from iommufd_py.validate.runner import RuleOutcome, ScenarioResult, Validation
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.scenarios import SCENARIOS


def scenario(name: str, *rules: int) -> Scenario:
    return Scenario(name, rules, ("iopt_map_pages",), "What.", "Why.", lambda stage: None)


KEPT = ScenarioResult(scenario("good", 1, 3), RuleOutcome.KEPT, 0.25, frozenset({1, 3}))
VIOLATION = Violation(2, "joins", "mapped & lost", Page("buffer 1", 3), 0x1D8, ("map: flushed", "joins: mapped"), 2)
VIOLATED = ScenarioResult(scenario("bad", 2), RuleOutcome.VIOLATED, 0.5, frozenset({2}), (VIOLATION,))
ERROR = ScenarioResult(scenario("broken", 1), RuleOutcome.ERROR, 0.5, reason="it <failed>")
UNSEEN = ScenarioResult(scenario("unseen", 2), RuleOutcome.NOT_OBSERVED, 0.1, reason="no coherent device")


def result(*verdicts: ScenarioResult) -> Validation:
    return Validation("mock", "7.3", ("arch_flush_cache_phys",), "", verdicts)


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ((KEPT,), RuleOutcome.KEPT),
        ((KEPT, UNSEEN), RuleOutcome.NOT_OBSERVED),  # rule 2 was asked for and never put to work
        ((KEPT, ERROR), RuleOutcome.ERROR),
        ((KEPT, ERROR, VIOLATED, UNSEEN), RuleOutcome.VIOLATED),
        ((replace(KEPT, exercised=frozenset()),), RuleOutcome.NOT_OBSERVED),  # nothing had to be flushed
    ],
)
def test_outcome_of_a_run(verdicts: tuple[ScenarioResult, ...], outcome: RuleOutcome) -> None:
    assert result(*verdicts).outcome is outcome


def test_rules() -> None:
    run = result(KEPT, VIOLATED)
    assert [run.rule(number) for number in (1, 2, 3)] == [RuleOutcome.KEPT, RuleOutcome.VIOLATED, RuleOutcome.KEPT]
    assert validation_document(run)["rules"] == {"1": "kept", "2": "violated", "3": "kept"}


def test_document_names_the_page() -> None:
    (row,) = validation_document(result(VIOLATED))["scenarios"]
    assert row["violations"] == [
        {
            "rule": 2,
            "step": "joins",
            "what": "mapped & lost",
            "page": {"buffer": "buffer 1", "index": 3},
            "pfn": 0x1D8,
            "others": 2,
            "story": ["map: flushed", "joins: mapped"],
        }
    ]


def test_ktap() -> None:
    text = ktap(result(KEPT, VIOLATED, ERROR, UNSEEN))
    assert text.startswith(
        "KTAP version 1\n1..4\nok 1 good\n# rule 2, joins: page 3 of buffer 1 (pfn 0x1d8) and 2 more"
    )
    read = parse_tap(text.splitlines())
    assert (read.planned, read.passed, read.failed) == (4, ("good",), ("bad", "broken"))
    assert read.skipped == (("unseen", "no coherent device"),)


def test_junit() -> None:
    suite = ElementTree.fromstring(junit(result(KEPT, VIOLATED, ERROR, UNSEEN)).encode())
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]
    assert suite.find("testcase[@name='bad']/failure") is not None
    assert suite.find("testcase[@name='broken']/error").get("message") == "it <failed>"  # type: ignore[union-attr]


def test_every_scenario_explains_itself() -> None:
    assert len({one.name for one in SCENARIOS}) == len(SCENARIOS) > 40
    for one in SCENARIOS:
        assert one.what.endswith(".") and one.why.endswith(".") and one.functions and set(one.rules) <= {1, 2, 3}
