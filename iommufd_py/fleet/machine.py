# SPDX-License-Identifier: MIT
"""Run commands and long jobs on one lent machine, and copy files, through labgrid's SSH driver.

A long command does not need its connection: the machine runs it detached and keeps its status in a file. A dropped
connection costs only the time to connect again.
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
from labgrid.binding import StateError
from labgrid.driver import SerialDriver, SSHDriver
from labgrid.driver.exception import ExecutionError
from labgrid.exceptions import NoDriverFoundError, NoSupplierFoundError
from labgrid.protocol import PowerProtocol
from labgrid.strategy import Strategy
from serial import SerialException

from iommufd_py.base.errors import ToolError
from iommufd_py.base.shown import error_text

_COMMAND_SECONDS = 30
_COPY_SECONDS = 300
_CONTROL_SECONDS = 10
_AGAIN_SECONDS = 1.0
_READ_SECONDS = 0.5
# Exit status by which ssh reports its own failure.
_SSH_FAILED = 255


class LostError(Exception):
    """The machine does not answer."""


class SetUpError(ToolError):
    """The machine answers, but its set-up fails."""


class LabgridMachine:
    """A machine behind a labgrid target. Only one thread may use it at a time.

    Attributes:
        prefix: shell text that is put before each command.
        patient: whether to wait for a machine that does not answer.
    """

    def __init__(self, target: Target, lost_after: float, waiting: Callable[[], None]) -> None:
        """Take the drivers of *target* without connecting.

        Args:
            target: labgrid's target of the place.
            lost_after: seconds without an answer after which the machine counts as lost.
            waiting: called while the machine does not answer; it raises an exception to stop the wait.
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
                    "the place has no NetworkService, through which commands run; 'iommufd fleet tags --exporter' "
                    "shows one"
                ) from None
        # labgrid tries for this time; connect() below repeats that until the machine counts as lost.
        self._ssh.connection_timeout = float(_CONTROL_SECONDS)

    def connect(self) -> None:
        """Connect to the machine. Wait if it still boots.

        Raises:
            LostError: the machine does not answer in time.
        """
        deadline = time.monotonic() + self._lost_after
        while True:
            try:
                self._target.activate(self._ssh)
                return
            except Exception as failure:  # labgrid raises a bare Exception here
                if time.monotonic() > deadline or not self.patient:
                    raise self._lost("no answer by ssh") from failure
            self._wait()
            time.sleep(_AGAIN_SECONDS)

    def _lost(self, observation: str) -> LostError:
        return LostError(
            f"{observation} {f'for {self._lost_after:.0f} s' if self.patient else 'after the run was stopped'}"
        )

    def _wait(self) -> None:
        # *waiting* may raise because the run ends, but the last commands must still run.
        if self.patient:
            self._waiting()

    def disconnect(self) -> None:
        """End the connection, even if the machine hangs."""
        control = getattr(self._ssh, "control", None)
        if control:
            # Without this command labgrid waits a minute for the answer to its keepalive command.
            command = ["ssh", "-F", "none", "-o", f"ControlPath={control}", "-O", "exit", "machine"]
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, capture_output=True, timeout=_CONTROL_SECONDS, check=False)
        if self._ssh in self._target.drivers and self._ssh.state.name == "active":
            self._target.deactivate(self._ssh)

    def run(self, script: str, timeout: float = _COMMAND_SECONDS) -> tuple[int, str, str]:
        """Run a shell script and return its exit status, output and errors. Connect again if the connection drops.

        The script can then run twice, so a second run must do no harm.

        Raises:
            LostError: the machine does not answer.
        """
        deadline = time.monotonic() + self._lost_after
        while True:
            try:
                out, errors, status = self._ssh.run(self.prefix + script, timeout=timeout, decodeerrors="replace")
                if status != _SSH_FAILED:
                    return status, "\n".join(out), "\n".join(errors)
            except StateError:
                # The last attempt to connect failed, and its caller still cleans up.
                raise LostError("the connection to the machine is lost") from None
            except (ExecutionError, subprocess.TimeoutExpired):
                pass
            # A hanging machine may still accept connections.
            self._again(deadline)

    def _again(self, deadline: float) -> None:
        """Connect again after a failure. Give up after *deadline*."""
        self._wait()
        if time.monotonic() > deadline or not self.patient:
            raise self._lost("no answer")
        self.disconnect()
        self.connect()

    def require(self, script: str, purpose: str, timeout: float = _COMMAND_SECONDS) -> str:
        """Run a script that must succeed, and return its output.

        Raises:
            SetUpError: the script failed. The text has *purpose* and the last line of the errors.
        """
        status, out, errors = self.run(script, timeout)
        if status:
            last = ([line for line in errors.splitlines() if line.strip()] or [f"exit status {status}"])[-1]
            raise SetUpError(f"{purpose}: {last.strip()}")
        return out

    def put(self, source: Path, directory: str) -> None:
        """Copy a file or a folder into *directory* of the machine.

        Raises:
            SetUpError: scp failed. The text has scp's reason.
        """
        self._copy([str(source)], f"{self._where}:{directory}/", f"{source.name} cannot be put on the machine")

    def get(self, files: list[str], directory: Path) -> None:
        """Copy *files* of the machine into *directory*.

        Raises:
            SetUpError: a file cannot be read, or the directory cannot be written.
        """
        self._copy([f"{self._where}:{one}" for one in files], str(directory), "the results cannot be fetched")

    @property
    def _where(self) -> str:
        service = self._ssh.networkservice
        return f"{self._ssh.username or service.username}@{service.address}"

    def _copy(self, sources: list[str], destination: str, purpose: str) -> None:
        # labgrid's put() is not used: it shows scp's meter on our output and drops the reason of a failure.
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
        """Let the machine's Strategy boot *kernel*, and connect again.

        Raises:
            SetUpError: the target has no Strategy, or the Strategy fails.
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
        except Exception as failure:  # A Strategy is the lab's own code and raises any exception.
            raise SetUpError(f"the Strategy cannot boot {kernel!r}: {error_text(failure)}") from failure
        # The Strategy may have connected already.
        self.disconnect()
        self.connect()

    def cycle_power(self) -> bool:
        """Cut the power for a moment if the target has a power driver. Return whether the target has a power driver."""
        try:
            power = self._target.get_driver(PowerProtocol)
        except NoDriverFoundError:
            return False
        power.cycle()
        return True

    @contextlib.contextmanager
    def console_to(self, path: Path) -> Any:
        """Write the output of the serial console to *path* during the block, if the place has a NetworkSerialPort."""
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
        # Read once more after the end: the last lines matter most.
        last = False
        while not last:
            last = ended.is_set()
            try:
                # The driver's read() is not used: labgrid's record of steps is not safe with threads.
                while text := console.serial.read(max(1, console.serial.in_waiting)):
                    file.write(text)
            except SerialException:
                return  # The other end has closed the connection.


class MachineJob:
    """A long command on the machine. It runs in a directory of its own, which must exist."""

    def __init__(self, machine: LabgridMachine, directory: str) -> None:
        self._machine = machine
        self._directory = directory

    def start(self, command: str) -> None:
        """Start the command. A second start, after a dropped connection, does nothing."""
        # The command gets a session of its own before the start returns: sshd may kill the process group of a
        # connection that ends.
        whole = f"echo $$ >pid; {{ {command}\n}}; echo $? >status.new; mv status.new status"
        self._machine.require(
            f"cd {self._directory} || exit 1; [ -d started ] && exit 0; mkdir started || exit 1; "
            f"setsid sh -c {shlex.quote(whole)} </dev/null >/dev/null 2>&1 & "
            "tries=0; while [ ! -s pid ] && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done; [ -s pid ]",
            "the step cannot be started",
        )

    def status(self) -> int | None:
        """Return the exit status of the command; None while it runs.

        Raises:
            SetUpError: the command has ended, but the machine could not write its status.
        """
        missing, text, _ = self._machine.run(f"cat {self._directory}/status 2>/dev/null")
        if not missing and not text.strip():
            # Try again, because the message gives the reason.
            purpose = "the exit status of the step cannot be written"
            self._machine.require(f"echo | tee {self._directory}/status.new >/dev/null", purpose)
            raise SetUpError("the exit status of the step could not be written when the step ended")
        return int(text) if re.fullmatch(r"[0-9]+", text.strip()) else None

    def end(self, grace: float = 10) -> None:
        """End the command: first with SIGTERM, on which it gives its devices back, then with SIGKILL."""
        group = f"-$(cat {self._directory}/pid)"
        for signal, wait in (("TERM", grace), ("KILL", 0.0)):
            self._machine.run(f"kill -s {signal} -- {group} 2>/dev/null || true")
            deadline = time.monotonic() + wait
            while time.monotonic() < deadline:
                if self._machine.run(f"kill -s 0 -- {group} 2>/dev/null")[0]:
                    return
                time.sleep(_AGAIN_SECONDS)
