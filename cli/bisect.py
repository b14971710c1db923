# SPDX-License-Identifier: MIT
"""`iommufd bisect`: find the commit of a kernel tree that introduced a fault."""

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from iommufd_py.base.shown import shown
from iommufd_py.base.units import counted

from .commands import command
from .exit_status import NOT_OBSERVED
from .lab_machine import DIRECTORY
from .output import emit_facts, emit_json, note
from .types import JSON_OPTION, FiniteFloat, Whole

if TYPE_CHECKING:
    from iommufd_py.lab.bisect.search import Found
    from iommufd_py.lab.bisect.trial import Question, Trial

_DEFAULT_THRESHOLD = 5.0
_GUESTS = {"native": "User-Mode Linux", "vm": "virtual machines"}


class _Percent(FiniteFloat):
    """A percentage: ``5%`` or ``5``."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the text, with or without the percent sign."""
        return super().convert(str(value).removesuffix("%"), param, ctx)


@command()
@click.option(
    "--source", type=DIRECTORY, required=True, help="Kernel tree, a git repository. The command only reads it."
)
@click.option("--good", required=True, metavar="REV", help="Revision that is known to be good.")
@click.option("--bad", required=True, metavar="REV", help="Later revision that is known to be bad.")
@click.option("--rule", type=Whole(1, 3), help="Find the commit that broke this flush rule.")
@click.option("--scenario", metavar="NAME", help="Find the commit that broke this scenario of `iommufd validate`.")
@click.option("--test", metavar="NODEID", help="Find the commit that made this pytest test fail.")
@click.option(
    "--bench", metavar="'OPERATION SIZE'", help="Find the commit that made this operation slower, for example 'map 2M'."
)
@click.option(
    "--threshold",
    type=_Percent(min=0.1, max=1000),
    help=f"Smallest slowdown that counts, for --bench.  [default: {_DEFAULT_THRESHOLD:g}%]",
)
@JSON_OPTION
def bisect(
    source: Path,
    good: str,
    bad: str,
    rule: int | None,
    scenario: str | None,
    test: str | None,
    bench: str | None,
    threshold: float | None,
    as_json: bool,
) -> None:
    """Find the commit of a kernel tree that broke a flush rule, a scenario, a test, or a timing.

    `git bisect` runs in a clone in the cache, so HEAD, work tree and refs of the tree do not change. Each commit is
    built incrementally and runs in a guest: in a native guest if it shows the difference between the good and the bad
    revision, else in a virtual machine. A commit that does not build or does not answer is skipped.

    With --bench, the good kernel and the commit's kernel run at the same time and measure in turns. They boot again
    until the interval of their ratio decides. The commit that was found is tested again; if the verdict changes, the
    search goes back.

    After an interruption, the same command continues.

    Exit status: 0 the commit was found, 1 the good revision is not good or the bad one not bad, 4 only skipped
    commits are left.

    \b
    Examples:
      iommufd bisect --source ~/linux --good v7.2 --bad HEAD --rule 2
      iommufd bisect --source ~/linux --good HEAD~20 --bad HEAD --bench 'map 2M'
    """
    from iommufd_py.lab.bisect.clone import has_changes
    from iommufd_py.lab.bisect.session import bisect as find

    from .lab_progress import show_lab_progress

    for name, revision in (("--good", good), ("--bad", bad)):
        if not revision.strip():
            raise click.UsageError(f"{name} is empty: give a revision, such as v7.2")
    question = _question(rule, scenario, test, bench, threshold)
    if has_changes(source):
        note(f"{source} has changes that are not committed; the bisection ignores them and does not touch them")
    start = time.monotonic()
    try:
        with show_lab_progress() as progress:
            found = find(source, good, bad, question, progress, progress.note)
    except (KeyboardInterrupt, SystemExit):
        note("interrupted; the same command continues with the verdicts so far")
        raise
    seconds = time.monotonic() - start
    if as_json:
        emit_json(_document(question, found, seconds))
    else:
        _show(question, found, seconds)
    sys.exit(NOT_OBSERVED if found.first_bad is None else 0)


def _question(
    rule: int | None, scenario: str | None, test: str | None, bench: str | None, threshold: float | None
) -> "Question":
    from iommufd_py.lab.bisect.trial import Kind, Question

    given = {Kind.RULE: rule, Kind.SCENARIO: scenario, Kind.TEST: test, Kind.BENCH: bench}
    asked = [(kind, str(value)) for kind, value in given.items() if value is not None]
    if len(asked) != 1:
        raise click.UsageError("give one of --rule, --scenario, --test and --bench")
    ((kind, subject),) = asked
    if kind is not Kind.BENCH:
        if threshold is not None:
            raise click.UsageError("--threshold needs --bench: it is the slowdown of a timing")
        question = Question(kind, subject)
        _check_subject(question)
        return question
    question = Question(kind, subject, (_DEFAULT_THRESHOLD if threshold is None else threshold) / 100)
    try:
        _ = question.timing
    except ValueError as failure:
        raise click.UsageError(f"--bench {shown(subject)}: {failure}") from None
    _check_subject(question)
    return question


def _check_subject(question: "Question") -> None:
    """Refuse a scenario or a test that does not exist, and a timing that is impossible: the guest would say so only
    after minutes of compilation.

    Raises:
        click.UsageError: it does not exist, or is impossible.
    """
    from iommufd_py.lab.bisect.trial import Kind
    from iommufd_py.validate.catalogue import matching_scenarios

    name = question.subject
    if question.kind is Kind.BENCH:
        from iommufd_py.lab.bisect.judge import guest_command

        from .bench.axes import chosen_points
        from .bench.run import run

        _, _, _, *options = guest_command(question)  # iommufd bench run
        chosen_points(run.make_context("run", options).params)
    if question.kind is Kind.SCENARIO and not matching_scenarios(name):
        raise click.UsageError(f"no scenario matches {shown(name)}; 'iommufd validate --list' shows all of them")
    if question.kind is Kind.TEST and not os.path.exists(name.partition("::")[0]):
        raise click.UsageError(f"--test {shown(name)} names no file here: write it as pytest does, FILE::TEST")


def _show(question: "Question", found: "Found", seconds: float) -> None:
    if found.first_bad is None:
        click.echo(f"{question}: the first bad commit is one of these; some of them could not be tested")
    else:
        click.echo(f"{question}: the first bad commit is")
    for commit in found.candidates:
        click.echo(f"    {commit} {found.subjects[commit]}")
    click.echo()
    sides = (("bad", found.bad_side), ("good", found.good_side))
    emit_facts([(name, f"{trial.commit[:12]} {trial.evidence}") for name, trial in sides])
    back = f"; {counted(found.returns, 'verdict')} changed when tested again" if found.returns else ""
    click.echo(f"\n{counted(len(found.trials), 'commit')}, {_GUESTS[found.guest]}, {seconds:.0f} s{back}. The log:\n")
    click.echo(found.log)


def _document(question: "Question", found: "Found", seconds: float) -> dict[str, object]:
    def trial(one: "Trial") -> dict[str, object]:
        return asdict(one) | {"subject": found.subjects[one.commit], "status": one.verdict.status}

    return {
        "schema": "iommufd-bisect/1",
        "question": asdict(question),
        "first_bad": found.first_bad,
        "candidates": list(found.candidates),
        "bad_side": trial(found.bad_side),
        "good_side": trial(found.good_side),
        "trials": [trial(one) for one in found.trials],
        "guest": found.guest,
        "returns": found.returns,
        "seconds": round(seconds, 1),
        "log": found.log,
    }
