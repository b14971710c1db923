# SPDX-License-Identifier: MIT
"""The search: `git bisect` says which commit comes next, a function says what it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from iommufd_py.lab.bisect.clone import Clone
from iommufd_py.lab.bisect.record import Guest, Record
from iommufd_py.lab.bisect.trial import Trial, Verdict
from iommufd_py.lab.errors import LabError

_MOST_RETURNS = 5

Examine = Callable[[str], Trial]
"""Finds out about one commit. Called again for the same commit, it looks again."""
Say = Callable[[str], None]


class EndsError(LabError):
    """The good revision is not good, or the bad one not bad."""


class ContradictionError(LabError):
    """Too many verdicts did not stand when they were checked."""


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search.

    Attributes:
        first_bad: the commit; None where only skipped commits were left.
        candidates: the commits that it may be; one if it is known.
        good_side: what was seen at a parent of the first bad commit, or at the newest good one.
        bad_side: what was seen at the first bad commit, or at the oldest bad one.
        trials: all commits that were tested, in order.
        returns: how often a verdict did not stand and the search went back.
        guest: where the commits ran.
        subjects: first line of the message of each commit here.
        log: for ``git bisect replay``, with the evidence as comments.
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
    """Test the two ends, unless the record has them.

    Raises:
        EndsError: they are not what they should be.
    """
    for commit, wanted in ((good, Verdict.GOOD), (bad, Verdict.BAD)):
        trial = record.of(commit) or record.add(examine(commit))
        say(f"{wanted} end {commit[:12]}: {trial.verdict}: {trial.evidence}")
        if trial.verdict is not wanted:
            raise EndsError(f"the {wanted} revision {commit[:12]} is not {wanted}: {trial.evidence}")


def search(clone: Clone, good: str, bad: str, record: Record, examine: Examine, say: Say, *, check: bool) -> Found:
    """Find the first bad commit between two ends that were tested.

    Args:
        clone: where git bisect runs.
        good: hash of the good end.
        bad: hash of the bad end.
        record: what is known; every new trial is added.
        examine: finds out about a commit.
        say: told of each trial.
        check: test the commit that was found, and its parents, once more; go back where they turn out to be something
            else. For what varies, such as times.

    Raises:
        ContradictionError: the verdicts contradict one another again and again.
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
        wrong = _contradiction(clone, suspects[0], good, bad, record, examine, say) if check else None
        if len(suspects) > 1 or wrong is None:
            return _found(clone, suspects, record, returns)
        returns += 1
        if returns > _MOST_RETURNS:
            raise ContradictionError(
                f"{returns} verdicts did not stand; the last one is that {wrong.commit[:12]} is {wrong.verdict}: "
                f"{wrong.evidence}; ask for a larger threshold, on a quieter machine"
            )
        say(f"{wrong.commit[:12]} is {wrong.verdict} after all: {wrong.evidence}; going back")


def _contradiction(
    clone: Clone, found: str, good: str, bad: str, record: Record, examine: Examine, say: Say
) -> Trial | None:
    """Test both sides of the result again; return the first trial that says something else than before."""
    for commit in (found, *clone.parents(found)):
        before = record.of(commit)
        # The good end is what the others are compared with.
        if commit == good or before is None or before.verdict is Verdict.SKIP:
            continue
        again = examine(commit)
        if again.verdict in (before.verdict, Verdict.SKIP):
            continue
        if commit == bad:
            raise ContradictionError(
                f"the {before.verdict} revision {commit[:12]} turned out {again.verdict}: {again.evidence}; before: "
                f"{before.evidence}"
            )
        return record.replace(again)
    return None


def _found(clone: Clone, suspects: list[str], record: Record, returns: int) -> Found:
    first = suspects[0] if len(suspects) == 1 else None
    # The trials are in the order in which the search narrowed: the last of a kind is the nearest.
    bad_side = [trial for trial in record.trials if trial.verdict is Verdict.BAD][-1]
    good_side = [trial for trial in record.trials if trial.verdict is Verdict.GOOD][-1]
    if first is not None:
        bad_side = record.of(first) or bad_side
        known = (record.of(parent) for parent in clone.parents(first))
        good_side = next((trial for trial in known if trial and trial.verdict is Verdict.GOOD), good_side)
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
