# SPDX-License-Identifier: MIT
"""Format a comparison as a KCIDB report (https://docs.kernelci.org/kcidb/), schema version 5.3."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from iommufd_py.results.compare import Change, Comparison
from iommufd_py.results.compare_text import interval_text, net_words, ratio_text
from iommufd_py.results.cover_letter import doubts
from iommufd_py.results.model import BenchResult
from iommufd_py.results.report import floors_of, row_name

KCIDB_ORIGIN = "iommufd_py"
"""The name under which this tool reports."""


def kcidb_id(*parts: str) -> str:
    """Return the id of the object that *parts* identify. No other parts have this id: a slash is between them only."""
    return f"{KCIDB_ORIGIN}:{'/'.join(quote(part, safe=':+') for part in parts)}"


def kcidb_path(*words: str) -> str:
    """Return the place of a test in KCIDB's tree, whose names have fewer characters than those of kernels and steps."""
    return ".".join(re.sub(r"[^A-Za-z0-9_-]+", "_", word).strip("_") for word in words)


def bench_kcidb(results: Sequence[BenchResult], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return the report: a build for each result, and a test with a time for each operation of a compared result.

    The status of a test is PASS, because a time alone is no failure. Its comment has ratio, interval and verdict.
    """
    builds = {one.label: (one.started, str(number), one.label) for number, one in enumerate(results)}
    return {
        "version": {"major": 5, "minor": 3},
        "checkouts": [
            {
                "id": kcidb_id(one.environment.kernel_release),
                "origin": KCIDB_ORIGIN,
                "comment": f"Linux {one.environment.kernel_release}",
            }
            for one in {one.environment.kernel_release: one for one in results}.values()
        ],
        "builds": [
            {
                "id": kcidb_id(*builds[one.label]),
                "checkout_id": kcidb_id(one.environment.kernel_release),
                "origin": KCIDB_ORIGIN,
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
    build: Sequence[str], before: BenchResult, result: BenchResult, comparison: Comparison, change: Change
) -> dict[str, Any]:
    name = row_name(change.point)
    interval = "" if change.low is None else f" ({interval_text(change.low, change.high)})"
    ratio = "" if change.ratio is None else f"{ratio_text(change)}{interval} of {comparison.before}, "
    floor = f", {net_words(change)}" if change.on_floor else ""
    return {
        "id": kcidb_id(*build, change.operation, name),
        "build_id": kcidb_id(*build),
        "origin": KCIDB_ORIGIN,
        "path": kcidb_path("iommufd", "bench", change.operation, name),
        "status": "PASS",
        "comment": f"{ratio}{change.verdict}{floor}",
        "number": {"value": change.after_ns / 1e9, "unit": "s", "prefix": "metric"},
        "start_time": result.started,
        "environment": {
            "comment": f"{result.environment.cpu}, {result.environment.platform}, device {result.target.device}",
            "misc": {
                "command": result.repeat_command,
                "floor": f"an ioctl that does nothing takes {floors_of([before, result])[1]}",
                "evidence": str(result.target.evidence),
                "limits": doubts([before, result], [comparison]),
            },
        },
    }
