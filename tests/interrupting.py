# SPDX-License-Identifier: MIT
"""Ctrl-C at every moment that counts: in the system calls of some work, one after the other."""

import os
import signal
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from iommufd_py.objects.ioctl_trace import ioctl_trace

__all__ = ["interrupt_everywhere"]


def interrupt_everywhere(work: Callable[[], object], after: Callable[[], object]) -> int:
    """Do *work* with a SIGINT in its first ioctl(), open() or close(), then in its second, until it gets through.

    The signal comes in the call, so Python raises when that has done what it does. Work must end by that and nothing
    else; *after* looks at what is left each time. Return in how many calls it was interrupted.
    """
    interrupted = 0
    while not _gets_through(work, interrupted + 1):
        after()
        interrupted += 1
    after()
    return interrupted


def _gets_through(work: Callable[[], object], number: int) -> bool:
    left = number

    def tick(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGINT)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: object, **options: object) -> Any:
            result = call(*arguments, **options)
            tick()
            return result

        return wrapper

    # Whoever started the tests may have them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with patch("os.open", counted(os.open)), patch("os.close", counted(os.close)), ioctl_trace(tick):
            work()
    except KeyboardInterrupt:
        return False
    finally:
        signal.signal(signal.SIGINT, before)
    assert left > 0, "the signal was swallowed"
    return True
