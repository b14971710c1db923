# SPDX-License-Identifier: MIT
"""Boot several kernels of the lab and measure on each, until the intervals are narrow enough."""

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.command_line import recorded_command
from iommufd_py.base.units import counted, format_percent
from iommufd_py.bench.host_noise import HostMeter
from iommufd_py.lab.together import run_in_turns, run_iommufd
from iommufd_py.results import compare as comparing
from iommufd_py.results import document, model

from ..output import note

# Maximum number of rounds that are repeated because the host was busy.
_MORE_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Variant:
    """A kernel to boot, the coherency of its domains, and the name in tables."""

    kernel: str
    coherency: Coherency
    label: str


@dataclass(frozen=True, slots=True)
class Effort:
    """The number of rounds of boots.

    Attributes:
        rounds: minimum number of rounds. Each round boots every variant once.
        precision: width of an interval that counts as precise, 0.05 for 5 %; None: no more rounds than *rounds*.
        seconds: time limit. No further round starts if it would end later.
    """

    rounds: int
    precision: float | None
    seconds: float


class RoundsOfBoots:
    """The boots of all variants, in rounds.

    Args:
        variants: the first one is the baseline.
        command: `lab run` and its options, then ``--`` and `bench run` with its options, without ``--output`` and
            ``--turn``.
        directory: directory of the result files, one for each variant, complete after each round.
        prefix: prefix of their names.
        cpus: the CPUs of the guest. A round is repeated if other processes took them. Empty: no round is repeated.
        together: whether all guests of a round run at the same time and measure in turns. Otherwise they boot one after
            the other.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        command: Callable[[Variant], list[str]],
        directory: Path,
        prefix: str,
        cpus: Collection[int],
        *,
        together: bool,
    ) -> None:
        self._variants = tuple(variants)
        self._command = command
        self._directory = directory
        self._prefix = prefix
        self._cpus = cpus
        self._boot_all = self._boot_together if together else self._boot_one_by_one
        self._runs: dict[Variant, list[model.BenchResult]] = {variant: [] for variant in variants}
        self._discarded: list[str] = []

    def measure(self, effort: Effort) -> list[model.BenchResult]:
        """Boot round after round, and return the results of the variants.

        The order changes from round to round, so that a drift of the machine affects all variants alike.
        """
        start, rounds = time.monotonic(), 0
        while True:
            self._round(rounds, effort, start)
            rounds += 1
            if rounds < effort.rounds:
                continue
            if effort.precision is None or self._precise(effort.precision):
                break
            elapsed = time.monotonic() - start
            if elapsed + elapsed / rounds > effort.seconds:
                note(
                    f"the time limit is reached after {counted(rounds, 'boot')} of each kernel; the finding names the "
                    "wide intervals"
                )
                break
        return [self._merged(variant) for variant in self._variants]

    def _precise(self, precision: float) -> bool:
        before, *others = (self._merged(variant) for variant in self._variants)
        wide = [one for after in others for one in comparing.compare(before, after).wider_than(precision)]
        if wide:
            note(f"{counted(len(wide), 'interval')} wider than {format_percent(precision)}: one more round of boots")
        return not wide

    def _merged(self, variant: Variant) -> model.BenchResult:
        # The command of a single boot would wait for the guests of its round, so it repeats nothing.
        merged = model.merge(self._runs[variant])
        return replace(merged, command=recorded_command(), discarded=tuple(self._discarded))

    def _file(self, variant: Variant) -> Path:
        return self._directory / f"{self._prefix}-{re.sub(r'[^A-Za-z0-9.]+', '-', variant.label)}.json"

    def _round(self, done: int, effort: Effort, start: float) -> None:
        """Boot every variant once. Repeat this if the host was busy."""
        total = max(effort.rounds, done + 1)
        left = f", {(time.monotonic() - start) / done * (total - done):.0f} s left" if done else ""
        note(f"round {done + 1} of {total}: {', '.join(one.label for one in self._variants)}{left}")
        first = done % len(self._variants)
        while True:
            meter = HostMeter(self._cpus) if self._cpus else None
            self._boot_all([*self._variants[first:], *self._variants[:first]])
            disturbances = "; ".join(meter.disturbances()) if meter else ""
            late = time.monotonic() - start > effort.seconds
            if not disturbances or late or len(self._discarded) >= _MORE_ROUNDS:
                break
            note(f"  the host was busy ({disturbances}): this round is repeated")
            self._discarded.append(disturbances)
        for variant in self._variants:
            result = document.load_result(self._file(variant))
            boots = tuple(replace(boot, disturbances=disturbances) for boot in result.every_boot)
            self._runs[variant].append(replace(result, boots=boots))
            document.save(self._merged(variant), self._file(variant))

    def _boot_one_by_one(self, order: Sequence[Variant]) -> None:
        for variant in order:
            run_iommufd(self._boot_and_write(variant))

    def _boot_together(self, order: Sequence[Variant]) -> None:
        run_in_turns(list(map(self._boot_and_write, order)), self._directory)

    def _boot_and_write(self, variant: Variant) -> list[str]:
        return [*self._command(variant), "--output", str(self._file(variant))]
