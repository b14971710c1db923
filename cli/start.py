# SPDX-License-Identifier: MIT
"""The entry point. From its first line on, Ctrl-C ends the program with status 130 and without a traceback."""

import os
import signal
from types import FrameType

_INTERRUPTED = 130


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    # Nothing is open yet, so nothing must be given back.
    os._exit(_INTERRUPTED)


def main() -> None:
    """Import the command line and run it."""
    # The caller may have set Ctrl-C to be ignored, as nohup does. Keep that.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave_at_once)
    from .main import main as run

    try:
        signal.signal(signal.SIGINT, before)
        run()
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
