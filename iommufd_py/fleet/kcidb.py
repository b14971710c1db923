# SPDX-License-Identifier: MIT
"""Format the verdict on all machines as a KCIDB report (https://docs.kernelci.org/kcidb/), schema version 5.3."""

import re
from collections.abc import Iterator
from typing import Any

from iommufd_py.fleet.checks import Check, Outcome
from iommufd_py.fleet.together import CombinedTimes, Ratio
from iommufd_py.fleet.verdict import Report, Runner

_ORIGIN = "iommufd_py"
_STATUS = {
    Outcome.VIOLATED: "FAIL",
    Outcome.FAILED: "FAIL",
    Outcome.LOST: "MISS",
    Outcome.ERROR: "ERROR",
    Outcome.NOT_OBSERVED: "SKIP",
    Outcome.COUNTS_AGREE: "SKIP",
    Outcome.KEPT: "PASS",
    Outcome.PASSED: "PASS",
}
_UNKNOWN = "unknown"


def fleet_kcidb(found: Report) -> dict[str, Any]:
    """Return the report: a build for each kernel, and a test for each check of each machine. kcidb-io checks it.

    A benchmark is a test with a time in seconds. Its status is PASS, because a time alone is no failure.
    """
    from kcidb_io.schema import LATEST

    releases = dict.fromkeys(kernel.release for runner in found.runners for kernel in runner.kernels) | dict.fromkeys(
        [_UNKNOWN]
    )
    tests = [test for runner in found.runners for test in _tests(runner)]
    tests += [test for row in found.rows for test in _times(found, row)]
    used = {test["build_id"] for test in tests}
    document: dict[str, Any] = {
        "version": {"major": LATEST.major, "minor": LATEST.minor},
        "checkouts": [
            {"id": _build(one), "origin": _ORIGIN, "comment": f"Linux {one}"} for one in releases if _build(one) in used
        ],
        "builds": [
            {"id": _build(one), "checkout_id": _build(one), "origin": _ORIGIN, "comment": f"Linux {one}"}
            for one in releases
            if _build(one) in used
        ],
        "tests": tests,
    }
    LATEST.validate(document)
    return document


def _tests(runner: Runner) -> Iterator[dict[str, Any]]:
    for check in runner.checks:
        yield _test(runner, check.kernel, _path(check)) | {
            "status": "PASS" if check.accepted else _STATUS[check.outcome],
            "comment": f"{check.outcome}: {check.detail}" if check.detail else str(check.outcome),
        }


def _path(check: Check) -> str:
    words = (_word(one) for one in ("iommufd.fleet", check.kernel, check.name) if one)
    return ".".join(words)


def _times(found: Report, row: CombinedTimes) -> Iterator[dict[str, Any]]:
    runners = {one.name: one for one in found.runners}
    for ratio in row.ratios:
        path = f"iommufd.bench.{_word(row.kernel)}.{_word(row.step)}.{_word(row.operation)}"
        yield _test(runners[ratio.runner], row.kernel, path) | {
            "status": "PASS",
            "comment": _ratio_text(ratio, found.baseline),
            "number": {"value": ratio.after_s, "unit": "s", "prefix": "metric"},
        }


def _ratio_text(ratio: Ratio, baseline: str | None) -> str:
    interval = "" if ratio.low is None else f" ({ratio.low:.4g} to {ratio.high:.4g})"
    return f"x{ratio.value:.4g}{interval} of {baseline}"


def _test(runner: Runner, kernel: str, path: str) -> dict[str, Any]:
    facts = next((one for one in runner.kernels if one.name == kernel), None)
    test: dict[str, Any] = {
        "id": f"{_ORIGIN}:{_word(runner.name)}-{_word(runner.started)}-{path}",
        "build_id": _build(facts.release if facts else _UNKNOWN),
        "origin": _ORIGIN,
        "path": path,
        "environment": {"comment": runner.name, "misc": {"tags": dict(runner.tags)}},
    }
    if runner.started:
        test["start_time"] = runner.started
    return test


def _build(release: str) -> str:
    return f"{_ORIGIN}:{_word(release)}"


def _word(text: str) -> str:
    """Return *text* with only those characters that KCIDB allows in the path of a test."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_")
