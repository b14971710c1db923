# SPDX-License-Identifier: MIT
"""A person at a terminal, for commands that need one."""

import os
import pty
import re
import select
import time
from collections.abc import Sequence

from tests.waiting import patience


class Person:
    """A simulated user who starts a command on a terminal, reads its output and types."""

    def __init__(self, command: Sequence[str]) -> None:
        self._seen = b""
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            os.execv(command[0], command)

    def read_until(self, pattern: bytes) -> None:
        """Read until the output holds *pattern*."""
        deadline = time.monotonic() + patience(60)
        while re.search(pattern, self._seen) is None:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._terminal], [], [], 1)[0]:
                self._seen += os.read(self._terminal, 4096)

    def type(self, text: bytes) -> None:
        """Type *text*."""
        os.write(self._terminal, text)

    def exit_status(self) -> int:
        """Wait for the end of the command, and return its exit status."""
        _, status = os.waitpid(self._child, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)
