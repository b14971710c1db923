# SPDX-License-Identifier: MIT
"""Work in forked processes, which share an iommufd but not the memory."""

import os
import traceback
from collections.abc import Callable

__all__ = ["fork", "in_child", "wait"]


def fork(function: Callable[[], None]) -> int:
    """Start *function* in a forked process and return its id."""
    child = os.fork()
    if child:
        return child
    # Never return into pytest: its teardown belongs to the parent.
    try:
        function()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def wait(child: int) -> None:
    """Wait for a forked process, and fail if it failed."""
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def in_child(function: Callable[[], None]) -> None:
    """Run *function* in a forked process, to the end."""
    wait(fork(function))
