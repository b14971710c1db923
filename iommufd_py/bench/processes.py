# SPDX-License-Identifier: MIT
"""The measuring processes. Each one allocates its own memory, and ends with the process that started it."""

import ctypes
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from uuid import UUID

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.errors import ToolError
from iommufd_py.base.signals import ENDING, held_signals
from iommufd_py.bench.turns import Turn
from iommufd_py.results.model import Point, Row

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of a benchmark, and the effort for each.

    Attributes:
        device: PCI address of a device bound to vfio-pci, or ``mock``.
        points: one for each row.
        coherency: required coherency of the domains.
        iova: first IOVA of the mappings; None takes an aligned place that is allowed.
        processes: number of processes, each of which measures all rows with its own memory.
        values: samples for each row in each process; None takes as many as fit into *row_seconds*, 5 to 2000.
        row_seconds: time for a row in each process, without its warm-up.
        name: name of the result in tables; empty for none.
        retry: whether to measure a row again if the machine was busy.
        vf_token: the token of a virtual function whose physical function is on vfio-pci.
        turn: the place among guests that measure in turns; None measures without turns.
    """

    device: str
    points: tuple[Point, ...]
    coherency: Coherency = Coherency.ANY
    iova: int | None = None
    processes: int = 5
    values: int | None = None
    row_seconds: float = 0.25
    name: str = ""
    retry: bool = True
    vf_token: UUID | None = None
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class PartOfRow:
    """A message of a measuring process: the completed share of the samples of a row."""

    point: Point
    part: float


Message = Row | PartOfRow
Measure = Callable[[Plan, Point, int, Callable[[PartOfRow], None]], Row]
"""A function that measures one point. The third argument is the number of the process, from 0; the last one receives
messages."""


def messages(plan: Plan, measure: Measure) -> Iterator[Message]:
    """Iterate over every row of every measuring process, one process after the other, and parts of rows between them.

    Args:
        plan: the rows, and the number of processes.
        measure: a function of a module, which a new program can import.

    Raises:
        ToolError: a process ended too early, or a row cannot be measured.
        IommufdError: an ioctl of a row failed.
    """
    # A lock that another thread of this process holds, such as one of numpy's, would stay locked in a fork.
    threads = len(os.listdir("/proc/self/task"))
    return _from_forks(plan, measure) if threads == 1 else _from_program(plan, measure)


def _from_forks(plan: Plan, measure: Measure) -> Iterator[Message]:
    for process in range(plan.processes):
        yield from _from_one_fork(plan, measure, process)


def _from_one_fork(plan: Plan, measure: Measure, process: int) -> Iterator[Message]:
    # Fork without exec: an emulated CPU takes seconds to import this package.
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_measure_rows, args=(plan, measure, process, theirs, os.getpid()))
    try:
        # The child inherits the blocked signals: this process handles them, and ends the child.
        with held_signals():
            child.start()
        theirs.close()
        rows = 0
        while rows < len(plan.points):
            try:
                answer = ours.recv()
            except EOFError:
                child.join()
                raise ToolError(
                    f"the measuring process ended too early (status {child.exitcode}): see the kernel log; one cause "
                    "is a lack of memory"
                ) from None
            if isinstance(answer, Exception):
                raise answer
            rows += isinstance(answer, Row)
            yield answer
    finally:
        ours.close()
        if child.pid is not None:
            # Always kill it: the kernel then releases everything that the process holds.
            child.kill()
            child.join()
            child.close()


def _ends_with(parent: int) -> bool:
    """Ask the kernel to kill this process when *parent* dies, even by SIGKILL. Return whether *parent* still lives."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def _measure_rows(plan: Plan, measure: Measure, process: int, answers: Connection, parent: int) -> None:
    # The parent process handles signals, and ends this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    # If the parent process is killed, this process must also end. Only then does the device become free.
    if not _ends_with(parent):
        return
    try:
        for point in plan.points:
            answers.send(measure(plan, point, process, answers.send))
    except (ToolError, OSError) as failure:
        answers.send(failure)


# --- a program for a caller with threads ----------------------------------------------------------------------------


def _from_program(plan: Plan, measure: Measure) -> Iterator[Message]:
    """Yield the messages of :func:`_from_forks`, from a program with one thread that forks the measuring processes.

    The program starts once for all processes: the imports take 0.4 s of a real CPU, and seconds of an emulated one.
    multiprocessing's fork server would stay until the caller ends, with a pipe that the pytest plugin reports as left
    open.
    """
    # The program keeps the blocked signals: this process handles them, and ends the program.
    script = f"from {__name__} import run_forks; run_forks({os.getpid()})"
    with held_signals():
        program = subprocess.Popen([sys.executable, "-P", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        with program.stdin as question:
            pickle.dump((plan, measure), question)
        rows = 0
        while rows < plan.processes * len(plan.points):
            answer = pickle.load(program.stdout)
            if isinstance(answer, Exception):
                raise answer
            rows += isinstance(answer, Row)
            yield answer
    except (EOFError, BrokenPipeError):
        raise ToolError(
            f"the program that starts the measuring processes ended too early (status {program.wait()}): see above, "
            "and the kernel log"
        ) from None
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


def run_forks(parent: int) -> None:
    """Run as the program of :func:`_from_program`: read a plan from standard input, write messages to standard
    output."""
    plan, measure = pickle.load(sys.stdin.buffer)
    answers = sys.stdout.buffer
    if not _ends_with(parent):
        return
    try:
        for message in _from_forks(plan, measure):
            pickle.dump(message, answers)
            answers.flush()
    except (ToolError, OSError) as failure:
        pickle.dump(failure, answers)
