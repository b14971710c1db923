# SPDX-License-Identifier: MIT
"""Read the report of a kernel selftest, written in the Test Anything Protocol. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PLAN = re.compile(r"^1\.\.([0-9]{1,9})\b")
# A line of a kernel log: its time, the indentation of the report, the report.
_LOGGED = re.compile(r"^(?:\[ *[\d.]+\] )?( *)(.*)")
_CASE = re.compile(r"^(not )?ok \d+ (\S+)(?:.*# (SKIP)\s*(.*))?")
_COMMENT = re.compile(r"^(#|K?TAP version )")


@dataclass(frozen=True, slots=True)
class TapReport:
    """The cases of one test program, by name and in the order they ran.

    Attributes:
        planned: number of cases that the program announced; 0 if it announced none.
        skipped: the skipped cases, each with its reason.
        remark: the end of the program's output, if it planned no case or did not report all; else empty.
    """

    planned: int
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    remark: str

    @property
    def lost(self) -> int:
        """The number of planned cases without a report. The program died before them."""
        return self.planned - len(self.passed) - len(self.failed) - len(self.skipped)

    @property
    def good(self) -> bool:
        """Whether the program planned a case or more, all of them reported, and none failed."""
        return self.planned > 0 and not self.failed and self.lost == 0


def parse_tap(lines: Iterable[str]) -> TapReport:
    """Read the output of one test program."""
    planned = 0
    last = ""
    passed, failed, skipped = [], [], []
    for line in lines:
        if plan := _PLAN.match(line):
            planned = int(plan[1])
        elif case := _CASE.match(line):
            failure, name, skip, reason = case.groups()
            if failure:
                failed.append(name)
            elif skip:
                skipped.append((name, reason))
            else:
                passed.append(name)
        elif line.strip() and not _COMMENT.match(line):
            last = line.strip()
    complete = 0 < planned == len(passed) + len(failed) + len(skipped)
    return TapReport(planned, tuple(passed), tuple(failed), tuple(skipped), "" if complete else last)


def parse_kunit(lines: Iterable[str]) -> dict[str, TapReport]:
    """Read the reports of KUnit in a kernel log, by the name of the suite.

    A suite is indented by four characters, and the parameters of a case by eight: they are part of their case.
    Source: Documentation/dev-tools/ktap.rst.
    """
    suites: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        indent, text = _LOGGED.findall(line)[0]
        if len(indent) == 4:
            if text.startswith("# Subtest: "):
                current = suites.setdefault(text.removeprefix("# Subtest: ").strip(), [])
            else:
                current.append(text)
        elif not indent and text.startswith("not ok ") and not any(one.startswith("not ok ") for one in current):
            # The suite failed outside its cases.
            current.append(text)
    return {name: parse_tap(report) for name, report in suites.items()}
