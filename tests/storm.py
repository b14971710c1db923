# SPDX-License-Identifier: MIT
"""Ctrl-C at any moment: a timer interrupts some work between two steps of Python, thousands of times."""

import os
import random
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["storm"]

# Seconds in which every signal arrives, whatever else the machine does.
_LATEST = 60.0


def storm(
    prepare: Callable[[], object], work: Callable[[], object], check: Callable[[], object], *, seconds: float = 3.0
) -> int:
    """Do *work* again and again, each time with a signal at a random moment of it; return how often the signal hit.

    A forked process does it, which has one thread: the kernel gives a signal that the main thread holds to another one,
    such as those of numpy.

    Args:
        prepare: runs before each try, without signals.
        work: may be interrupted at any moment.
        check: runs after each try, without signals; it fails for what an interrupted *work* left behind.
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
            answer = str(_storm(prepare, work, check, seconds)).encode()
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


def _storm(
    prepare: Callable[[], object], work: Callable[[], object], check: Callable[[], object], seconds: float
) -> int:
    hits = 0
    with _sigint_by_alarm():
        longest = _seconds(prepare, work, check)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            prepare()
            if not _gets_through(work, random.uniform(1e-6, 1.2 * longest)):
                hits += 1
            check()
    assert hits, "no signal arrived while the work ran"
    return hits


def _gets_through(work: Callable[[], object], delay: float) -> bool:
    finished = False
    try:
        # The timer is never stopped: its signal could still arrive after that, in the middle of the test.
        signal.setitimer(signal.ITIMER_REAL, delay)
        work()
        finished = True
        time.sleep(_LATEST)
    except KeyboardInterrupt:
        return finished
    raise AssertionError("the signal was swallowed")


def _seconds(prepare: Callable[[], object], work: Callable[[], object], check: Callable[[], object]) -> float:
    """Return how long *work* takes: the median of a few times."""
    taken = []
    for _ in range(11):
        prepare()
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
        check()
    return max(sorted(taken)[5], 20e-6)


@contextmanager
def _sigint_by_alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
