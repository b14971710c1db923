# SPDX-License-Identifier: MIT
"""The criterion of a bisection, and the test of one commit with it."""

from dataclasses import dataclass
from enum import StrEnum

from iommufd_py.base.shown import shown
from iommufd_py.base.units import parse_size
from iommufd_py.results.model import Point, Workload

OPERATIONS = {
    name: workload for workload in Workload if workload is not Workload.DMA for name in Point(workload, 1).operations
}
"""The operations whose time a bisection can follow, and the workload of each."""


class Kind(StrEnum):
    """The kind of test that decides whether a commit is good."""

    RULE = "rule"
    SCENARIO = "scenario"
    TEST = "test"
    BENCH = "bench"


@dataclass(frozen=True, slots=True)
class Question:
    """The question that is answered for each commit.

    Attributes:
        kind: the kind of test.
        subject: number of the rule, name of the scenario, node id of the test, or operation and size.
        threshold: for a timing, the smallest slowdown that counts, as a fraction.
    """

    kind: Kind
    subject: str
    threshold: float = 0

    @property
    def timing(self) -> tuple[str, int]:
        """The operation and the size in bytes of a timing.

        Raises:
            ValueError: the subject is not a valid timing; the text gives the reason.
        """
        operation, _, size = self.subject.partition(" ")
        if operation not in OPERATIONS:
            raise ValueError(f"there is no operation {shown(operation)}; use one of {', '.join(OPERATIONS)}")
        return operation, parse_size(size.strip())

    def __str__(self) -> str:
        more = f" by {self.threshold:.3g} or more" if self.kind is Kind.BENCH else ""
        return f"{self.kind} {self.subject}{more}"


class CommitVerdict(StrEnum):
    """The state of a commit, in git's words."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"
    """The commit cannot be tested: it does not build, does not boot, or does not answer the question."""

    @property
    def status(self) -> int:
        """The exit status with this meaning for ``git bisect run``."""
        return {CommitVerdict.GOOD: 0, CommitVerdict.BAD: 1, CommitVerdict.SKIP: 125}[self]


@dataclass(frozen=True, slots=True)
class Trial:
    """The test of one commit.

    Attributes:
        evidence: the observation, in one line.
        seconds: wall time of the build and of the guests.
    """

    commit: str
    verdict: CommitVerdict
    evidence: str
    seconds: float = 0
