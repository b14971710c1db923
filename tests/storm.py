# SPDX-License-Identifier: MIT
"""Ctrl-C at any moment: a timer interrupts some work between two steps of Python, thousands of times."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["storm"]


def storm(
    prepare: Callable[[], object], work: Callable[[], object], check: Callable[[], object], *, seconds: float = 3.0
) -> int:
    """Do *work* again and again, each time with a signal at a random moment of it; return how often the signal hit.

    Args:
        prepare: runs before each try, without signals.
        work: may be interrupted at any moment.
        check: runs after each try, without signals; it fails for what an interrupted *work* left behind.
        seconds: how long to go on.
    """
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
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return False
    return True


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
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
