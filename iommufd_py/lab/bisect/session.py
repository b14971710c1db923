# SPDX-License-Identifier: MIT
"""One bisection as a whole: make the clone, test both revisions, search, and remove the clone."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from iommufd_py.lab import cache, paths
from iommufd_py.lab.bisect.clone import Clone, identity, resolve
from iommufd_py.lab.bisect.kernels import CommitTester, remove_builds
from iommufd_py.lab.bisect.record import Guest, Record
from iommufd_py.lab.bisect.search import ContradictionError, EndsError, Found, Say, require_ends, search
from iommufd_py.lab.bisect.trial import Kind, Question, Trial
from iommufd_py.lab.process import locked
from iommufd_py.lab.progress import Progress


class Tester(Protocol):
    """Tests commits."""

    def examine(self, commit: str) -> Trial:
        """Test one commit."""


MakeTester = Callable[[Clone, Question, Guest, str, Path, Progress], Tester]


def bisect(
    repository: Path,
    good: str,
    bad: str,
    question: Question,
    progress: Progress,
    say: Say,
    make_tester: MakeTester = CommitTester,
) -> Found:
    """Find the first bad commit of a kernel tree.

    All work happens in a clone in the cache; *repository* is only read. After an interruption the clone and the trials
    remain, and the same call continues with them. At the end they are removed.

    Args:
        repository: the kernel tree, a git work tree or repository.
        good: a revision at which the question has the good answer.
        bad: a later revision at which it has the bad answer.
        question: the question to answer.
        progress: shows the progress.
        say: called with a line for each trial.
        make_tester: makes the tester of commits; by default one that builds and boots kernels.

    Raises:
        EndsError: the good revision is not good, or the bad revision is not bad.
        ContradictionError: too many verdicts changed when they were tested again.
        LabError: a revision does not exist, or the lab cannot build or boot.
    """
    ends = resolve(repository, good), resolve(repository, bad)
    key = cache.digest(identity(repository).encode(), *(end.encode() for end in ends), str(question).encode())
    directory = (paths.work_dir() / "bisect" / key).resolve()
    with locked(
        directory.with_suffix(".lock"), lambda: progress.step("waiting for another process with the same bisection")
    ):
        clone = Clone(repository, directory / "tree")
        record = Record(directory / "record.json")
        if record.trials:
            say(f"continuing with {len(record.trials)} tested commits")
        try:
            found = _bisect(clone, *ends, question, record, directory, progress, say, make_tester)
        except (EndsError, ContradictionError):
            _remove(clone, directory)
            raise
        _remove(clone, directory)
    return found


def _bisect(
    clone: Clone,
    good: str,
    bad: str,
    question: Question,
    record: Record,
    directory: Path,
    progress: Progress,
    say: Say,
    make_tester: MakeTester,
) -> Found:
    def tester() -> Tester:
        return make_tester(clone, question, record.guest, good, directory, progress)

    one = tester()
    try:
        require_ends(good, bad, record, one.examine, say)
    except EndsError as failure:
        if record.guest == "vm" or question.kind is Kind.BENCH:
            raise
        say(f"a native guest does not show the fault ({failure}); continuing in virtual machines")
        record.use("vm")
        one = tester()
        require_ends(good, bad, record, one.examine, say)
    return search(clone, good, bad, record, one.examine, say, check=question.kind is Kind.BENCH)


def _remove(clone: Clone, directory: Path) -> None:
    remove_builds(clone.tree)
    shutil.rmtree(directory)
