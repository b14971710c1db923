# SPDX-License-Identifier: MIT
"""`iommufd shell`: a Python prompt with the objects at hand."""

import code
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from iommufd_py import api

from .session import open_session
from .types import BIND_OPTION, DEVICE_OPTION


@click.command()
@DEVICE_OPTION
@BIND_OPTION
def shell(device: str | None, bind: bool) -> None:
    """Give a Python prompt with an iommufd, an IOAS, the device and all classes at hand.

    Everything is closed, and the device given back, when the prompt ends (Ctrl-D). Names complete with Tab; the
    history is kept. Python from the standard input runs as well.

    \b
    Examples:
      iommufd shell --device mock
      echo 'print(ioas.iova_ranges())' | iommufd shell
    """
    with open_session(device, bind) as (iommufd, bound):
        ioas = iommufd.alloc_ioas()
        names = {name: getattr(api, name) for name in api.__all__}
        names |= {"iommufd": iommufd, "ioas": ioas}
        if bound is not None:
            names["device"] = bound
        if sys.stdin.isatty():
            at_hand = ", ".join(f"{name} = {names[name]!r}" for name in ("iommufd", "ioas", "device") if name in names)
            with _line_editing(names):
                code.interact(
                    banner=f"{at_hand}; the classes of iommufd_py by name; Ctrl-D ends", local=names, exitmsg=""
                )
        else:
            exec(compile(sys.stdin.read(), "<stdin>", "exec"), names)


@contextlib.contextmanager
def _line_editing(names: dict[str, Any]) -> Iterator[None]:
    """Complete *names* with Tab, and keep the history, where this Python has readline."""
    try:
        import readline
        import rlcompleter
    except ImportError:
        yield
        return
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    history = state / "iommufd-py" / "history"
    if history.exists():
        readline.read_history_file(history)
    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a read-only home must not spoil the end
            history.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(history)
