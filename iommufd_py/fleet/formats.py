# SPDX-License-Identifier: MIT
"""Format the verdict on all machines as text, JSON, JUnit and KTAP."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from iommufd_py.base.units import counted
from iommufd_py.fleet.checks import BAD, Check, Outcome
from iommufd_py.fleet.combined_times import CombinedTimes
from iommufd_py.fleet.verdict import CombinedCheck, Report

_NAMED = 4
_HUGE = 1000


def fleet_document(report: Report) -> dict[str, Any]:
    """Return the report as one JSON document."""
    return {
        "schema": "iommufd-fleet-report/1",
        "run": report.run,
        "outcome": str(report.outcome),
        "exit_status": report.exit_status,
        "baseline": report.baseline,
        "allow_lost": report.allow_lost,
        "lost": list(report.lost),
        "lines": [
            {
                **asdict(one),
                "runners": list(one.runners),
                "counts": {str(outcome): count for outcome, count in one.counts.items()},
            }
            for one in report.lines
        ],
        "benchmarks": [
            {**asdict(row), "ratios": [asdict(one) for one in row.ratios], "mean": row.mean and asdict(row.mean)}
            for row in report.rows
        ],
        "cautions": [{"text": text, "runners": list(names)} for text, names in report.cautions.items()],
        "runners": [
            {
                **asdict(one),
                "kernels": [asdict(kernel) for kernel in one.kernels],
                "checks": [asdict(check) for check in one.checks],
            }
            for one in report.runners
        ],
    }


def verdict_sentence(report: Report) -> str:
    """Return the verdict in one sentence."""
    lent = len(report.runners)
    lost = f", {len(report.lost)} lost" if report.lost else ""
    allowed = " (allowed)" if report.lost and report.lost_is_allowed else ""
    run = f"{report.run}: " if report.run else ""
    return f"{run}{report.outcome}: {counted(lent, 'machine')}{lost}{allowed}"


def check_rows(report: Report) -> Iterator[tuple[str, ...]]:
    """Yield a row for each check: kernel, check, outcome, number of machines by outcome, the machines, the reason."""
    for one in report.lines:
        mark = "" if one.judged else " (baseline)"
        yield (
            f"{one.kernel}{mark}" if one.kernel else "-",
            one.name,
            str(one.outcome),
            ", ".join(f"{one.counts[outcome]} {outcome}" for outcome in Outcome if outcome in one.counts),
            named(one),
            one.detail,
        )


def named(line: CombinedCheck) -> str:
    """Return the names of the machines of a line, shortened if there are many."""
    more = len(line.runners) - _NAMED
    return " ".join(line.runners[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def ratio_rows(rows: tuple[CombinedTimes, ...]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each benchmark: kernel, operation, mean ratio, its interval, I2, machines, lowest and highest
    ratio.

    A machine whose ratio has no interval is not in the mean.
    """
    for one in rows:
        mean = one.mean
        ordered = sorted(one.ratios, key=lambda ratio: ratio.value)
        extremes = " to ".join(f"x{ratio.value:.3g} ({ratio.runner})" for ratio in (ordered[0], ordered[-1]))
        yield (
            one.kernel,
            one.operation,
            f"x{_decimals(mean.value)}" if mean else "-",
            f"{_decimals(mean.low)} to {_decimals(mean.high)}" if mean else "-",
            f"{mean.i2:.0%}" if mean else "-",
            f"{mean.machines} of {len(one.ratios)}"
            if mean and mean.machines < len(one.ratios)
            else str(len(one.ratios)),
            extremes,
        )


def _decimals(ratio: float) -> str:
    """Return a ratio with three decimals. A huge one, an end of an interval of two machines, gets an exponent."""
    return f"{ratio:.3f}" if ratio < _HUGE else f"{ratio:.3g}"


def fleet_junit(report: Report) -> str:
    """Return the report as JUnit XML: a suite for each machine."""
    suites = ElementTree.Element("testsuites", name="iommufd fleet")
    for runner in report.runners:
        kinds = [_junit_kind(report, check) for check in runner.checks]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=runner.name,
            hostname=runner.name,
            tests=str(len(kinds)),
            failures=str(kinds.count("failure")),
            errors=str(kinds.count("error")),
            skipped=str(kinds.count("skipped")),
        )
        for check, kind in zip(runner.checks, kinds, strict=True):
            case = ElementTree.SubElement(
                suite, "testcase", classname=runner.name, name=_full_name(check), time=f"{check.seconds:.3f}"
            )
            if kind:
                ElementTree.SubElement(case, kind, message=f"{check.outcome}: {check.detail}")
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)


def _junit_kind(report: Report, check: Check) -> str:
    if _is_skip(report, check):
        return "skipped"
    if check.outcome in (Outcome.ERROR, Outcome.LOST):
        return "error"
    return "failure" if check.outcome in BAD else ""


def _is_skip(report: Report, check: Check) -> bool:
    """Return whether a check neither passed nor failed: it was not observed, is accepted, or ran on the baseline."""
    if check.is_good:
        return False
    on_baseline = bool(check.kernel) and check.kernel == report.baseline
    forgiven = check.outcome is Outcome.LOST and report.lost_is_allowed
    return on_baseline or forgiven or check.outcome not in BAD


def _full_name(check: Check) -> str:
    return f"{check.kernel}: {check.name}" if check.kernel else check.name


def fleet_ktap(report: Report) -> str:
    """Return the report as KTAP: a test for each machine, with its checks as subtests."""
    lines = ["KTAP version 1", f"1..{len(report.runners)}"]
    for number, runner in enumerate(report.runners, 1):
        lines += ["  KTAP version 1", f"  1..{len(runner.checks)}"]
        results = []
        for at, check in enumerate(runner.checks, 1):
            skipped = _is_skip(report, check)
            results.append("skip" if skipped else "ok" if check.is_good else "not ok")
            if check.detail and results[-1] == "not ok":
                lines.append(f"  # {_one_line(check.detail)}")
            name = _ktap_name(_full_name(check))
            reason = f" # SKIP {check.outcome} {_one_line(check.detail)}".rstrip() if skipped else ""
            lines.append(f"  {'not ok' if results[-1] == 'not ok' else 'ok'} {at} {name}{reason}")
        whole = "not ok" if "not ok" in results else "ok"
        skip = "" if "ok" in results or whole == "not ok" else " # SKIP"
        lines.append(f"{whole} {number} {_ktap_name(runner.name)}{skip}")
    return "\n".join(lines)


def _ktap_name(text: str) -> str:
    # A '#' would start a directive, a line break would start another result, and for parsers a blank ends the name.
    return re.sub(r"[\s#]+", "_", text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
