# SPDX-License-Identifier: MIT
"""Format a comparison as a KCIDB report (https://docs.kernelci.org/kcidb/), schema version 5.3."""

import re
from collections.abc import Sequence
from typing import Any

from iommufd_py.results.compare import Change, Comparison
from iommufd_py.results.cover_letter import doubts
from iommufd_py.results.model import BenchResult
from iommufd_py.results.report import row_name

_ORIGIN = "iommufd_py"


def bench_kcidb(results: Sequence[BenchResult], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the report: a build for each result, and a test with a time for each operation of a compared result.

    The status of a test is PASS, because a time alone is no failure. Its comment has ratio, interval and verdict.
    """
    builds = {one.label: f"{_ORIGIN}:{number}-{_word(one.label)}" for number, one in enumerate(results)}
    return {
        "version": {"major": 5, "minor": 3},
        "checkouts": [
            {
                "id": f"{_ORIGIN}:{_word(one.environment.kernel_release)}",
                "origin": _ORIGIN,
                "comment": f"Linux {one.environment.kernel_release}",
            }
            for one in {one.environment.kernel_release: one for one in results}.values()
        ],
        "builds": [
            {
                "id": builds[one.label],
                "checkout_id": f"{_ORIGIN}:{_word(one.environment.kernel_release)}",
                "origin": _ORIGIN,
                "comment": one.label,
                "compiler": one.environment.compiler or "unknown",
            }
            for one in results
        ],
        "tests": [
            _test(builds[comparison.after], results[0], result, comparison, change)
            for result, comparison in zip(results[1:], comparisons, strict=True)
            for change in comparison.changes
        ],
    }


def _test(
    build: str, before: BenchResult, result: BenchResult, comparison: Comparison, change: Change
) -> dict[str, Any]:
    path = f"iommufd.bench.{_word(change.operation)}.{_word(row_name(change.point))}"
    interval = "" if change.low is None else f" ({change.low:.4g} to {change.high:.4g})"
    ratio = "" if change.ratio is None else f"x{change.ratio:.4g}{interval} of {comparison.before}, "
    return {
        "id": f"{build}-{path}",
        "build_id": build,
        "origin": _ORIGIN,
        "path": path,
        "status": "PASS",
        "comment": f"{ratio}{change.verdict}",
        "number": {"value": change.after_ns / 1e9, "unit": "s", "prefix": "metric"},
        "start_time": result.started,
        "environment": {
            "comment": f"{result.environment.cpu}, {result.environment.platform}, device {result.target.device}",
            "misc": {
                "command": result.repeat_command,
                "evidence": str(result.target.evidence),
                "limits": doubts([before, result], [comparison]),
            },
        },
    }


def _word(text: str) -> str:
    """Return *text* with only those characters that KCIDB allows in the path of a test."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")
