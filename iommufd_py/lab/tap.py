# SPDX-License-Identifier: MIT
"""Read the report of a kernel selftest, written in the Test Anything Protocol. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PLAN = re.compile(r"^1\.\.(\d+)")
_CASE = re.compile(r"^(not )?ok \d+ (\S+)(?:.*# (SKIP)\s*(.*))?")


@dataclass(frozen=True, slots=True)
class TapReport:
    """The cases of one test program, by name and in the order they ran.

    Attributes:
        planned: number of cases that the program announced; 0 if it announced none.
        skipped: the skipped cases, each with its reason.
    """

    planned: int
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

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
    return TapReport(planned, tuple(passed), tuple(failed), tuple(skipped))
