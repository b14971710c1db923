# SPDX-License-Identifier: MIT
"""The keeper of a warm guest: a process that starts the guest, holds it, and ends it with its owner."""

import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iommufd_py.base.errors import ToolError
from iommufd_py.base.sysfs import attribute_text, process_fields, start_ticks
from iommufd_py.lab import paths
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import Machine, NativeMachine
from iommufd_py.lab.native import run_natively
from iommufd_py.lab.process import space_explained, space_note
from iommufd_py.lab.runs import RunResult, shared_directories
from iommufd_py.lab.vm import accelerators, run_in_vm
from iommufd_py.lab.warm import agent
from iommufd_py.lab.warm.guests import KEEPER_PROGRAM, WarmGuest, hold_directory, warm_guests

_FOREVER = float(threading.TIMEOUT_MAX)
_BOOT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Order:
    """Description of the guest to start. The keeper reads it from its standard input.

    Attributes:
        kernel: image of the kernel.
        kernel_name: the name of the kernel for readers.
        machine: the machine.
        shares: directories that the guest may write to.
        owner: process whose end also ends the guest; 0 for a guest that stays.
    """

    kernel: Path
    kernel_name: str
    machine: Machine | NativeMachine
    shares: tuple[Path, ...]
    owner: int


def start_guest(
    kernel: Path, machine: Machine | NativeMachine, *, kernel_name: str, rw: Sequence[Path], stay: bool
) -> WarmGuest:
    """Boot a warm guest, and return when it accepts commands.

    The guest ends with the shell or script that started this process, or on :meth:`WarmGuest.end`.

    Args:
        kernel: image of the kernel.
        machine: the machine.
        kernel_name: the name of the kernel for readers.
        rw: directories to share read-write, besides the current one.
        stay: keep the guest until :meth:`WarmGuest.end`.

    Raises:
        LabError: the guest does not start.
    """
    shares = shared_directories([Path.cwd(), *rw])
    parent = paths.guests_dir()
    paths.make(parent)
    parent.chmod(0o700)
    # A kernel that is given by its path has that for its name.
    directories = (parent / f"{Path(kernel_name).name}-{number}" for number in range(1, 1000))
    directory, held = next((one, held) for one in directories if (held := _claim(one)) is not None)
    try:
        (directory / "spool").mkdir()
        order = Order(kernel, kernel_name, machine, tuple(shares), 0 if stay else find_owner())
        keeper = _start_keeper(directory, held)
        assert keeper.stdin is not None
        with keeper.stdin as stdin:
            pickle.dump(order, stdin)
        try:
            return _await_ready(directory, keeper)
        except BaseException:
            keeper.terminate()
            keeper.wait()
            shutil.rmtree(directory, ignore_errors=True)
            raise
    finally:
        os.close(held)


def find_owner() -> int:
    """Return the shell or script that started this process.

    It is not always the parent. ``name=$(iommufd lab up 2>/dev/null)`` starts a subshell, and sudo is a process too.
    Both end with this process, and the guest would end with them.
    """
    owner = os.getppid()
    while (parent := _parent(owner)) and (_is_fork(owner, parent) or _text(owner, "comm") == "sudo"):
        owner = parent
    return owner


def _text(pid: int, file: str) -> str:
    return attribute_text(Path("/proc", str(pid), file))


def _parent(pid: int) -> int:
    fields = process_fields(pid)
    return int(fields[1]) if fields else 0


def _is_fork(pid: int, parent: int) -> bool:
    """Return whether *pid* still runs the program of *parent*, as a subshell does.

    The arguments of both are then at the same address.
    """
    places = [process_fields(one)[45:46] for one in (pid, parent)]
    return places[0] == places[1] not in ([], ["0"]) and _text(pid, "cmdline") == _text(parent, "cmdline")


def _claim(directory: Path) -> int | None:
    """Create *directory*, and return the descriptor that holds it; None if another guest uses it."""
    warm_guests()  # this removes the files of dead guests
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return None
    return hold_directory(directory)


def _start_keeper(directory: Path, held: int) -> "subprocess.Popen[bytes]":
    """Start the keeper of the guest in *directory*. It waits for its order, and inherits the descriptor *held*."""
    with (directory / "keeper.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", KEEPER_PROGRAM, str(directory)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[held],
        )


def _await_ready(directory: Path, keeper: "subprocess.Popen[bytes]") -> WarmGuest:
    deadline = time.monotonic() + _BOOT_SECONDS
    while time.monotonic() < deadline:
        ended = keeper.poll() is not None
        if (directory / "spool" / "ready").exists() and not ended:
            guest = WarmGuest.load(directory)
            if guest is None:
                raise LabError(f"the record of the guest in {directory} was damaged since it started")
            return guest
        if ended:
            said = (directory / "keeper.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise LabError(
                f"the guest did not start: {said[-1] if said else 'it printed nothing'}{space_note(directory)}"
            )
        time.sleep(0.05)
    raise LabError(f"the guest did not start within {_BOOT_SECONDS} s; its kernel log is {directory / 'kernel.log'}")


def keep(directory: Path, order: Order) -> str | None:
    """Run the guest of *order* to its end. Return the reason if the guest ended by itself."""
    machine = order.machine
    guest = WarmGuest(
        name=directory.name,
        kernel=str(order.kernel),
        kernel_name=order.kernel_name,
        machine=repr(machine),
        machine_name=str(machine),
        accel="uml" if isinstance(machine, NativeMachine) else accelerators(machine)[0],
        shares=tuple(map(str, order.shares)),
        python=sys.prefix,
        keeper=os.getpid(),
        keeper_start=start_ticks(os.getpid()) or 0,
        owner=order.owner,
    )
    with space_explained(directory):
        guest.save()
    if order.owner:
        _end_with(order.owner)
    command = [sys.executable, "-IS", agent.__file__, str(guest.spool)]
    result = _run(
        machine,
        order.kernel,
        command,
        kernel_name=order.kernel_name,
        rw=[*order.shares, guest.spool],
        timeout=_FOREVER,
        directory=directory,
    )
    return result.problem


def _run(machine: Machine | NativeMachine, kernel: Path, command: Sequence[str], **options: Any) -> RunResult:
    if isinstance(machine, NativeMachine):
        return run_natively(kernel, command, machine, **options)
    return run_in_vm(kernel, command, machine, **options)


def _end_with(owner: int) -> None:
    """End this process when *owner* ends."""
    descriptor = os.pidfd_open(owner)

    def wait_for_owner() -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_owner, daemon=True).start()


def _exit_on_signal(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """Run the guest that standard input describes. The first argument is the directory of its files."""
    signal.signal(signal.SIGTERM, _exit_on_signal)
    directory = Path(sys.argv[1])
    try:
        problem = keep(directory, pickle.load(sys.stdin.buffer))
    except ToolError as failure:
        problem = str(failure)
    if problem:
        print(problem, flush=True)
    sys.exit(1)
