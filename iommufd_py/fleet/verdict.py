# SPDX-License-Identifier: MIT
"""The verdict on all machines: the worst outcome of each check, with the names of its machines."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from iommufd_py.fleet.checks import BAD, Check, Outcome, checks_of, worst
from iommufd_py.fleet.combined_times import CombinedTimes, Figures
from iommufd_py.fleet.record import KernelFacts, RunnerState, load_records

FAILED, NOT_OBSERVED = 1, 4
"""Exit status of `iommufd fleet report`."""


@dataclass(frozen=True, slots=True)
class Runner:
    """One machine in the report.

    Attributes:
        name: name of its place.
        state: its progress through the plan.
        tags: tags of the place.
        kernels: the kernels that ran on it.
        checks: the checks that ran, and those that are missing.
    """

    name: str
    state: RunnerState
    tags: Mapping[str, str]
    kernels: tuple[KernelFacts, ...]
    started: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class CombinedCheck:
    """One check on one kernel, over all machines.

    Attributes:
        kernel: its name in the plan; empty for a check of the machines themselves.
        name: name of the check.
        outcome: the worst outcome of all machines.
        runners: the machines with this outcome, if it is not good.
        detail: the detail of the first of these machines.
        counts: number of machines by outcome.
        judged: whether the verdict counts this line; it ignores the lines of the baseline.
        accepted: whether every outcome is good or accepted.
    """

    kernel: str
    name: str
    outcome: Outcome
    runners: tuple[str, ...]
    detail: str
    counts: Mapping[Outcome, int]
    judged: bool
    accepted: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The report on a whole run.

    Attributes:
        run: name of the run.
        runners: the machines.
        lines: the checks of all machines.
        rows: the benchmarks of all machines.
        cautions: warnings about the benchmarks, each with the names of its machines.
        baseline: the kernel with which the others are compared, or None.
        allow_lost: number of lost machines that are accepted.
    """

    run: str
    runners: tuple[Runner, ...]
    lines: tuple[CombinedCheck, ...]
    rows: tuple[CombinedTimes, ...]
    cautions: Mapping[str, tuple[str, ...]]
    baseline: str | None
    allow_lost: int

    @property
    def lost(self) -> tuple[str, ...]:
        """The machines that are lost."""
        return tuple(one.name for one in self.runners if one.checks[0].outcome is Outcome.LOST)

    @property
    def lost_is_allowed(self) -> bool:
        """Whether no more machines are lost than are accepted."""
        return len(self.lost) <= self.allow_lost

    @property
    def outcome(self) -> Outcome:
        """The worst outcome that is judged and not accepted; passed if there is none.

        If no check of a kernel is judged, nothing was observed.
        """
        judged = [one for one in self.lines if one.judged]
        nothing = [] if any(one.kernel for one in judged) else [Outcome.NOT_OBSERVED]
        return worst([*(one.outcome for one in judged if not one.accepted), *nothing, Outcome.PASSED])

    @property
    def exit_status(self) -> int:
        """0 good, 1 failed or violated, 4 cannot be observed."""
        if self.outcome in BAD:
            return FAILED
        return NOT_OBSERVED if self.outcome in (Outcome.NOT_OBSERVED, Outcome.COUNTS_AGREE) else 0


def judge_run(directory: Path, allow_lost: int = 0) -> Report:
    """Judge the run whose results are in *directory*.

    Raises:
        ToolError: there are no results, a record is damaged, or the results are not those of one run.
    """
    figures = Figures()
    runners: list[Runner] = []
    records = load_records(directory)
    for folder, record in records:
        checks = (*checks_of(record, folder), *figures.add(record, folder))
        runners.append(Runner(record.name, record.state, record.tags, record.kernels, record.started, checks))
    runners = _with_missing(_with_versions(runners))
    run, baseline = records[0][1].run, records[0][1].baseline
    lost = [one.name for one in runners if one.checks[0].outcome is Outcome.LOST]
    forgiven = frozenset(lost if len(lost) <= allow_lost else ())
    return Report(
        run,
        tuple(runners),
        tuple(_lines(runners, baseline, forgiven)),
        figures.rows(),
        {caution: tuple(names) for caution, names in figures.cautions.items()},
        baseline,
        allow_lost,
    )


def _with_versions(runners: Sequence[Runner]) -> list[Runner]:
    """Add an error to each machine whose version of the tool differs from the version of most machines.

    Another version can give another verdict.
    """
    versions = Counter(one.tool_version for runner in runners for one in runner.kernels)
    if len(versions) < 2:
        return list(runners)
    usual = versions.most_common(1)[0][0]
    found = []
    for runner in runners:
        other = next((one.tool_version for one in runner.kernels if one.tool_version != usual), None)
        if other is not None:
            detail = f"it ran version {other}, the others {usual}: set 'package' in the plan for one version on all"
            runner = replace(runner, checks=(*runner.checks, Check("", "tool version", Outcome.ERROR, detail)))
        found.append(runner)
    return found


def _with_missing(runners: Sequence[Runner]) -> list[Runner]:
    """Add to each machine the checks that ran on other machines only. A check that did not run does not count as
    passed."""
    every = dict.fromkeys((check.kernel, check.name) for one in runners for check in one.checks if check.kernel)
    found = []
    for runner in runners:
        own = {(check.kernel, check.name) for check in runner.checks}
        machine = runner.checks[0]
        outcome = Outcome.NOT_OBSERVED if machine.outcome is Outcome.PASSED else machine.outcome
        detail = machine.detail or "the check did not run on this machine"
        missing = (Check(*key, outcome, detail) for key in every if key not in own)
        found.append(replace(runner, checks=(*runner.checks, *missing)))
    return found


def _lines(runners: Sequence[Runner], baseline: str | None, forgiven: frozenset[str]) -> Iterator[CombinedCheck]:
    found: dict[tuple[str, str], list[tuple[str, Check]]] = defaultdict(list)
    for runner in runners:
        for check in runner.checks:
            found[check.kernel, check.name].append((runner.name, check))
    # The order is: the machines themselves, the baseline, the other kernels.
    for kernel, name in sorted(found, key=lambda key: (key[0] != "", key[0] != baseline, key[0])):
        every = found[kernel, name]
        counted = [pair for pair in every if not (pair[0] in forgiven and pair[1].outcome is Outcome.LOST)]
        # A check that did not run does not count as passed.
        outcome = worst(check.outcome for _, check in counted) if counted else Outcome.NOT_OBSERVED
        bad = [(who, check) for who, check in counted or every if check.outcome is outcome and not check.is_good]
        yield CombinedCheck(
            kernel,
            name,
            outcome,
            tuple(who for who, _ in bad),
            bad[0][1].detail if bad else "",
            Counter(check.outcome for _, check in every),
            judged=not kernel or kernel != baseline,
            accepted=bool(counted) and all(check.is_good for _, check in counted),
        )
