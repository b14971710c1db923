# SPDX-License-Identifier: MIT
"""The report of `iommufd validate` on made-up results: table, JSON, KTAP and JUnit."""

import json
from dataclasses import replace
from importlib import resources
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from iommufd_py.host.kernel_log import Splat
from iommufd_py.lab.tap import parse_tap
from iommufd_py.validate.report import (
    details,
    headline,
    list_document,
    validation_document,
    validation_junit,
    validation_ktap,
)
from iommufd_py.validate.runner import RuleOutcome, ScenarioResult, Validation
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.scenarios import SCENARIOS
from iommufd_py.validate.steps import Page, Violation


def scenario(name: str, *rules: int) -> Scenario:
    return Scenario(name, rules, ("iopt_map_pages",), "What.", "Why.", lambda context: None)


KEPT = ScenarioResult(scenario("good", 1, 3), RuleOutcome.KEPT, 0.25, frozenset({1, 3}))
VIOLATION = Violation(2, "joins", "mapped & lost", Page("buffer 1", 3), 0x1D8, ("map: flushed", "joins: mapped"), 2)
VIOLATED = ScenarioResult(scenario("bad", 2), RuleOutcome.VIOLATED, 0.5, frozenset({2}), (VIOLATION,))
ERROR = ScenarioResult(scenario("broken", 1), RuleOutcome.ERROR, 0.5, reason="it <failed>")
UNSEEN = ScenarioResult(scenario("unseen", 2), RuleOutcome.NOT_OBSERVED, 0.1, reason="no coherent device")
COUNTED = replace(KEPT, scenario=scenario("counted", 1, 3), outcome=RuleOutcome.COUNTS_AGREE)
SPLAT = Splat("WARNING", "WARNING: CPU: 0 at pages.c", "WARNING: CPU: 0 at pages.c\nCall Trace:")
REPORTED = ScenarioResult(scenario("warns", 1), RuleOutcome.REPORTED, 0.1, reason="the kernel log", reports=(SPLAT,))
DISAGREES = ScenarioResult(scenario("differs", 1), RuleOutcome.DISAGREES, 0.1, reason="counted 3, the trace shows 4")


def schema_of(document: dict[str, Any]) -> jsonschema.Draft202012Validator:
    name = document["schema"].replace("/", "-")
    text = (resources.files("iommufd_py.cli") / "schemas" / f"{name}.json").read_text()
    return jsonschema.Draft202012Validator(json.loads(text))


def result(*verdicts: ScenarioResult) -> Validation:
    return Validation("mock", "7.3", ("arch_flush_cache_phys",), "", verdicts)


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ((KEPT,), RuleOutcome.KEPT),
        ((KEPT, UNSEEN), RuleOutcome.NOT_OBSERVED),  # rule 2 was selected but never required a flush
        ((KEPT, ERROR), RuleOutcome.ERROR),
        ((KEPT, ERROR, VIOLATED, UNSEEN), RuleOutcome.VIOLATED),
        ((replace(KEPT, exercised=frozenset()),), RuleOutcome.NOT_OBSERVED),  # no rule required a flush
        ((COUNTED,), RuleOutcome.COUNTS_AGREE),
        ((COUNTED, KEPT), RuleOutcome.COUNTS_AGREE),  # not everything was observed
        ((COUNTED, UNSEEN), RuleOutcome.NOT_OBSERVED),
        ((KEPT, REPORTED), RuleOutcome.REPORTED),
        ((KEPT, ERROR, DISAGREES), RuleOutcome.DISAGREES),
        ((REPORTED, VIOLATED), RuleOutcome.VIOLATED),
    ],
)
def test_outcome_of_a_run(verdicts: tuple[ScenarioResult, ...], outcome: RuleOutcome) -> None:
    assert result(*verdicts).outcome is outcome


def test_steps_are_printed() -> None:
    walked = replace(VIOLATED, steps=("a domain joins IOAS 1", "map buffer 1 into IOAS 1"))
    assert "steps: a domain joins IOAS 1; map buffer 1 into IOAS 1" in list(details(walked))
    document = validation_document(result(walked))
    schema_of(document).validate(document)
    assert document["scenarios"][0]["steps"] == list(walked.steps)


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
            "history": ["map: flushed", "joins: mapped"],
        }
    ]


def test_ktap() -> None:
    text = validation_ktap(result(KEPT, VIOLATED, ERROR, UNSEEN))
    assert text.startswith(
        "KTAP version 1\n1..4\nok 1 good\n# rule 2, joins: page 3 of buffer 1 (pfn 0x1d8) and 2 more"
    )
    read = parse_tap(text.splitlines())
    assert (read.planned, read.passed, read.failed) == (4, ("good",), ("bad", "broken"))
    assert read.skipped == (("unseen", "no coherent device"),)


def test_junit() -> None:
    suite = ElementTree.fromstring(validation_junit(result(KEPT, VIOLATED, ERROR, UNSEEN)).encode())
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]
    assert suite.find("testcase[@name='bad']/failure") is not None
    assert suite.find("testcase[@name='broken']/error").get("message") == "it <failed>"  # type: ignore[union-attr]


def test_every_scenario_explains_itself() -> None:
    assert len({one.name for one in SCENARIOS}) == len(SCENARIOS) > 40
    for one in SCENARIOS:
        assert one.what.endswith(".") and one.why.endswith(".") and one.functions and set(one.rules) <= {1, 2, 3}


def test_counts_are_good_only_where_they_suffice() -> None:
    run = result(COUNTED)
    assert not run.is_good and replace(run, counts_suffice=True).is_good and result(KEPT).is_good
    assert "ok 1 counted # SKIP only the counts agree" in validation_ktap(run)
    assert validation_ktap(replace(run, counts_suffice=True)).endswith("ok 1 counted")
    assert ElementTree.fromstring(validation_junit(run).encode()).get("skipped") == "1"
    assert ElementTree.fromstring(validation_junit(replace(run, counts_suffice=True)).encode()).get("skipped") == "0"


def test_failures_of_every_kind_fail() -> None:
    run = result(KEPT, VIOLATED, ERROR, REPORTED, DISAGREES, UNSEEN)
    assert len(parse_tap(validation_ktap(run).splitlines()).failed) == 4
    suite = ElementTree.fromstring(validation_junit(run).encode())
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["6", "3", "1", "1"]


def test_one_line_and_everything() -> None:
    twice = replace(VIOLATED, violations=(VIOLATION, VIOLATION))
    assert headline(twice).endswith("mapped & lost; and 1 more violations")
    assert "\n" not in headline(twice) and len(list(details(twice))) == 6
    assert list(details(REPORTED))[-1] == "Call Trace:"


def test_documents_are_as_their_schemas_say() -> None:
    documents = (
        validation_document(result(KEPT, VIOLATED, ERROR, REPORTED, DISAGREES, UNSEEN, COUNTED)),
        validation_document(replace(result(COUNTED), doubts=("one",), not_observed="order", rule_set="refined")),
        list_document(SCENARIOS),
    )
    for document in documents:
        schema_of(document).validate(document)
        spoiled = {**document, "more": 1}
        assert not schema_of(document).is_valid(spoiled)
    for outcome in RuleOutcome:
        document = validation_document(result(replace(KEPT, outcome=outcome)))
        schema_of(document).validate(document)
