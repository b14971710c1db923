# SPDX-License-Identifier: MIT
"""How a test waits for what another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None]) -> T:
    """Ask *condition* until its answer is true and return that; fail after a minute, which a busy machine may need."""
    deadline = time.monotonic() + 60
    while not (answer := condition()):
        assert time.monotonic() < deadline, "waited a minute in vain"
        time.sleep(0.05)
    return answer
