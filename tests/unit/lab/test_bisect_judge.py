# SPDX-License-Identifier: MIT
"""The verdict on one commit of a bisection, from the answers of its guests or from its times."""

import json
import random
from pathlib import Path

import pytest
from iommufd_py.cli.bench.axes import chosen_points
from iommufd_py.cli.bench.run import run as bench_run

from iommufd_py.lab.bisect.judge import guest_command, judge_commit, median_ns
from iommufd_py.lab.bisect.timing import MOST_BOOTS, decide
from iommufd_py.lab.bisect.trial import OPERATIONS, CommitVerdict, Kind, Question
from iommufd_py.lab.runs import RunResult
from iommufd_py.results.document import SCHEMA

RULE = Question(Kind.RULE, "2")
MAP = Question(Kind.BENCH, "map 2M", 0.05)


def test_the_interval_decides_not_the_value() -> None:
    quiet = [100.0, 101.0, 99.0, 100.5]
    assert decide(quiet, [one * 1.05 for one in quiet], 0.05)[0] is CommitVerdict.BAD
    assert decide(quiet, quiet, 0.05)[0] is CommitVerdict.GOOD
    assert decide(quiet, [one * 0.9 for one in quiet], 0.05)[0] is CommitVerdict.GOOD  # faster is not slower
    noisy = [80.0, 120.0, 95.0, 110.0]
    # The boots of a pair measured in turns, so they have the noise in common.
    assert decide(noisy, [one * 1.05 for one in noisy], 0.05)[0] is CommitVerdict.BAD
    verdict, evidence = decide(noisy, [one * 1.05 for one in noisy[::-1]], 0.05)
    assert verdict is None
    assert "99% interval" in evidence
    assert "the line is 1.025" in evidence
    assert decide([100.0], [200.0], 0.05)[0] is None


def test_a_wrong_timing_verdict_is_rare() -> None:
    """A decision after every boot makes a 99 % interval wrong more often than 1 %; this test measures how often."""
    chance = random.Random(1)
    wrong = undecided = 0
    for _ in range(300):
        slower = chance.random() < 0.5
        reference: list[float] = []
        candidate: list[float] = []
        verdict = None
        while verdict is None and len(candidate) < MOST_BOOTS:
            speed = chance.uniform(0.6, 1.0)
            reference.append(chance.gauss(100, 1.5) / speed)
            candidate.append(chance.gauss(105 if slower else 100, 1.5) / speed)
            if len(candidate) >= 4:
                verdict, _ = decide(reference, candidate, 0.05)
        undecided += verdict is None
        wrong += verdict is not None and (verdict is CommitVerdict.BAD) is not slower
    assert wrong <= 9
    assert undecided <= 25


def run(status: int | None = 0, **more: object) -> RunResult:
    values = {
        "accel": "uml",
        "seconds": 1.0,
        "timed_out": False,
        "failure": None,
        "splats": (),
        "kernel_log": Path("l"),
    }
    return RunResult(status=status, **(values | more))  # type: ignore[arg-type]


class TestJudge:
    """Verdicts from the output of guests."""

    def document(self, outcome: str) -> str:
        violation = {"rule": 2, "step": "join", "what": "not flushed"}
        scenarios = [
            {"name": "attach", "outcome": outcome, "reason": "why", "violations": [violation] * (outcome == "violated")}
        ]
        rules = {"1": "kept", "2": outcome if outcome in ("kept", "violated", "counts agree") else "not observed"}
        return json.dumps({"rules": rules, "scenarios": scenarios, "not_observed": None})

    @pytest.mark.parametrize(
        ("outcome", "of_rule", "of_scenario"),
        [
            ("kept", CommitVerdict.GOOD, CommitVerdict.GOOD),
            ("counts agree", CommitVerdict.GOOD, CommitVerdict.GOOD),
            ("violated", CommitVerdict.BAD, CommitVerdict.BAD),
            ("kernel report", CommitVerdict.SKIP, CommitVerdict.BAD),
            ("not observed", CommitVerdict.SKIP, CommitVerdict.SKIP),
            ("error", CommitVerdict.SKIP, CommitVerdict.SKIP),
        ],
    )
    def test_validate(self, outcome: str, of_rule: CommitVerdict, of_scenario: CommitVerdict) -> None:
        text = self.document(outcome)
        assert judge_commit(RULE, run(), text)[0] is of_rule
        assert judge_commit(Question(Kind.SCENARIO, "attach"), run(), text)[0] is of_scenario

    def test_another_rule_does_not_count(self) -> None:
        assert judge_commit(Question(Kind.RULE, "1"), run(1), self.document("violated"))[0] is CommitVerdict.GOOD

    def test_no_answer_is_no_verdict(self) -> None:
        verdict, evidence = judge_commit(RULE, run(None, timed_out=True), "")
        assert verdict is CommitVerdict.SKIP
        assert "stopped after" in evidence

    @pytest.mark.parametrize(
        ("status", "output", "verdict"),
        [
            (0, "3 passed in 1s\n", CommitVerdict.GOOD),
            (0, "3 skipped in 1s\n", CommitVerdict.SKIP),
            (1, "FAILED a.py::b - E\n1 failed\n", CommitVerdict.BAD),
            (2, "interrupted\n", CommitVerdict.SKIP),
            (4, "no such file\n", CommitVerdict.SKIP),
            (5, "no tests ran\n", CommitVerdict.SKIP),
            (None, "", CommitVerdict.SKIP),
        ],
    )
    def test_pytest(self, status: int | None, output: str, verdict: CommitVerdict) -> None:
        assert judge_commit(Question(Kind.TEST, "a.py::b"), run(status), output)[0] is verdict

    def test_a_status_is_the_one_that_git_wants(self) -> None:
        assert [one.status for one in CommitVerdict] == [0, 1, 125]

    def test_bench(self) -> None:
        text = f'{{"schema": "{SCHEMA}", "rows": [{{"runs": [{{"operations": {{"map": {{"ns": [3, 9, 4]}}}}}}]}}]}}'
        assert median_ns(MAP, run(), text) == (4, "")
        assert median_ns(MAP, run(1), "nonsense")[0] is None
        assert guest_command(MAP)[4:9] == ["mock", "--operation", "map", "--size", str(2 << 20)]

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_the_command_of_each_operation_measures_it(self, operation: str) -> None:
        """The guest would refuse another command after minutes of compilation."""
        program, group, _, *options = guest_command(Question(Kind.BENCH, f"{operation} 2M", 0.05))
        assert (program, group) == ("iommufd", "bench")
        (point,) = chosen_points(bench_run.make_context("run", options).params)
        assert operation in point.operations

    @pytest.mark.parametrize("subject", ["fly 2M", "map", "map two", "map 2M 4K"])
    def test_a_timing_that_is_none(self, subject: str) -> None:
        with pytest.raises(ValueError, match=r"\S"):
            _ = Question(Kind.BENCH, subject).timing
