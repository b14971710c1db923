# SPDX-License-Identifier: MIT
"""Write the outcome of a test run as KTAP, for programs that collect the results of kernel tests.

The report has one level, with one line for each test, in the order in which the tests ran.

Source: Documentation/dev-tools/ktap.rst, version 1.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from iommufd_py.base.errors import reason_of

_RANK = ("pass", "xfail", "skip", "fail")
_OUTCOMES = {"passed": "pass", "failed": "fail", "skipped": "skip"}
# pytest-rerunfailures: the test failed and runs again, so this run does not count.
_RERUN = "rerun"


class Ktap:
    """A pytest plugin that passes each line to *write* as soon as the outcome is known."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._number = 0
        self._totals: Counter[str] = Counter()
        self._broken: list[pytest.CollectReport] = []
        self._phases: list[pytest.TestReport] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a test file that cannot be imported. It counts as a failed test."""
        if report.failed:
            self._broken.append(report)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write the number of tests."""
        self._write("KTAP version 1")
        self._write(f"1..{len(session.items) + len(self._broken)}")
        for report in self._broken:
            self._case("fail", report.nodeid, report.longreprtext)

    def pytest_runtest_logstart(self) -> None:
        """Forget an earlier run of the same test."""
        self._phases = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome of a phase."""
        self._phases.append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write the outcome of a test, unless it runs again."""
        if any(phase.outcome == _RERUN for phase in self._phases):
            return
        # A plugin that repeats a phase reports each failure before the last with an outcome of its own.
        phases = [phase for phase in self._phases if phase.outcome in _OUTCOMES]
        outcomes = [_outcome(phase) for phase in phases]
        worst = max(outcomes, key=_RANK.index)
        decisive = phases[outcomes.index(worst)]
        texts = [phase.longreprtext for phase in phases if phase.failed]
        self._case(worst, nodeid, "\n".join(texts), _reason(decisive))

    def pytest_sessionfinish(self) -> None:
        """Write the totals, as the kernel's own test programs do."""
        counts = [f"{name}:{self._totals[name]}" for name in ("pass", "fail", "xfail", "skip")]
        self._write(f"# Totals: {' '.join(counts)}")

    def _case(self, outcome: str, nodeid: str, text: str, reason: str = "") -> None:
        self._number += 1
        self._totals[outcome] += 1
        for line in text.splitlines():
            self._write(f"# {line}")
        directive = {"skip": " # SKIP ", "xfail": " # XFAIL "}.get(outcome, "")
        status = "not ok" if outcome == "fail" else "ok"
        self._write(f"{status} {self._number} {_name(nodeid)}{directive}{reason if directive else ''}".rstrip())


def file_writer(config: pytest.Config, path: str) -> Callable[[str], None]:
    """Return a function that writes a line to the file *path* without delay."""
    try:
        # Without a buffer, close() has nothing to write that could fail again.
        file = open(path, "wb", buffering=0)  # noqa: SIM115 - for the whole run
    except OSError as failure:
        raise pytest.UsageError(f"--ktap {path} cannot be written: {reason_of(failure)}") from None
    config.add_cleanup(file.close)

    def write(line: str) -> None:
        rest = f"{line}\n".encode("utf-8", "backslashreplace")
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as failure:
            pytest.exit(f"--ktap {path} cannot be written: {failure.strerror}", pytest.ExitCode.INTERNAL_ERROR)

    return write


def terminal_writer(config: pytest.Config) -> Callable[[str], None]:
    """Return a function that writes a line to the terminal, between the lines of pytest."""

    def write(line: str) -> None:
        terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        terminal.ensure_newline()
        terminal.write_line(line)

    return write


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfail" if report.skipped else "pass"
    return _OUTCOMES[report.outcome]


def _reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped or expected to fail, on one line."""
    if hasattr(report, "wasxfail"):
        return " ".join(report.wasxfail.split())
    if isinstance(report.longrepr, tuple):
        return " ".join(report.longrepr[2].removeprefix("Skipped: ").split())
    return ""


def _name(nodeid: str) -> str:
    # A '#' would start a directive, and for parsers a blank ends the name.
    return re.sub(r"[\s#]+", "_", nodeid)
