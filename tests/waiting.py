# SPDX-License-Identifier: MIT
"""How a test starts another process, and how it waits for what that does, whatever the machine and the caller are."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["DEFAULT_SIGNALS", "PATIENCE", "patience", "wait_until"]

PATIENCE = float(os.environ.get("IOMMUFD_TEST_PATIENCE", "5"))
"""The deadlines of all tests are so many times as long as they stand in them. Only a test that fails waits so long, and
on an emulated CPU beside a compiler a start of Python takes five times its usual time."""

DEFAULT_SIGNALS = ("env", "--default-signal")
"""Begins the command of a process that the test sends signals to. It would ignore those that the test ignores, which
are SIGHUP under nohup, and SIGINT in the background of a shell without jobs and under some runners."""

T = TypeVar("T")


def patience(seconds: float) -> float:
    """Return how long to wait for something that takes less than *seconds* unless it does not happen."""
    return seconds * PATIENCE


def wait_until(condition: Callable[[], T | None]) -> T:
    """Ask *condition* until its answer is true and return that; fail after a minute, times :data:`PATIENCE`."""
    deadline = time.monotonic() + patience(60)
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {patience(60):g} seconds in vain"
        time.sleep(0.05)
    return answer
