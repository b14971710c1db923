# SPDX-License-Identifier: MIT
"""How a test waits for what another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], seconds: float = 60) -> T:
    """Ask *condition* until its answer is true and return that; fail after *seconds*, which a busy machine needs."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain"
        time.sleep(0.05)
    return answer
