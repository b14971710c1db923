# SPDX-License-Identifier: MIT
"""`iommufd validate` on the running kernel: the patched one keeps the rules, and the stock one does not."""

import json
import os
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from iommufd_py import Iommufd, flush_count
from iommufd_py.base.environment import Platform
from iommufd_py.host import environment
from iommufd_py.host.kmsg import KernelLog
from iommufd_py.host.tracefs import find_tracefs
from iommufd_py.validate.driver import MockDriver
from iommufd_py.validate.observer import Observer
from iommufd_py.validate.runner import RuleOutcome, Validation, run_scenario
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.space.walk import WalkStep, walk_scenario
from tests.conftest import need_mock_driver, need_tracing

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def flushes(iommufd: Iommufd) -> bool:
    need_mock_driver(iommufd)
    counts = flush_count(iommufd) is not None
    if not counts:
        # Without tracing, only a kernel that counts its flushes can be judged.
        need_tracing()
    return counts


@pytest.fixture
def good(flushes: bool) -> tuple[int, str] | None:
    """Return the exit status and outcome of a run without a violation; None for a kernel that does not flush."""
    if not flushes:
        return None
    # User-Mode Linux has no probes. Other kernels must have them.
    return (4, "counts agree") if environment().platform == Platform.UML else (0, "kept")


def validated(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the document, checked against its schema."""
    document: dict[str, Any] = json.loads(answer.stdout)
    schema = json.loads((resources.files("iommufd_py.cli") / "schemas" / "iommufd-validate-1.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    return document


def test_all_of_it(cli: Cli, good: tuple[int, str] | None) -> None:
    answer = cli("validate", "--json")
    document = validated(answer)
    wrong = {
        one["name"]: one["violations"] or one["reason"]
        for one in document["scenarios"]
        if one["outcome"] in ("error", "kernel report", "counters disagree")
    }
    assert not wrong
    if good is not None:
        assert (answer.returncode, document["outcome"]) == good
        assert set(document["rules"].values()) == {good[1]}
    else:
        assert (answer.returncode, document["outcome"]) == (1, "violated")
        assert document["rules"] == {"1": "violated", "2": "violated", "3": "violated"}


def test_random_walks(cli: Cli, good: tuple[int, str] | None) -> None:
    answer = cli("validate", "--random", "200", "--seed", "7", "--json")
    document = validated(answer)
    if good is not None:
        assert (answer.returncode, document["outcome"]) == good
        assert [one["name"] for one in document["scenarios"]] == [f"random-{7 + number}-40" for number in range(5)]
        return
    assert (answer.returncode, document["outcome"]) == (1, "violated")
    shortest = document["scenarios"][-1]
    assert shortest["name"].endswith("-shortened")
    # On a kernel that never flushes, a map and a domain suffice.
    assert len({one["step"] for one in shortest["violations"]}) <= 3
    assert 2 <= len(shortest["steps"]) <= 6
    printed = cli("validate", "--random", "200", "--seed", "7").stdout
    assert f"    steps: {'; '.join(shortest['steps'])}" in printed.splitlines()


def test_a_walk_is_told_by_its_steps(flushes: bool) -> None:
    walk = [WalkStep("join", (0, 0, 0)), WalkStep("map", (0, 0, 2))]
    driver = MockDriver()
    with Observer(driver, None) as observer:
        found = run_scenario(walk_scenario("walk", walk), driver, observer)
    assert [name for name in found.steps if "IOAS" in name] == [
        "a non-coherent domain joins IOAS 1",
        "map buffer 1 into IOAS 1",
        "unmap everything from IOAS 1",
    ]


class WarningLog(KernelLog):
    """A kernel log with a report in its second reading, which is the one after the scenario."""

    def __init__(self) -> None:
        self.lost = 0
        self._texts = iter(["", "[    1.0] WARNING: CPU: 0 PID: 1 at drivers/iommu/iommufd/pages.c:1 f+0x0/0x10"])

    def text(self) -> str:
        return next(self._texts)


def test_a_report_of_the_kernel_is_a_result(flushes: bool) -> None:
    driver = MockDriver()
    quiet = Scenario("quiet", (1,), ("none",), "What.", "Why.", lambda context: None)
    with Observer(driver, None) as observer:
        assert run_scenario(quiet, driver, observer).outcome in (RuleOutcome.KEPT, RuleOutcome.COUNTS_AGREE)
        found = run_scenario(quiet, driver, observer, WarningLog())
    assert found.outcome is RuleOutcome.REPORTED
    assert "the kernel log has a WARNING" in found.reason
    assert Validation("mock", "7.3", (), "", (found,)).outcome is RuleOutcome.REPORTED


def test_counts_are_good_where_they_suffice(cli: Cli, good: tuple[int, str] | None) -> None:
    if good is None or good[0] == 0:
        pytest.skip("this kernel can be probed, or does not count")
    for form in (["--json"], ["--brief"], ["--ktap"]):
        for options, status in (([], 4), (["--counts-suffice"], 0)):
            assert cli("validate", "--only", "map-non-coherent", *options, *form).returncode == status


def test_the_rules_come_first(cli: Cli, flushes: bool) -> None:
    answer = cli("validate", "--only", "map-*")
    lines = answer.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["rule", "1", "2", "3"]
    assert max(map(len, lines[:4])) <= 80
    brief = cli("validate", "--only", "map-*", "--brief").stdout.splitlines()
    assert brief == lines[:4]
    if not flushes:
        assert all(len(line) < 400 for line in lines)
        assert sum(line.startswith("violated: map-non-coherent: rule 1") for line in lines) == 1


def test_refined_rules(cli: Cli, good: tuple[int, str] | None) -> None:
    if good is None:
        pytest.skip("this kernel does not flush")
    answer = cli("validate", "--rules", "refined", "--only", "attach-*", "--json")
    assert validated(answer)["rule_set"] == "refined"
    assert answer.returncode == good[0]


def test_scenarios_for_a_device_name_that_reason_first(cli: Cli, flushes: bool) -> None:
    """This holds for a kernel without huge pages too."""
    document = json.loads(cli("validate", "--json", "--only", "container-*").stdout)
    assert len(document["scenarios"]) >= 4
    assert {one["reason"] for one in document["scenarios"]} == {"for a VFIO device only"}


def test_a_violation_names_rule_page_and_history(cli: Cli, flushes: bool) -> None:
    if flushes:
        pytest.skip("this kernel keeps the rules")
    answer = cli("validate", "--only", "map-non-coherent", "--history")
    assert answer.returncode == 1
    assert "rule 1, map buffer 1: page 0 of buffer 1 (pfn 0x" in answer.stdout
    assert "unmap: unmapped from non-coherent domain 1, unpinned" in answer.stdout


def test_a_function_that_does_not_flush_is_found_out(cli: Cli, flushes: bool) -> None:
    """A function that does not flush, given by --flush-symbol, does not count as a flush."""
    need_tracing()
    answer = cli("validate", "--only", "map-non-coherent", "--flush-symbol", "iommu_domain_free")
    assert answer.returncode == 1
    assert cli("validate", "--flush-symbol", "no_such_function").returncode == 1


def test_nothing_stays(cli: Cli, flushes: bool) -> None:
    need_tracing()
    cli("validate", "--only", "failure-of-a-*")
    root = find_tracefs()
    assert "iommufd_py" not in (root / "dynamic_events").read_text()
    assert not list((root / "instances").glob("iommufd-py-*"))
    assert Path("/proc/thread-self/fail-nth").read_text().strip() == "0"
    assert os.geteuid() == 0
