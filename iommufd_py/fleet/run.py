# SPDX-License-Identifier: MIT
"""Run a plan with one worker for each machine. All workers run at once and give their machines back at the end."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from iommufd_py.base.errors import ToolError
from iommufd_py.fleet.plan import FleetPlan
from iommufd_py.fleet.record import RunnerRecord, RunnerState, load_record, machine_folder, waiting_name
from iommufd_py.fleet.worker import Assignment, work

Tell = Callable[[int, str, str], None]
"""Receives the number of a machine, its name and its current activity."""


def run_plan(plan: FleetPlan, output: Path, coordinator: str, tell: Tell) -> None:
    """Run *plan* and write the results to *output*, which must be empty or absent.

    An exception in this process, Ctrl-C for example, stops the workers. Each worker gives its machine back before it
    ends, and this function waits for all workers. The workers do the same if this process is killed.

    Raises:
        ToolError: *output* cannot be used.
    """
    wanted = [one for one in plan.wanted for _ in range(one.count)]
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise ToolError(f"{output} is not empty: name another directory for the results")
        for number, one in enumerate(wanted, 1):
            _expect(output, number, plan, f"the run ended before {one} was lent")
    except OSError as failure:
        raise ToolError(f"{output} cannot be created: {failure.strerror}") from None
    until = time.time() + plan.deadline_s
    # The fork server imports labgrid once. It has no threads and no gRPC connection, because neither survives a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    workers = []
    links: dict[Connection, int] = {}
    names: dict[int, str] = {}
    try:
        for number, one in enumerate(wanted, 1):
            here, there = context.Pipe()
            names[number] = waiting_name(number)
            assignment = Assignment(number, one, plan, output, coordinator, until)
            worker = context.Process(target=work, args=(assignment, there), name=names[number])
            worker.start()
            there.close()
            workers.append(worker)
            links[here] = number
        _listen(links, names, tell)
    finally:
        for link in links:
            # A worker that has ended does not read its link.
            with contextlib.suppress(OSError):
                link.send("stop")
        _listen(links, names, tell)
        for number, worker in enumerate(workers, 1):
            worker.join()
            if worker.exitcode:
                _note_broken(output, names[number], f"its worker ended with status {worker.exitcode}")
                tell(number, names[number], f"its worker ended with status {worker.exitcode}")


def _expect(output: Path, number: int, plan: FleetPlan, reason: str) -> None:
    """Write the record of a machine before its worker starts, so that no machine of the plan is ever missing."""
    name = waiting_name(number)
    folder = output / machine_folder(name)
    folder.mkdir()
    RunnerRecord(name, RunnerState.NOT_LENT, reason, baseline=plan.baseline, run=plan.name).save(folder)


def _note_broken(output: Path, name: str, reason: str) -> None:
    """Write the reason into the record of a machine whose worker died before it was lent."""
    folder = output / machine_folder(name)
    # A worker that dies later leaves the state "running", which counts as lost.
    if folder.exists() and (record := load_record(folder)).state is RunnerState.NOT_LENT:
        replace(record, state=RunnerState.FAILED, reason=reason).save(folder)


def _listen(links: dict[Connection, int], names: dict[int, str], tell: Tell) -> None:
    """Pass the messages of the workers to *tell* until all workers have ended."""
    while links:
        for link in wait(list(links)):
            assert isinstance(link, Connection)
            try:
                name, text = link.recv()
            except (EOFError, ConnectionResetError):
                del links[link]
                continue
            names[links[link]] = name
            tell(links[link], name, text)
