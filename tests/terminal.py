# SPDX-License-Identifier: MIT
"""A command on a terminal, for the commands that need one."""

import os
import pty
import re
import select
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.waiting import patience


class TerminalSession:
    """Starts a command on a terminal, reads its output and types, as a user does.

    The end of the block closes the terminal, which ends the command, and waits for it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._output = b""
        self._status: int | None = None
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            os.execv(command[0], command)

    def __enter__(self) -> Self:
        return self

    def read_until(self, pattern: str) -> None:
        """Read until the output has a match of *pattern*."""
        deadline = time.monotonic() + patience(60)
        while re.search(pattern.encode(), self._output) is None:
            assert time.monotonic() < deadline, self._output
            self._read(1)

    def write(self, text: str) -> None:
        """Type *text*."""
        os.write(self._terminal, text.encode())

    def write_until_end(self, text: str) -> str:
        """Type *text* until the command ends, and return the whole output.

        A command that begins to read single keys discards the keys before. So the text is typed again after a silence.
        """
        deadline = time.monotonic() + patience(100)
        self.write(text)
        try:
            while time.monotonic() < deadline:
                if not self._read(5):
                    self.write(text)
        except OSError:  # EIO: the command has closed the terminal
            return self._output.decode()
        raise AssertionError(f"the command does not end: {self._output!r}")

    def exit_status(self) -> int:
        """Wait for the end of the command, and return its exit status."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        return self._status

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._terminal)
        self.exit_status()

    def _read(self, seconds: float) -> bool:
        """Wait for output up to *seconds*, and return whether there was some."""
        if not select.select([self._terminal], [], [], seconds)[0]:
            return False
        self._output += os.read(self._terminal, 4096)
        return True
