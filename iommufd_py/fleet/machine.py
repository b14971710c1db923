# SPDX-License-Identifier: MIT
"""One machine that was lent: commands, files and long jobs on it, by labgrid's SSH driver.

A long command does not hang on its connection: the machine runs it detached and keeps its status in a file, so a
connection that drops costs nothing but the time until the next one.
"""

import contextlib
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labgrid import Target
from labgrid.driver import SerialDriver, SSHDriver
from labgrid.driver.exception import ExecutionError
from labgrid.exceptions import NoDriverFoundError, NoSupplierFoundError
from labgrid.protocol import PowerProtocol
from labgrid.strategy import Strategy
from serial import SerialException

from iommufd_py.base.errors import ToolError

_COMMAND_SECONDS = 30
_COPY_SECONDS = 300
_CONTROL_SECONDS = 10
_AGAIN_SECONDS = 1.0
_READ_SECONDS = 0.5
# Exit status of ssh itself.
_SSH_FAILED = 255


class LostError(Exception):
    """The machine does not answer."""


class SetUpError(ToolError):
    """The machine answers, and cannot be made ready."""


class Machine:
    """A machine behind a labgrid target, for one thread at a time.

    Attributes:
        prefix: what goes before each command.
        patient: whether a machine that does not answer is waited for.
    """

    def __init__(self, target: Target, lost_after: float, waiting: Callable[[], None]) -> None:
        """Take the drivers of *target*; nothing is connected yet.

        Args:
            target: of the place.
            lost_after: seconds without an answer after which the machine counts as lost.
            waiting: called while the machine does not answer; may raise to give up.
        """
        self._target = target
        self._lost_after = lost_after
        self._waiting = waiting
        self.prefix = ""
        self.patient = True
        try:
            self._ssh: Any = target.get_driver(SSHDriver, activate=False)
        except NoDriverFoundError:
            try:
                self._ssh = SSHDriver(target, name=None)
            except NoSupplierFoundError:
                raise SetUpError(
                    "the place has no NetworkService: without it there is no way to run a command; see 'iommufd fleet "
                    "tags --exporter'"
                ) from None
        # One attempt at a time: the waiting between them is ours.
        self._ssh.connection_timeout = float(_CONTROL_SECONDS)

    def connect(self) -> None:
        """Connect, and wait for a machine that boots.

        Raises:
            LostError: it does not answer in time.
        """
        deadline = time.monotonic() + self._lost_after
        while True:
            try:
                self._target.activate(self._ssh)
                return
            except Exception as failure:  # labgrid raises a bare Exception here
                if time.monotonic() > deadline or not self.patient:
                    raise LostError(f"no answer by ssh for {self._lost_after:.0f} s") from failure
            self._wait()
            time.sleep(_AGAIN_SECONDS)

    def _wait(self) -> None:
        # A run that ends still has its last commands to give.
        if self.patient:
            self._waiting()

    def disconnect(self) -> None:
        """End the connection, also one to a machine that hangs."""
        control = getattr(self._ssh, "control", None)
        if control:
            # Without it labgrid waits a minute for the answer of its keepalive command.
            command = ["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", "machine"]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, capture_output=True, timeout=_CONTROL_SECONDS, check=False)
        if self._ssh in self._target.drivers and self._ssh.state.name == "active":
            self._target.deactivate(self._ssh)

    def run(self, script: str, timeout: float = _COMMAND_SECONDS) -> tuple[int, str, str]:
        """Run a shell script; return its exit status, output and errors. A dropped connection is made again.

        The script may run twice then, so it must be one that can.

        Raises:
            LostError: the machine does not answer.
        """
        deadline = time.monotonic() + self._lost_after
        while True:
            try:
                out, errors, status = self._ssh.run(self.prefix + script, timeout=timeout, decodeerrors="replace")
                if status != _SSH_FAILED:
                    return status, "\n".join(out), "\n".join(errors)
            except (ExecutionError, subprocess.TimeoutExpired):
                pass
            # A machine that hangs may still let one in.
            self._again(deadline)

    def _again(self, deadline: float) -> None:
        """Connect again, for something that failed; give up after *deadline*."""
        self._wait()
        if time.monotonic() > deadline or not self.patient:
            raise LostError(f"no answer for {self._lost_after:.0f} s")
        self.disconnect()
        self.connect()

    def require(self, script: str, purpose: str, timeout: float = _COMMAND_SECONDS) -> str:
        """Run a script that must succeed, and return its output.

        Raises:
            SetUpError: with *purpose* and the last line of the errors.
        """
        status, out, errors = self.run(script, timeout)
        if status:
            last = ([line for line in errors.splitlines() if line.strip()] or [f"exit status {status}"])[-1]
            raise SetUpError(f"{purpose}: {last.strip()}")
        return out

    def put(self, source: Path, directory: str) -> None:
        """Copy a file or a folder into *directory* of the machine.

        Raises:
            SetUpError: it cannot be written, with scp's words.
        """
        self._copy([str(source)], f"{self._where}:{directory}/", f"{source.name} cannot be put on the machine")

    def get(self, files: list[str], directory: Path) -> None:
        """Copy *files* of the machine into *directory*.

        Raises:
            SetUpError: one cannot be read, or the directory cannot be written.
        """
        self._copy([f"{self._where}:{one}" for one in files], str(directory), "the results cannot be fetched")

    @property
    def _where(self) -> str:
        service = self._ssh.networkservice
        return f"{self._ssh.username or service.username}@{service.address}"

    def _copy(self, sources: list[str], destination: str, purpose: str) -> None:
        # Not labgrid's put(): it gives scp our output for its meter, and drops the reason of a failure.
        deadline = time.monotonic() + self._lost_after + _COPY_SECONDS
        while True:
            port = str(self._ssh.networkservice.port)
            command = ["scp", "-q", "-r", *self._ssh.ssh_prefix, "-P", port, *sources, destination]
            try:
                done = subprocess.run(command, capture_output=True, timeout=_COPY_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                done = None
            if done is not None and done.returncode == 0:
                return
            if done is not None and self._ssh.run("true", timeout=_COMMAND_SECONDS)[2] == 0:
                reason = done.stderr.decode(errors="replace").strip().splitlines()
                raise SetUpError(f"{purpose}: {reason[-1] if reason else f'scp: exit status {done.returncode}'}")
            self._again(deadline)

    def boot(self, kernel: str) -> None:
        """Make the machine's Strategy boot *kernel*, and connect again.

        Raises:
            SetUpError: there is no Strategy, or it fails.
            LostError: the machine does not answer afterwards.
        """
        self.disconnect()
        try:
            strategy = self._target.get_driver(Strategy, activate=False)
        except NoDriverFoundError:
            raise SetUpError(
                f"the labgrid target {self._target.name!r} has no Strategy that boots {kernel!r}"
            ) from None
        try:
            strategy.transition(kernel)
        except Exception as failure:  # whatever the lab's own code raises
            raise SetUpError(f"the Strategy cannot boot {kernel!r}: {failure}") from failure
        # A Strategy may have connected already.
        self.disconnect()
        self.connect()

    def cycle_power(self) -> bool:
        """Cut the power for a moment, if the target has a driver for it; tell whether it has."""
        try:
            power = self._target.get_driver(PowerProtocol)
        except NoDriverFoundError:
            return False
        power.cycle()
        return True

    @contextlib.contextmanager
    def console_to(self, path: Path) -> Any:
        """Write what the serial console says to *path* during the block, if the place has a NetworkSerialPort."""
        try:
            console: Any = SerialDriver(self._target, name=None)
            self._target.activate(console)
            console.serial.timeout = _READ_SECONDS
        except (NoSupplierFoundError, SerialException):
            yield
            return
        ended = threading.Event()
        reader = threading.Thread(target=_record, args=(console, path, ended), daemon=True)
        reader.start()
        try:
            yield
        finally:
            ended.set()
            reader.join()
            self._target.deactivate(console)


def _record(console: Any, path: Path, ended: threading.Event) -> None:
    with path.open("wb", buffering=0) as file:
        # Once more after the end: the last words are the ones that matter.
        last = False
        while not last:
            last = ended.is_set()
            try:
                # Not the driver's read(): labgrid's record of steps is not made for threads.
                while text := console.serial.read(max(1, console.serial.in_waiting)):
                    file.write(text)
            except SerialException:
                return  # the other end has closed


class Job:
    """A long command on the machine, in a directory of its own there, which exists."""

    def __init__(self, machine: Machine, directory: str) -> None:
        self._machine = machine
        self._directory = directory

    def start(self, command: str) -> None:
        """Start it. A start that is repeated after a dropped connection does nothing."""
        # It has a session of its own before the start returns: the end of a connection may kill what is in its group.
        whole = f"echo $$ >pid; {{ {command}\n}}; echo $? >status.new; mv status.new status"
        self._machine.require(
            f"cd {self._directory} || exit 1; [ -d started ] && exit 0; mkdir started || exit 1; "
            f"setsid sh -c {shlex.quote(whole)} </dev/null >/dev/null 2>&1 & "
            "tries=0; while [ ! -s pid ] && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done; [ -s pid ]",
            "the step cannot be started",
        )

    def status(self) -> int | None:
        """Return its exit status, None while it runs."""
        text = self._machine.run(f"cat {self._directory}/status 2>/dev/null")[1].strip()
        return int(text) if re.fullmatch(r"[0-9]+", text) else None

    def end(self, grace: float = 10) -> None:
        """End it: with a signal on which it gives its devices back, then with one that it cannot ignore."""
        group = f"-$(cat {self._directory}/pid)"
        for signal, wait in (("TERM", grace), ("KILL", 0.0)):
            self._machine.run(f"kill -s {signal} -- {group} 2>/dev/null || true")
            deadline = time.monotonic() + wait
            while time.monotonic() < deadline:
                if self._machine.run(f"kill -s 0 -- {group} 2>/dev/null")[0]:
                    return
                time.sleep(_AGAIN_SECONDS)
