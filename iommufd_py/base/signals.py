# SPDX-License-Identifier: MIT
"""The signals that end a program, and the blocks that they must not interrupt."""

import contextlib
import signal
from collections.abc import Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
"""Ctrl-C, kill, the closed terminal, and the alarm(2) of the caller. The command line also sets SIGALRM itself: it
raises an exception again that Python discarded."""


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Hold back the ending signals while the block runs. A signal that arrives in the block is handled at its end.

    Python runs a signal's handler between two steps of a program, and the handler raises. Without this block it may
    raise after the kernel has made an object and before the program has stored the object's id.

    The block changes the mask of the calling thread (pthread_sigmask(3)), and children inherit the mask. In a program
    with several threads the kernel may give the signal to another thread; then Python raises inside the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # This call may raise for a signal that arrived before it, and it raises with the signals blocked.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
