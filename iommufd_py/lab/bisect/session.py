# SPDX-License-Identifier: MIT
"""One bisection from the command line's words to its result: clone, ends, search, and what is left behind."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from iommufd_py.lab import cache, paths
from iommufd_py.lab.bisect.clone import Clone, identity, resolve
from iommufd_py.lab.bisect.kernels import CommitTester, forget
from iommufd_py.lab.bisect.record import Guest, Record
from iommufd_py.lab.bisect.search import ContradictionError, EndsError, Found, Say, require_ends, search
from iommufd_py.lab.bisect.trial import Kind, Question, Trial
from iommufd_py.lab.process import locked
from iommufd_py.lab.progress import Progress


class Tester(Protocol):
    """Finds out about commits."""

    def examine(self, commit: str) -> Trial:
        """Find out about one."""


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

    All work is done in a clone below the cache; *repository* is only read. The clone and what is known stay after an
    interruption, and the same call goes on with them. They are removed at the end.

    Args:
        repository: the kernel tree, a git work tree or repository.
        good: a revision at which the question has the good answer.
        bad: one at which it has not.
        question: what is asked.
        progress: told what goes on.
        say: told of each trial.
        make_tester: gives what finds out about commits; builds and boots kernels by default.

    Raises:
        EndsError: an end is not what it should be.
        ContradictionError: too many verdicts did not stand.
        LabError: there is no such revision, or the lab cannot build or boot.
    """
    ends = resolve(repository, good), resolve(repository, bad)
    key = cache.digest(identity(repository).encode(), *(end.encode() for end in ends), str(question).encode())
    directory = (paths.work_dir() / "bisect" / key).resolve()
    with locked(directory.with_suffix(".lock"), lambda: progress.step("waiting for the same bisection")):
        clone = Clone(repository, directory / "tree")
        record = Record(directory / "record.json")
        if record.trials:
            say(f"going on with {len(record.trials)} commits that were tested before")
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
        say(f"a native guest does not show it ({failure}); going on with virtual machines")
        record.use("vm")
        one = tester()
        require_ends(good, bad, record, one.examine, say)
    return search(clone, good, bad, record, one.examine, say, check=question.kind is Kind.BENCH)


def _remove(clone: Clone, directory: Path) -> None:
    forget(clone.tree)
    shutil.rmtree(directory)
