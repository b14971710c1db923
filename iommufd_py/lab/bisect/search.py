# SPDX-License-Identifier: MIT
"""The search: `git bisect` chooses the next commit, and a function tests it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from iommufd_py.lab.bisect.clone import Clone
from iommufd_py.lab.bisect.record import Guest, Record
from iommufd_py.lab.bisect.trial import CommitVerdict, Trial
from iommufd_py.lab.errors import LabError

_MOST_RETURNS = 5

Examine = Callable[[str], Trial]
"""Tests one commit. A second call for the same commit tests it again."""
Say = Callable[[str], None]


class EndsError(LabError):
    """The good revision is not good, or the bad revision is not bad."""


class ContradictionError(LabError):
    """Too many verdicts changed when they were tested again."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    Attributes:
        first_bad: the first bad commit; None if only skipped commits were left.
        candidates: the commits that can be the first bad one; a single one if it is known.
        good_side: the trial of a parent of the first bad commit, or of the newest good commit.
        bad_side: the trial of the first bad commit, or of the oldest bad commit.
        trials: the trials of all tested commits, in order.
        returns: how often a verdict changed and the search went back.
        guest: the kind of guest in which the commits ran.
        subjects: the subject of each commit in this result.
        log: the log for ``git bisect replay``, with the evidence as comments.
    """

    first_bad: str | None
    candidates: tuple[str, ...]
    good_side: Trial
    bad_side: Trial
    trials: tuple[Trial, ...]
    returns: int
    guest: Guest
    subjects: Mapping[str, str]
    log: str


def require_ends(good: str, bad: str, record: Record, examine: Examine, say: Say) -> None:
    """Test the good and the bad revision, unless the record has their trials.

    Raises:
        EndsError: the good revision is not good, or the bad revision is not bad.
    """
    for commit, wanted in ((good, CommitVerdict.GOOD), (bad, CommitVerdict.BAD)):
        trial = record.of(commit) or record.add(examine(commit))
        say(f"{wanted} end {commit[:12]}: {trial.verdict}: {trial.evidence}")
        if trial.verdict is not wanted:
            raise EndsError(f"the {wanted} revision {commit[:12]} is not {wanted}: {trial.evidence}")


def search(clone: Clone, good: str, bad: str, record: Record, examine: Examine, say: Say, *, check: bool) -> Found:
    """Find the first bad commit between two tested revisions.

    Args:
        clone: the clone in which git bisect runs.
        good: hash of the good revision.
        bad: hash of the bad revision.
        record: the trials so far; every new trial is added.
        examine: tests a commit.
        say: called with a line for each trial.
        check: test the found commit and its parents once more, and go back if a verdict changes. Questions whose
            answers vary, such as times, need this.

    Raises:
        ContradictionError: too many verdicts changed when they were tested again.
    """
    returns = 0
    while True:
        clone.restart(good, bad, record.trials)
        while (commit := clone.next_commit()) is not None:
            left = clone.left()
            trial = record.add(examine(commit))
            say(f"{commit[:12]} {clone.subject(commit)}: {trial.verdict}: {trial.evidence} (about {left} more)")
            clone.mark(trial)
        suspects = clone.suspects()
        wrong = _contradiction(clone, suspects[0], good, bad, record, examine) if check else None
        if len(suspects) > 1 or wrong is None:
            return _found(clone, suspects, record, returns)
        returns += 1
        if returns > _MOST_RETURNS:
            raise ContradictionError(
                f"{returns} verdicts changed when tested again; the last new one is that {wrong.commit[:12]} is "
                f"{wrong.verdict}: {wrong.evidence}; use a larger --threshold or a quieter machine"
            )
        say(f"{wrong.commit[:12]} is now {wrong.verdict}: {wrong.evidence}; the search goes back")


def _contradiction(clone: Clone, found: str, good: str, bad: str, record: Record, examine: Examine) -> Trial | None:
    """Test both sides of the result again. Return the first trial whose verdict has changed."""
    for commit in (found, *clone.parents(found)):
        before = record.of(commit)
        # The good revision is the reference of all timings, so a timing of it decides nothing.
        if commit == good or before is None or before.verdict is CommitVerdict.SKIP:
            continue
        again = examine(commit)
        if again.verdict in (before.verdict, CommitVerdict.SKIP):
            continue
        if commit == bad:
            raise ContradictionError(
                f"the {before.verdict} revision {commit[:12]} is {again.verdict} when tested again: "
                f"{again.evidence}; before: {before.evidence}"
            )
        return record.replace(again)
    return None


def _found(clone: Clone, suspects: list[str], record: Record, returns: int) -> Found:
    first = suspects[0] if len(suspects) == 1 else None
    # The search narrows from trial to trial, so the last good and the last bad trial are the nearest ones.
    bad_side = [trial for trial in record.trials if trial.verdict is CommitVerdict.BAD][-1]
    good_side = [trial for trial in record.trials if trial.verdict is CommitVerdict.GOOD][-1]
    if first is not None:
        bad_side = record.of(first) or bad_side
        known = (record.of(parent) for parent in clone.parents(first))
        good_side = next((trial for trial in known if trial and trial.verdict is CommitVerdict.GOOD), good_side)
    evidence = {trial.commit: trial for trial in record.trials}
    lines = []
    for line in clone.log().splitlines():
        lines.append(line)
        trial = evidence.get(line.rpartition(" ")[2])
        if trial is not None and line.startswith("git bisect ") and not line.startswith("git bisect start"):
            lines.append(f"# {trial.evidence}")
    subjects = {commit: clone.subject(commit) for commit in (*suspects, *evidence)}
    return Found(
        first,
        tuple(suspects),
        good_side,
        bad_side,
        tuple(record.trials),
        returns,
        record.guest,
        subjects,
        "\n".join(lines),
    )
