# SPDX-License-Identifier: MIT
"""Send Ctrl-C in every system call of a function, one after the other."""

import os
import signal
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from iommufd_py.objects.ioctl_trace import ioctl_trace

__all__ = ["interrupt_everywhere"]


def interrupt_everywhere(work: Callable[[], object], after: Callable[[], object]) -> int:
    """Run *work* with a SIGINT in its first ioctl(), open() or close(), then in its second, and so on to its end.

    The signal arrives in the call, so Python raises after the call has done its work. *work* must end by this exception
    and no other; *after* then checks that nothing is left behind. Return the number of interrupted calls.
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

    # The caller of the tests may have set SIGINT to be ignored.
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
