# SPDX-License-Identifier: MIT
"""Helpers to start another process in a test and to wait for its effects, on any machine and under any caller."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["DEFAULT_SIGNALS", "NO_PLUGINS", "PATIENCE", "patience", "wait_until"]

PATIENCE = float(os.environ.get("IOMMUFD_TEST_PATIENCE", "5"))
"""Factor for the deadlines of all tests: Python starts slowly on an emulated CPU. Only a failing test waits so long."""

DEFAULT_SIGNALS = ("env", "--default-signal")
"""First words of the command of a process that gets signals from a test. Without them it would ignore the signals that
the test ignores: SIGHUP under nohup, and SIGINT in the background of a shell without jobs and under some runners."""

NO_PLUGINS = "-p no:hypothesispytest -p no:randomly -p no:labgrid"
"""Options of a pytest that does not read the settings of this project, which have them too. Two of these plugins take
seconds to import on an emulated CPU. The third changes the order of tests."""

T = TypeVar("T")


def patience(seconds: float) -> float:
    """Return the deadline for an event that normally takes less than *seconds*."""
    return seconds * PATIENCE


def wait_until(condition: Callable[[], T | None]) -> T:
    """Call *condition* until its result is true, and return that; fail after a minute times :data:`PATIENCE`."""
    deadline = time.monotonic() + patience(60)
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {patience(60):g} seconds in vain"
        time.sleep(0.05)
    return answer
