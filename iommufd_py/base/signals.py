# SPDX-License-Identifier: MIT
"""Signals that end the program, and what they may not end in the middle."""

import contextlib
import signal
from collections.abc import Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
"""What ends a command in good order: Ctrl-C, kill, the terminal that is closed, and the alarm by which the command line
raises again what Python dropped."""


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Keep the ending signals waiting meanwhile, for steps of which the first without the second is lost.

    Python runs a handler, which raises, as soon as the system call returns in which a signal came: before the caller
    can write down what the call gave it. One that came is raised at the end of the block.

    It is this thread's mask (pthread_sigmask(3)), which children inherit. In a program with other threads the kernel
    gives the signal to one of these, and nothing is held.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
