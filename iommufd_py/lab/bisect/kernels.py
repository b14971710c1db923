# SPDX-License-Identifier: MIT
"""Build the kernel of a commit, run a command on it, and give the verdict."""

import json
import re
import shutil
import tempfile
import time
from pathlib import Path

from iommufd_py.lab import build, kernel, native, vm
from iommufd_py.lab.bisect.clone import Clone, PatchError
from iommufd_py.lab.bisect.judge import guest_command, judge_commit, median_ns, median_of_document
from iommufd_py.lab.bisect.record import Guest
from iommufd_py.lab.bisect.timing import MOST_BOOTS, decide
from iommufd_py.lab.bisect.trial import CommitVerdict, Kind, Question, Trial
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.errors import BuildError, LabError
from iommufd_py.lab.progress import Progress
from iommufd_py.lab.runs import RunResult
from iommufd_py.lab.source import SERIES
from iommufd_py.lab.together import run_in_turns

# Number of boots of each kernel before a verdict, in a first test and in a repeated one.
_MIN_BOOTS = 4
# Ten times the duration of the slowest question on an emulated CPU.
_TIMEOUT_SECONDS = 1200
# The Kconfig symbol by which the series marks an architecture that can flush.
_FLUSH_SYMBOL = "ARCH_HAS_FLUSH_CACHE_PHYS"


class CommitTester:
    """Tests commits in guests of one kind.

    Args:
        clone: the clone to build from.
        question: the question to answer.
        guest: the kind of guest.
        reference: hash of the good revision, with which timings are compared.
        directory: place for images that must be kept.
        progress: shows the progress.
    """

    def __init__(
        self, clone: Clone, question: Question, guest: Guest, reference: str, directory: Path, progress: Progress
    ) -> None:
        self._clone = clone
        self._question = question
        self._guest = guest
        self._reference = reference
        self._reference_image = directory / "reference-image"
        self._progress = progress
        self._times: dict[str, tuple[list[float], list[float]]] = {}

    def examine(self, commit: str) -> Trial:
        """Build the kernel of a commit and answer the question in a guest."""
        start = time.monotonic()
        try:
            verdict, evidence = self._ask(commit)
        except (BuildError, PatchError) as failure:
            first, *others = (line.strip() for line in str(failure).splitlines() if line.strip())
            verdict, evidence = CommitVerdict.SKIP, f"{first} {others[0]}" if others else first
        return Trial(commit, verdict, evidence, round(time.monotonic() - start, 1))

    def _ask(self, commit: str) -> tuple[CommitVerdict, str]:
        if self._question.kind is Kind.BENCH:
            return self._time(commit)
        image = self._build(commit)
        self._progress.step(f"running {commit[:12]}")
        return judge_commit(self._question, *self._run(image))

    def _build(self, commit: str) -> Path:
        configuration = Configuration("um" if self._guest == "native" else "x86_64")
        self._clone.checkout(commit, self._patches(commit))
        self._progress.step(f"building {commit[:12]} {self._clone.subject(commit)}")
        return kernel.build_kernel("stock", self._progress, configuration=configuration, own=self._clone.tree).image

    def _patches(self, commit: str) -> list[Path]:
        """Return the patches that User-Mode Linux needs for the mock driver, and for the flush if the commit has it."""
        if self._guest != "native":
            return []
        version = dict(re.findall(r"^(VERSION|PATCHLEVEL) *= *(\d+)$", self._clone.read(commit, "Makefile"), re.M))
        series = f"{version.get('VERSION')}.{version.get('PATCHLEVEL')}"
        flushes = _FLUSH_SYMBOL in self._clone.read(commit, "lib/Kconfig")
        try:
            return kernel.native_patches(series if series in SERIES else SERIES[0], flushes=flushes)
        except LabError as failure:
            raise PatchError(str(failure)) from failure

    def _run(self, image: Path) -> tuple[RunResult, str]:
        run = native.run_natively if self._guest == "native" else vm.run_in_vm
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as remarks:
            result = run(image, guest_command(self._question), stdout=answer, stderr=remarks, timeout=_TIMEOUT_SECONDS)
            answer.seek(0)
            return result, answer.read().decode(errors="replace")

    def _time(self, commit: str) -> tuple[CommitVerdict, str]:
        if commit == self._reference:
            shutil.copy(self._build(commit), self._reference_image)
            value, why = self._median(self._reference_image)
            if value is None:
                return CommitVerdict.SKIP, why
            return CommitVerdict.GOOD, f"the good revision, {value:.0f} ns in one boot"
        image = self._build(commit)
        # A kernel that does not boot or does not measure is skipped with its reason.
        value, why = self._median(image)
        if value is None:
            return CommitVerdict.SKIP, why
        reference, candidate = self._times.setdefault(commit, ([], []))
        # A commit that is tested again gets at least as many new boots.
        wanted = len(candidate) + MOST_BOOTS
        fresh = 0
        evidence = ""
        while len(candidate) < wanted:
            for times, value in zip((reference, candidate), self._medians_in_turns(image), strict=True):
                times.append(value)
            fresh += 1
            verdict, evidence = decide(reference, candidate, self._question.threshold)
            self._progress.step(f"{commit[:12]}: {evidence}")
            if verdict is not None and fresh >= _MIN_BOOTS:
                return verdict, evidence
        return CommitVerdict.SKIP, f"undecided: {evidence}"

    def _medians_in_turns(self, image: Path) -> list[float]:
        """Boot the reference and *image* at the same time, and return the median of each. They measure in turns."""
        with tempfile.TemporaryDirectory() as directory:
            images = {"reference": self._reference_image, "candidate": image}
            files = {name: Path(directory, f"{name}.json") for name in images}
            commands = [
                [
                    *["lab", "run", "--native", "--kernel", str(kernel_image), "--rw", directory, "--"],
                    *[*guest_command(self._question), "--output", str(files[name])],
                ]
                for name, kernel_image in images.items()
            ]
            run_in_turns(commands, Path(directory))
            return [median_of_document(self._question, json.loads(file.read_text())) for file in files.values()]

    def _median(self, image: Path) -> tuple[float | None, str]:
        return median_ns(self._question, *self._run(image))


def remove_builds(tree: Path) -> None:
    """Remove a clone and everything that was built from it."""
    build.discard_own(tree)
    shutil.rmtree(tree, ignore_errors=True)
