# SPDX-License-Identifier: MIT
"""Run a command in a warm guest."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from iommufd_py.host.kernel_log import scan_kernel_log
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.guest import guest_script, write_script
from iommufd_py.lab.process import locked, space_explained
from iommufd_py.lab.runs import RunResult, compile_package, guest_environment, memory_remark
from iommufd_py.lab.warm.guests import WarmGuest

if TYPE_CHECKING:
    from iommufd_py.lab.machine import Accel

_POLL_SECONDS = 0.02
# The last lines of the kernel log arrive after the command's end.
_LOG_SECONDS = 0.1
_CANCEL_SECONDS = 10


def run_in_guest(
    guest: WarmGuest,
    command: Sequence[str],
    *,
    timeout: float,
    waiting: Callable[[], None],
    stdout: BinaryIO | None = None,
    stderr: BinaryIO | None = None,
) -> RunResult:
    """Run *command* in *guest*, in this directory and this Python environment, and wait for its end.

    Args:
        guest: a guest that is ready.
        command: the command and its arguments.
        timeout: seconds after which the command is stopped. The guest continues.
        waiting: called when another command runs in the guest, before this one waits for it.
        stdout: receives the command's output as it is written; default: ``sys.stdout``.
        stderr: the same for its errors.

    Raises:
        LabError: the guest ended and its files are removed, or the disk is full.
    """
    with locked(guest.directory / "lock", waiting):
        if not guest.ready:
            # Another guest can have its name and its directory by now.
            raise LabError(f"the guest {guest.name} ended before it could run the command: run it again")
        try:
            return _Job(guest).run(command, timeout, (stdout or sys.stdout.buffer, stderr or sys.stderr.buffer))
        except FileNotFoundError:
            if guest.alive:
                raise
            raise LabError(f"the guest {guest.name} was ended (iommufd lab down) before the command ended") from None


class _Job:
    def __init__(self, guest: WarmGuest) -> None:
        self._guest = guest
        self._stem = guest.spool / f"{time.time_ns()}-{os.getpid()}"
        self._log_start = guest.kernel_log.stat().st_size

    def _file(self, suffix: str) -> Path:
        return self._stem.with_suffix(suffix)

    def run(self, command: Sequence[str], timeout: float, sinks: tuple[BinaryIO, BinaryIO]) -> RunResult:
        start = time.monotonic()
        compile_package()
        environment = guest_environment(self._guest.accel, self._guest.machine_name, self._guest.kernel_name)
        unfinished = self._file(".unfinished")
        try:
            with space_explained(self._guest.spool):
                write_script(unfinished, guest_script(command, cwd=Path.cwd(), environment=environment))
            unfinished.rename(self._file(".job"))
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        try:
            try:
                timed_out = not self._wait(timeout, sinks)
            finally:
                if not self._file(".status").exists():
                    self._cancel()
            return self._result(time.monotonic() - start, timed_out)
        finally:
            for suffix in (".job", ".out", ".err", ".cancel", ".status"):
                self._file(suffix).unlink(missing_ok=True)

    def _wait(self, timeout: float, sinks: tuple[BinaryIO, BinaryIO]) -> bool:
        """Copy the output until the command or the guest ends; return whether that was before the timeout."""
        deadline = time.monotonic() + timeout
        copies = [_Copy(self._file(suffix), sink) for suffix, sink in zip((".out", ".err"), sinks, strict=True)]
        while True:
            # Read the state before the copy, so that the copy includes all output written up to that state.
            ended = self._file(".status").exists() or not self._guest.alive
            for copy in copies:
                copy.go_on()
            if ended or time.monotonic() > deadline:
                return ended
            time.sleep(_POLL_SECONDS)

    def _cancel(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # The guest was ended, and its files are removed.
            self._file(".cancel").touch()
        deadline = time.monotonic() + _CANCEL_SECONDS
        while self._guest.alive and not self._file(".status").exists() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _result(self, seconds: float, timed_out: bool) -> RunResult:
        time.sleep(_LOG_SECONDS)
        with self._guest.kernel_log.open("rb") as log:
            log.seek(self._log_start)
            said = log.read().decode(errors="replace")
        status = self._file(".status")
        code = int(status.read_text(encoding="ascii")) if status.exists() and not timed_out else None
        return RunResult(
            status=code,
            accel=cast("Accel | Literal['uml']", self._guest.accel),
            seconds=seconds,
            timed_out=timed_out,
            failure=None,
            splats=scan_kernel_log(said),
            kernel_log=self._guest.kernel_log,
            remark=memory_remark(said),
        )


class _Copy:
    """Copy a growing file to a stream."""

    def __init__(self, file: Path, sink: BinaryIO) -> None:
        self._file = file
        self._sink = sink
        self._done = 0

    def go_on(self) -> None:
        try:
            with self._file.open("rb") as source:
                source.seek(self._done)
                while data := source.read(1 << 16):
                    self._sink.write(data)
                    self._done += len(data)
            self._sink.flush()
        except FileNotFoundError:
            pass  # The agent has not started the command yet.
