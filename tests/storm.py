# SPDX-License-Identifier: MIT
"""Ctrl-C at any moment: a timer interrupts some work between two steps of Python, thousands of times."""

import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable

__all__ = ["storm"]

# Seconds in which every signal arrives, whatever else the machine does.
_LATEST = 20.0
# Longer than the work of any test. User-Mode Linux rounds the time of a timer up to 10 ms.
_LONGEST_DELAY = 200e-6


def storm(work: Callable[[], object], check: Callable[[], object], *, seconds: float = 3.0) -> int:
    """Repeat *work* until a signal interrupts it at a random moment, then *check*, and so on; return how often.

    A forked process does it, which has one thread: the kernel gives a signal that the main thread holds to another one,
    such as those of numpy.

    Args:
        work: may be interrupted at any moment, and goes on from whatever state that leaves.
        check: runs after each interruption, without signals; it fails for what *work* left behind.
        seconds: how long to go on.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads. This one starts no other program and takes no lock.
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
    # Python discards an exception in __del__(), also that of a signal. No object may stay alive by it.
    sys.unraisablehook = lambda unraisable: dropped.append(type(unraisable.exc_value))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    work()
    check()
    end = time.monotonic() + seconds
    interruptions = 0
    while time.monotonic() < end:
        _interrupt(work, dropped)
        check()
        interruptions += 1
    return interruptions


def _interrupt(work: Callable[[], object], dropped: list[object]) -> None:
    dropped.clear()
    latest = time.monotonic() + _LATEST
    try:
        # The timer is never stopped: its signal could still arrive after that, in the middle of the test.
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, _LONGEST_DELAY))
        while not dropped:
            work()
            assert time.monotonic() < latest, "the signal was swallowed"
    except KeyboardInterrupt:
        return
    assert dropped == [KeyboardInterrupt]
