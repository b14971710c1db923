# SPDX-License-Identifier: MIT
"""Run the jobs of scripts/jobs.py, two at a time, and skip those that passed before with the same inputs.

Started by scripts/test. Exit status: 0 all jobs passed, 1 a job failed, 2 wrong usage, 130 interrupted.
"""

import argparse
import contextlib
import functools
import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from iommufd_py.lab.paths import cache_root
from iommufd_py.lab.process import locked
from iommufd_py.lab.source import SERIES, unpacked_trees
from scripts import inputs
from scripts.installed import installed_packages
from scripts.jobs import JOBS, Job
from scripts.passed import Passed

ROOT = Path(__file__).resolve().parent.parent
# An emulated guest needs 2 GiB; a compilation needs about as much.
_BYTES_PER_JOB = 4 << 30
# A job that takes twenty times its usual time hangs. A busy machine slows a job down by less.
_PATIENCE = 20
_IMPOSSIBLE = 4
# The architecture of the kernel for each kind of guest.
_KERNELS = {"native": "um", "vm": "x86_64"}


@dataclass(frozen=True)
class Done:
    """The result of one job."""

    job: Job
    status: int
    seconds: float
    output: Path | None

    @property
    def word(self) -> str:
        """``passed``, ``failed``, ``skipped`` (the job passed before) or ``impossible``."""
        if self.output is None:
            return "skipped"
        if self.status == _IMPOSSIBLE and self.job.may_be_impossible:
            return "impossible"
        return "failed" if self.status else "passed"


def build_kernels(jobs: Iterable[Job]) -> dict[tuple[str, str], str]:
    """Build the kernels for *jobs*, one after the other. Return the path of each image by kind and name.

    Raises:
        SystemExit: a kernel does not build.
    """
    images: dict[tuple[str, str], str] = {}
    for kind, kernel in sorted({(job.kind, job.kernel) for job in jobs if job.kernel}, reverse=True):
        variant, _, debug = kernel.partition("-")
        command = ["iommufd", "lab", "kernel", "build", variant, "--arch", _KERNELS[kind], *(["--debug"] * bool(debug))]
        print(f"== kernel {kernel}, {_KERNELS[kind]}", flush=True)
        built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if built.returncode:
            sys.exit(f"scripts/test: {shlex.join(command)} failed with exit status {built.returncode}; see above")
        images[kind, kernel] = built.stdout.strip()
    return images


def key_of(job: Job, image: str) -> str:
    """Return the digest of everything that decides the result of *job*; empty for a job that always runs."""
    if not job.inputs:
        return ""
    always = [*inputs.ALWAYS, *(inputs.PYTEST if "pytest" in job.command else ())]
    if job.kind != "host":
        always.append("cli/lab.py")  # The code of `lab run` boots the guest.
    words = [shlex.join(job.command_line()), image, sys.version, *_packages()]
    if not job.early:
        words += _lab_of(job)
    ignored = [word.removeprefix("--ignore=") for word in job.command if word.startswith("--ignore=")]
    return inputs.digest_inputs(ROOT, job.inputs, words, always, ignored)


_packages = functools.cache(installed_packages)


@functools.cache
def _emulator() -> str:
    if shutil.which("qemu-system-x86_64") is None:
        return ""  # The jobs that need it say so.
    return subprocess.run(["qemu-system-x86_64", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout


def _lab_of(job: Job) -> tuple[str, str]:
    """Return the kernel source and the emulator of a job that boots kernels."""
    words = dict(itertools.pairwise(job.command))
    series = words.get("--series", SERIES[0])
    source = next((tree.identity for tree in unpacked_trees() if tree.series == series), "")
    return source, _emulator()


class JobRunner:
    """Runs jobs in threads, each job in its own process group. An interruption ends the running jobs."""

    def __init__(self, passed: Passed, directory: Path) -> None:
        self._waiting: list[tuple[Job, str]] = []
        self._complete = False
        self._passed = passed
        self._directory = directory
        self._changed = threading.Condition()
        self._native_runs = False
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self.done: list[Done] = []

    @contextlib.contextmanager
    def working(self, workers: int) -> Iterator[None]:
        """Run the jobs that the block adds, *workers* at a time, and wait for all of them at the end of the block."""
        threads = [threading.Thread(target=self._work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        try:
            yield
            with self._changed:
                self._complete = True
                self._changed.notify_all()
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop()
            raise

    def add(self, jobs: Iterable[tuple[Job, str]]) -> None:
        """Add jobs, each with the digest of its inputs. The longest starts first."""
        with self._changed:
            self._waiting = sorted([*self._waiting, *jobs], key=lambda one: -self._expected(one[0]))
            self._changed.notify_all()

    def _expected(self, job: Job) -> float:
        return self._passed.seconds(job.name, job.minutes * 60)

    def _stop(self) -> None:
        with self._changed:
            self._stopped = self._complete = True
            self._waiting.clear()
            for child in self._running:
                os.killpg(child.pid, signal.SIGTERM)
            self._changed.notify_all()

    def _next(self) -> tuple[Job, str] | None:
        """Wait for a job that may start, and take it. Only one native guest runs at a time, because all use the same
        CPU."""
        with self._changed:
            while True:
                for position, (job, _) in enumerate(self._waiting):
                    if not job.native or not self._native_runs:
                        self._native_runs = self._native_runs or job.native
                        return self._waiting.pop(position)
                if self._complete and not self._waiting:
                    return None
                self._changed.wait()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            job, key = taken
            try:
                self._run(job, key)
            finally:
                with self._changed:
                    if job.native:
                        self._native_runs = False
                    self._changed.notify_all()

    def _run(self, job: Job, key: str) -> None:
        output = self._directory / f"{job.name}.log"
        start = time.monotonic()
        with output.open("wb") as log:
            with self._changed:
                if self._stopped:
                    return
                child = subprocess.Popen(
                    job.command_line(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
                )
                self._running.add(child)
            try:
                status = child.wait(job.minutes * 60 * _PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                status = -signal.SIGKILL
                log.write(f"\nscripts/test: stopped after {time.monotonic() - start:.0f} s\n".encode())
            with self._changed:
                self._running.discard(child)
        done = Done(job, status, time.monotonic() - start, output)
        with self._changed:
            if self._stopped:
                return
            self.done.append(done)
            if done.word == "passed" and key:
                self._passed.add(job.name, key, done.seconds)
            elif done.word == "failed":
                self._passed.remove(job.name)
            print_result(done)


def print_result(done: Done) -> None:
    """Print one line about a job, with the last line of its output. A failed job prints its whole output before."""
    assert done.output is not None
    lines = done.output.read_text(errors="replace").splitlines()
    if done.word == "failed":
        print("\n".join(lines), flush=True)
    last = next((line.strip("= ") for line in reversed(lines) if line.strip()), "")
    print(f"== {done.job.name}: {done.word} in {done.seconds:.0f} s: {last}", flush=True)
    if done.word != "passed":
        print(f"   {shlex.join(done.job.command_line())}", flush=True)


def chosen_jobs(only: Sequence[str], full: bool) -> list[Job]:
    """Return the jobs whose name matches one of *only*, or all jobs. *full* adds the nightly jobs."""
    jobs = [job for job in JOBS if full or not job.nightly]
    return [job for job in jobs if any(fnmatchcase(job.name, pattern) for pattern in only)] if only else jobs


def main() -> int:
    """Run the jobs that the command line names, and exit with 1 if one failed."""
    parser = argparse.ArgumentParser(prog="scripts/test", description="Run the tests, two jobs at a time.")
    parser.add_argument("--all", action="store_true", help="also run jobs that passed before with the same content")
    parser.add_argument("--full", action="store_true", help="also run the nightly jobs, which takes hours")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="run only jobs of this name, for example 'vtd-*'"
    )
    parser.add_argument("--list", action="store_true", help="list the jobs and run nothing")
    options = parser.parse_args()
    jobs = chosen_jobs(options.only, options.full or options.list)
    if not jobs:
        parser.error(
            f"no job is called {' or '.join(options.only)}; --list shows all, and --full adds the nightly ones"
        )
    if options.list:
        for job in jobs:
            print(f"{job.name:26}{'nightly ' if job.nightly else ''}{shlex.join(job.command_line())}")
        return 0
    # A CI runner or nohup may have ignored SIGINT in this process, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with own_logs(ROOT / "build" / "test-logs") as directory:
            return run_chosen(jobs, directory, everything=options.all)
    except KeyboardInterrupt:
        print("scripts/test: interrupted", flush=True)
        return 130


@contextlib.contextmanager
def own_logs(directory: Path) -> Iterator[Path]:
    """Lend the directory of the logs of this checkout, after the end of another run that uses it."""
    waiting = "scripts/test: another run uses this checkout; waiting for its end"
    with locked(directory / "lock", lambda: print(waiting, flush=True)):
        yield directory


def run_chosen(jobs: Sequence[Job], directory: Path, *, everything: bool) -> int:
    """Run *jobs* with their logs in *directory*, and return the exit status.

    Without *everything*, jobs that passed before are skipped.
    """
    # Older checkouts on this machine use "passed", and cannot read these records.
    passed = Passed(cache_root() / "passed-jobs")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    runner = JobRunner(passed, directory)
    skipped: list[Job] = []

    def add(some: Iterable[Job], images: Mapping[tuple[str, str], str]) -> None:
        for job in some:
            key = key_of(job, images.get((job.kind, job.kernel), ""))
            if key and not everything and passed.has(job.name, key):
                print(f"== {job.name}: passed before with the same content; --all runs it again", flush=True)
                skipped.append(job)
            else:
                runner.add([(job, key)])

    with runner.working(max(1, min(2, memory // _BYTES_PER_JOB))):
        # These jobs need no kernel. Their results come while kernels are compiled.
        add([job for job in jobs if job.early], {})
        add([job for job in jobs if not job.early], build_kernels(jobs))
    words = [done.word for done in runner.done]
    for done in runner.done:
        if done.word in ("failed", "impossible"):
            print(f"{done.word}: {done.job.name} ({done.output})")
    print(
        f"jobs: {words.count('passed')} passed, {words.count('failed')} failed, "
        f"{len(skipped) + words.count('impossible')} skipped"
    )
    return 1 if "failed" in words or len(words) + len(skipped) < len(jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
