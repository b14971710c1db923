# SPDX-License-Identifier: MIT
"""Interrupt a function at random moments, thousands of times: a timer sends a signal between two steps of Python."""

import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable

__all__ = ["signal_storm"]

# Seconds within which every signal arrives, even on a busy machine.
_LATEST = 20.0
# Longer than the work of any test. User-Mode Linux rounds the time of a timer up to 10 ms.
_LONGEST_DELAY = 200e-6


def signal_storm(work: Callable[[], object], check: Callable[[], object], *, seconds: float = 3.0) -> int:
    """Run *work* until a signal interrupts it at a random moment, then *check*, and so on; return the number.

    A forked process with one thread does this. Other processes can have more threads, for example those of numpy. If
    the main thread blocks a signal there, the kernel gives the signal to another thread.

    Args:
        work: function that may be interrupted at any moment, and can continue from the state that is left.
        check: function that runs after each interruption, without signals, and fails if *work* left something behind.
        seconds: duration.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork in a process with threads. This child starts no other program and takes no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        answer = b"died"
        try:
            os.close(reader)
            answer = str(_storm(work, check, seconds)).encode()
        except BaseException:
            answer = traceback.format_exc().encode()
        finally:
            with open(writer, "wb") as file:
                file.write(answer)
            os._exit(0)
    os.close(writer)
    with open(reader) as answers:
        told = answers.read()
    os.waitpid(child, 0)
    assert told.isdecimal(), told
    return int(told)


def _storm(work: Callable[[], object], check: Callable[[], object], seconds: float) -> int:
    dropped: list[object] = []
    # Python discards exceptions in __del__(), also those of a signal, which must keep no object alive.
    sys.unraisablehook = lambda unraisable: dropped.append(type(unraisable.exc_value))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    work()
    check()
    end = time.monotonic() + seconds
    interruptions = 0
    while time.monotonic() < end:
        dropped.clear()
        # Here, and not around the loop below: Python 3.13 can raise in its jump, outside of a `try` around it.
        try:
            _work_until_interrupted(work, dropped)
        except KeyboardInterrupt:
            pass
        else:
            assert dropped == [KeyboardInterrupt]
        check()
        interruptions += 1
    return interruptions


def _work_until_interrupted(work: Callable[[], object], dropped: list[object]) -> None:
    latest = time.monotonic() + _LATEST
    # The timer is never stopped: its signal could arrive after the stop, in the middle of the test.
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, _LONGEST_DELAY))
    while not dropped:
        work()
        assert time.monotonic() < latest, "the signal was swallowed"
