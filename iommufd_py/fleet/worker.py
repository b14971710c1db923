# SPDX-License-Identifier: MIT
"""The worker of one machine: borrow the machine, set it up, run the steps, fetch the results, give it back.

Each worker is a process of its own: labgrid's drivers are not thread-safe, and a dead worker must not stop the others.
A message on the link to the parent process, or the end of the link, stops the worker.
"""

import contextlib
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from iommufd_py.base.errors import ToolError
from iommufd_py.base.shown import error_text
from iommufd_py.fleet.lending import Lender, LendingError, TakenAwayError
from iommufd_py.fleet.machine import LabgridMachine, LostError, MachineJob, SetUpError
from iommufd_py.fleet.plan import INSTALLED, FleetPlan, MachineRequest, Step, StepKind
from iommufd_py.fleet.record import (
    LOG,
    SERIAL_LOG,
    KernelFacts,
    RunnerRecord,
    RunnerState,
    StepRecord,
    StepState,
    machine_folder,
    step_folder,
    waiting_name,
)
from iommufd_py.fleet.tags import bdf_of
from iommufd_py.host.kernel_log import scan_kernel_log

_POLL_SECONDS = 1.0
_INSTALL_SECONDS = 600
_COMMANDS = {
    StepKind.VALIDATE: "iommufd validate --json {options} >result.json 2>log.txt",
    StepKind.DMA_CHECK: "iommufd dma check --json {options} >result.json 2>log.txt",
    StepKind.DMA_COHERENCY: "iommufd dma coherency --json {options} >result.json 2>log.txt",
    StepKind.PYTEST: "pytest --junitxml result.xml --ktap result.ktap {options} >log.txt 2>&1",
    StepKind.BENCH: "iommufd bench run --output result.json {options} >log.txt 2>&1",
}
_FILES = ("result.json", "result.xml", "result.ktap", LOG)


@dataclass(frozen=True, slots=True)
class Assignment:
    """The work of one worker.

    Attributes:
        number: number of the machine in the plan, from 1.
        wanted: the tags of the machine.
        plan: the whole plan.
        output: the result directory of the run.
        coordinator: ``host:port``.
        until: the deadline of the run, in seconds since the epoch.
    """

    number: int
    wanted: MachineRequest
    plan: FleetPlan
    output: Path
    coordinator: str
    until: float


class _StoppedError(Exception):
    """The run ends."""


def work(assignment: Assignment, link: Connection) -> None:
    """Run the assignment. Send pairs to *link*: the name of the machine, and its current activity."""
    # Ctrl-C reaches all processes of a terminal. The parent process decides when workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        _Worker(assignment, link).work()


class _Worker:
    def __init__(self, assignment: Assignment, link: Connection) -> None:
        self._todo = assignment
        self._link = link
        self._record = RunnerRecord(
            waiting_name(assignment.number),
            RunnerState.NOT_LENT,
            baseline=assignment.plan.baseline,
            run=assignment.plan.name,
        )

    @property
    def _folder(self) -> Path:
        return self._todo.output / machine_folder(self._record.name)

    def _say(self, text: str) -> None:
        # If the parent process was killed, nobody reads the link. The worker must still give its machine back.
        with contextlib.suppress(BrokenPipeError):
            self._link.send((self._record.name, text))

    @property
    def _stop_reason(self) -> str:
        if self._link.poll():
            return "the run was interrupted"
        return "the deadline of the run is over" if time.time() > self._todo.until else ""

    def _check_stop(self) -> None:
        if self._stop_reason:
            raise _StoppedError(self._stop_reason)

    def _note(self, state: RunnerState, reason: str = "") -> None:
        self._record = replace(self._record, state=state, reason=reason)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._record.save(self._folder)

    def work(self) -> None:
        try:
            lender = Lender(self._todo.coordinator)
        except LendingError as failure:
            self._end(RunnerState.NOT_LENT, str(failure))
            return
        try:
            place = self._borrow(lender)
            if place is not None:
                self._use_place(lender, place)
        finally:
            lender.close()

    def _borrow(self, lender: Lender) -> str | None:
        self._say(f"waits for {self._todo.wanted}")
        try:
            with lender.reserved(self._todo.wanted.filter, lambda: bool(self._stop_reason)) as place:
                if place is None:
                    self._end(RunnerState.NOT_LENT, f"{self._stop_reason} before {self._todo.wanted} was free")
                    return None
                lender.acquire(place)
                return place
        except LendingError as failure:
            self._end(RunnerState.NOT_LENT, str(failure))
            return None

    def _end(self, state: RunnerState, reason: str = "") -> None:
        self._note(state, reason)
        self._say(f"{state}: {reason}" if reason else str(state))

    def _use_place(self, lender: Lender, place: str) -> None:
        try:
            folder = self._todo.output / machine_folder(place)
            if folder.exists():
                reason = f"{place}, which became free, has results of this run already"
                self._end(RunnerState.NOT_LENT, f"{reason}; no other machine with {self._todo.wanted} was free")
                return
            self._folder.rename(folder)
            self._record = replace(
                self._record, name=place, tags=lender.tags(place), started=datetime.now(UTC).isoformat("T", "seconds")
            )
            self._note(RunnerState.RUNNING)
            self._say(f"lent; if this run is killed, free it: {lender.release_command(place)}")
            self._end(*self._run(lender, place))
        finally:
            try:
                lender.release(place)
            except LendingError as failure:
                self._say(str(failure))

    def _run(self, lender: Lender, place: str) -> tuple[RunnerState, str]:
        """Run all kernels and steps. Return how the run on this machine ended."""
        plan = self._todo.plan

        def while_waiting() -> None:
            self._check_stop()
            lender.keep(place)

        try:
            machine = LabgridMachine(lender.target(place, plan.environment), plan.lost_after_s, while_waiting)
            with machine.console_to(self._folder / SERIAL_LOG):
                try:
                    self._run_kernels(machine, while_waiting)
                finally:
                    machine.disconnect()
        except LostError as failure:
            return RunnerState.LOST, self._last_kernel_fault() or str(failure)
        except TakenAwayError as failure:
            return RunnerState.LOST, str(failure)
        except _StoppedError as failure:
            return RunnerState.STOPPED, str(failure)
        except ToolError as failure:
            return RunnerState.FAILED, str(failure)
        return RunnerState.DONE, ""

    def _last_kernel_fault(self) -> str:
        """Return the last fault that the kernel reported on the serial console; empty if there is none."""
        log = self._folder / SERIAL_LOG
        reports = scan_kernel_log(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else ()
        worst = [one for one in reports if one.kind == "panic"] or list(reports)
        return worst[-1].title if worst else ""

    def _run_kernels(self, machine: LabgridMachine, while_waiting: Callable[[], None]) -> None:
        booted = INSTALLED
        try:
            machine.connect()
            for kernel in self._todo.plan.kernels:
                if kernel != booted:
                    machine.run("iommufd device restore --all")
                    booted = kernel
                    self._boot(machine, kernel)
                self._run_steps(machine, kernel, while_waiting)
            if booted != INSTALLED:
                booted = INSTALLED
                self._boot(machine, INSTALLED)
        except TakenAwayError:
            raise  # The machine belongs to somebody else now.
        except BaseException as failure:
            self._recover(machine, booted, lost=isinstance(failure, LostError))
            raise

    def _boot(self, machine: LabgridMachine, kernel: str) -> None:
        self._say(f"boots {kernel}")
        machine.boot(kernel)

    def _recover(self, machine: LabgridMachine, booted: str, *, lost: bool) -> None:
        """After a failure, leave the next borrower a machine that answers and runs the installed kernel, if possible.

        Another failure here changes nothing: the result of the machine is the first one.
        """
        if booted != INSTALLED:
            with contextlib.suppress(LostError, ToolError, _StoppedError):
                self._boot(machine, INSTALLED)
                return
        if lost:
            try:
                machine.cycle_power()
            except Exception as failure:  # A power driver runs any program of the lab.
                self._say(f"the power cannot be cycled: {error_text(failure)}")

    def _run_steps(self, machine: LabgridMachine, kernel: str, while_waiting: Callable[[], None]) -> None:
        plan = self._todo.plan
        self._say(f"{kernel}: sets up")
        directory = machine.require("mktemp -d -t iommufd-fleet.XXXXXX", "no directory can be created").strip()
        try:
            machine.prefix = self._install(machine, directory)
            # An earlier run that was killed may have left devices on vfio-pci.
            machine.require("iommufd device restore --all", "devices of an earlier run cannot be given back")
            facts = machine.require("uname -r; iommufd --version", "the machine has no tool 'iommufd'").splitlines()
            release, version = facts[0], facts[-1].removeprefix("iommufd, version ")
            self._record = replace(self._record, kernels=(*self._record.kernels, KernelFacts(kernel, release, version)))
            for repetition in range(1, plan.repetitions + 1):
                for step in plan.steps:
                    self._run_step(machine, directory, kernel, repetition, step, while_waiting)
        finally:
            # The directory stays on a machine that does not answer, and on one that now belongs to somebody else.
            with contextlib.suppress(LostError, LendingError, _StoppedError):
                machine.run(f"rm -rf {shlex.quote(directory)}")

    def _install(self, machine: LabgridMachine, directory: str) -> str:
        """Install the plan's wheel. Return the shell text that must precede a command of the wheel."""
        plan = self._todo.plan
        if plan.package is None:
            return ""
        machine.put(plan.package, directory)
        python, wheel = shlex.quote(plan.python), shlex.quote(f"{directory}/{plan.package.name}")
        pip = "venv/bin/python -m pip install --quiet --disable-pip-version-check"
        # This may run twice, after a dropped connection; --clear makes that harmless.
        # --force-reinstall is for a machine that has the same version of the tool.
        install = (
            f"cd {directory} && {python} -m venv --clear --system-site-packages venv && "
            f"{pip} --no-deps --force-reinstall {wheel} && {pip} {wheel}"
        )
        if any(step.kind is StepKind.PYTEST for step in plan.steps):
            # pip makes no program for a pytest that the machine has, and that one would not find the wheel.
            program = f'#!/bin/sh\nexec {directory}/venv/bin/python -P -m pytest "$@"\n'
            install += f" pytest && printf %s {shlex.quote(program)} >venv/bin/pytest && chmod +x venv/bin/pytest"
        machine.require(install, f"{plan.package.name} cannot be installed", _INSTALL_SECONDS)
        return f"PATH={directory}/venv/bin:$PATH; export PATH; "

    def _run_step(
        self,
        machine: LabgridMachine,
        directory: str,
        kernel: str,
        repetition: int,
        step: Step,
        while_waiting: Callable[[], None],
    ) -> None:
        while_waiting()
        name = step_folder(kernel, repetition, step.name)
        self._say(f"{kernel}: {step.name}" + (f" ({repetition})" if self._todo.plan.repetitions > 1 else ""))
        begun = time.monotonic()
        there = f"{directory}/{name}"
        state, status = StepState.FAILED, None
        try:
            job = self._start_job(machine, there, step)
            try:
                status = _status_of(job, begun + step.deadline_s, while_waiting)
            except _StoppedError:
                state = StepState.STOPPED
                machine.patient = False
                job.end()
                raise
            if status is None:
                job.end()
                machine.run("iommufd device restore --all")
            self._fetch(machine, there, name)
            state = StepState.TIMED_OUT if status is None else StepState.ENDED
        except (LostError, TakenAwayError):
            state = StepState.LOST
            raise
        finally:
            record = StepRecord(
                kernel, repetition, step.name, str(step.kind), state, status, round(time.monotonic() - begun, 3)
            )
            self._record = replace(self._record, steps=(*self._record.steps, record))
            self._note(self._record.state)

    def _start_job(self, machine: LabgridMachine, there: str, step: Step) -> MachineJob:
        """Start the command of a step in the new directory *there* of the machine."""
        machine.require(f"mkdir -p {there}", f"{there} cannot be created")
        for file in step.files:
            machine.put(file, there)
        job = MachineJob(machine, there)
        job.start(_COMMANDS[step.kind].format(options=self._options(step)))
        return job

    def _options(self, step: Step) -> str:
        bdf = bdf_of(self._record.tags)
        if bdf is None and any("{bdf}" in one for one in step.options):
            raise SetUpError(
                "the place has no tag 'bdf', which an option of the plan needs; "
                "'iommufd fleet tags --device BDF' makes one"
            )
        return shlex.join(one.replace("{bdf}", bdf or "") for one in step.options)

    def _fetch(self, machine: LabgridMachine, there: str, name: str) -> None:
        here = self._folder / name
        here.mkdir(exist_ok=True)
        present = machine.run(f"cd {there} && ls -d {' '.join(_FILES)} 2>/dev/null")[1].split()
        if not present:
            raise SetUpError(f"the step could not create a file in {there}")
        machine.get([f"{there}/{one}" for one in present if one in _FILES], here)


def _status_of(job: MachineJob, until: float, while_waiting: Callable[[], None]) -> int | None:
    """Wait for the end of *job*, and return its exit status; None if it still runs at the time *until*."""
    while (status := job.status()) is None and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        while_waiting()
    return status
