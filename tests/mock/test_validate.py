# SPDX-License-Identifier: MIT
"""`iommufd validate` on the running kernel: ours keeps the rules, a stock one does not, and neither is an accident."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from iommufd_py import Iommufd, flush_count
from iommufd_py.host.tracefs import find_tracefs
from tests.conftest import need_mock_driver, need_tracing

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def flushes(iommufd: Iommufd) -> bool:
    need_mock_driver(iommufd)
    counts = flush_count(iommufd) is not None
    if not counts:
        # Only a kernel that counts its flushes can be judged without tracing.
        need_tracing()
    return counts


def test_all_of_it(cli: Cli, flushes: bool) -> None:
    answer = cli("validate", "--json")
    document = json.loads(answer.stdout)
    wrong = {
        one["name"]: one["violations"] or one["reason"] for one in document["scenarios"] if one["outcome"] == "error"
    }
    assert not wrong
    if flushes:
        assert (answer.returncode, document["outcome"]) == (0, "kept")
        assert document["rules"] == {"1": "kept", "2": "kept", "3": "kept"}
    else:
        assert (answer.returncode, document["outcome"]) == (1, "violated")
        assert document["rules"] == {"1": "violated", "2": "violated", "3": "violated"}


def test_what_needs_a_device_says_so_before_all_else(cli: Cli, flushes: bool) -> None:
    """On a kernel without huge pages, too."""
    document = json.loads(cli("validate", "--json", "--only", "container-*").stdout)
    assert len(document["scenarios"]) >= 4
    assert {one["reason"] for one in document["scenarios"]} == {"for a VFIO device only"}


def test_a_violation_names_rule_page_and_story(cli: Cli, flushes: bool) -> None:
    if flushes:
        pytest.skip("this kernel keeps the rules")
    answer = cli("validate", "--only", "map-non-coherent")
    assert answer.returncode == 1
    assert "rule 1, map buffer 1: page 0 of buffer 1 (pfn 0x" in answer.stdout
    assert "unmap: unmapped from non-coherent domain 1, unpinned" in answer.stdout


def test_a_function_that_does_not_flush_is_found_out(cli: Cli, flushes: bool) -> None:
    """Told of the wrong function, it does not believe it."""
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
