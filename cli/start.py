# SPDX-License-Identifier: MIT
"""The entry point. From its first line on, Ctrl-C ends the program with status 130 and without a traceback.

Before that line Python starts: it reads the environment's path files, and pip's script imports ``re``. Ctrl-C then ends
the program by the signal itself, or with a traceback of Python.
"""

# The built-in module: signal imports enum, which takes several times as long as all of this.
import _signal  # type: ignore[import-not-found]
import os

_INTERRUPTED = 130


def _leave_at_once(number: int, frame: object) -> None:
    # Nothing is open yet, so nothing must be given back.
    os._exit(_INTERRUPTED)


def main() -> None:
    """Import the command line and run it."""
    # The caller may have set Ctrl-C to be ignored, as nohup does. Keep that.
    before = _signal.getsignal(_signal.SIGINT)
    if before is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _leave_at_once)
    from .main import main as run

    try:
        _signal.signal(_signal.SIGINT, before)
        run()
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
