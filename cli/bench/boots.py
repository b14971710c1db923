# SPDX-License-Identifier: MIT
"""Boot several kernels of the lab in turn and measure on each, until the intervals are narrow enough."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import ToolError
from iommufd_py.base.units import counted
from iommufd_py.bench.host_noise import HostMeter
from iommufd_py.results import compare as comparing
from iommufd_py.results import document, model

from ..output import note

# Maximum number of boots of each kernel that are repeated because the host was busy.
_MORE_BOOTS = 2


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


class AlternatingBoots:
    """The boots of all variants.

    Args:
        variants: the first one is the baseline.
        command: `lab run` and its options, then ``--`` and `bench run` with its options, without kernel, coherency,
            label and output.
        directory: directory of the result files, one for each variant, complete after each boot.
        prefix: prefix of their names.
        cpus: the CPUs of the guest. A boot is repeated if other processes took them. Empty: no boot is repeated.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        command: Callable[[Variant, Path], list[str]],
        directory: Path,
        prefix: str,
        cpus: Collection[int],
    ) -> None:
        self._variants = tuple(variants)
        self._command = command
        self._directory = directory
        self._prefix = prefix
        self._cpus = cpus
        self._runs: dict[Variant, list[model.BenchResult]] = {variant: [] for variant in variants}
        self._discarded: dict[Variant, list[str]] = {variant: [] for variant in variants}

    def measure(self, effort: Effort) -> list[model.BenchResult]:
        """Boot the variants in turn and return their results.

        The order is reversed in every other round, so that a drift of the machine affects all variants alike.
        """
        start, rounds = time.monotonic(), 0
        while True:
            order = self._variants if rounds % 2 == 0 else self._variants[::-1]
            for variant in order:
                self._boot(variant, rounds, effort, start)
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
            note(f"{counted(len(wide), 'interval')} wider than {precision:.0%}: one more round of boots")
        return not wide

    def _merged(self, variant: Variant) -> model.BenchResult:
        return replace(model.merge(self._runs[variant]), discarded=tuple(self._discarded[variant]))

    def _boot(self, variant: Variant, rounds: int, effort: Effort, start: float) -> None:
        done = sum(map(len, self._runs.values()))
        total = max(effort.rounds, rounds + 1) * len(self._variants)
        left = f", {(time.monotonic() - start) / done * (total - done):.0f} s left" if done else ""
        note(f"boot {done + 1} of {total}: {variant.label}{left}")
        file = self._directory / f"{self._prefix}-{re.sub(r'[^A-Za-z0-9.]+', '-', variant.label)}.json"
        while True:
            meter = HostMeter(self._cpus) if self._cpus else None
            run_iommufd(self._command(variant, file))
            disturbances = "; ".join(meter.disturbances()) if meter else ""
            late = time.monotonic() - start > effort.seconds
            if not disturbances or late or len(self._discarded[variant]) >= _MORE_BOOTS:
                break
            note(f"  the host was busy ({disturbances}): this boot is repeated")
            self._discarded[variant].append(disturbances)
        result = document.load_result(file)
        boots = tuple(replace(boot, disturbances=disturbances) for boot in result.every_boot)
        self._runs[variant].append(replace(result, boots=boots))
        document.save(self._merged(variant), file)


def run_iommufd(arguments: Sequence[str]) -> None:
    """Run this tool in a separate process. Its output is discarded, and its errors are shown.

    Raises:
        ToolError: the command failed.
    """
    command = [str(Path(sys.executable).parent / "iommufd"), *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise ToolError(f"'{shlex.join(['iommufd', *arguments])}' failed with status {done.returncode}; see above")
