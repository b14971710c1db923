# SPDX-License-Identifier: MIT
"""Format the verdict on all machines as a KCIDB report (https://docs.kernelci.org/kcidb/), schema version 5.3."""

from collections.abc import Iterator
from typing import Any

from iommufd_py.fleet.checks import Outcome
from iommufd_py.fleet.combined_times import CombinedTimes, Ratio
from iommufd_py.fleet.verdict import Report, Runner
from iommufd_py.results.kcidb import KCIDB_ORIGIN, kcidb_id, kcidb_path

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
    # The first machine tells two runs of a plan apart: a machine that was not lent has no time.
    run = (found.run, min((one.started for one in found.runners if one.started), default=""))
    tests = [test for runner in found.runners for test in _tests(run, runner)]
    tests += [test for row in found.rows for test in _times(run, found, row)]
    used = {test["build_id"] for test in tests}
    document: dict[str, Any] = {
        "version": {"major": LATEST.major, "minor": LATEST.minor},
        "checkouts": [
            {"id": kcidb_id(one), "origin": KCIDB_ORIGIN, "comment": f"Linux {one}"}
            for one in releases
            if kcidb_id(one) in used
        ],
        "builds": [
            {"id": kcidb_id(one), "checkout_id": kcidb_id(one), "origin": KCIDB_ORIGIN, "comment": f"Linux {one}"}
            for one in releases
            if kcidb_id(one) in used
        ],
        "tests": tests,
    }
    LATEST.validate(document)
    return document


def _tests(run: tuple[str, str], runner: Runner) -> Iterator[dict[str, Any]]:
    for check in runner.checks:
        yield _test(run, runner, check.kernel, "fleet", check.kernel, check.name) | {
            "status": "PASS" if check.accepted else _STATUS[check.outcome],
            "comment": f"{check.outcome}: {check.detail}" if check.detail else str(check.outcome),
        }


def _times(run: tuple[str, str], found: Report, row: CombinedTimes) -> Iterator[dict[str, Any]]:
    runners = {one.name: one for one in found.runners}
    for ratio in row.ratios:
        test = _test(run, runners[ratio.runner], row.kernel, "bench", row.kernel, row.step, row.operation)
        test["environment"]["misc"]["limits"] = [
            text for text, names in found.cautions.items() if ratio.runner in names
        ]
        yield test | {
            "status": "PASS",
            "comment": _ratio_text(ratio, found.baseline),
            "number": {"value": ratio.after_s, "unit": "s", "prefix": "metric"},
        }


def _ratio_text(ratio: Ratio, baseline: str | None) -> str:
    interval = "" if ratio.low is None else f" ({ratio.low:.4g} to {ratio.high:.4g})"
    return f"x{ratio.value:.4g}{interval} of {baseline}"


def _test(run: tuple[str, str], runner: Runner, kernel: str, *words: str) -> dict[str, Any]:
    release = next((one.release for one in runner.kernels if one.name == kernel), "")
    test: dict[str, Any] = {
        "id": kcidb_id(*run, runner.name, *words),
        "build_id": kcidb_id(release or _UNKNOWN),
        "origin": KCIDB_ORIGIN,
        "path": kcidb_path("iommufd", *filter(None, words)),
        "environment": {"comment": runner.name, "misc": {"tags": dict(runner.tags)}},
    }
    if runner.started:
        test["start_time"] = runner.started
    return test
