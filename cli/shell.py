# SPDX-License-Identifier: MIT
"""`iommufd shell`: run a Python prompt or a Python file with an iommufd, an IOAS and a device."""

import code
import contextlib
import errno
import os
import stat
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any
from uuid import UUID

import click

from iommufd_py import api
from iommufd_py.base.errors import IommufdError, ToolError
from iommufd_py.base.files import STDIN, cannot_read, read_file
from iommufd_py.base.shown import error_text, printable, shown

from .commands import command
from .session import open_session
from .types import BIND_OPTION, DEVICE_OPTION, VF_TOKEN_OPTION

_STDIN = Path("-")
_MOST_HISTORY = 1000
_MOST_PROGRAM_BYTES = 16 << 20
_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


@command()
@DEVICE_OPTION
@BIND_OPTION
@VF_TOKEN_OPTION
@click.argument("file", type=_FILE, required=False)
def shell(device: str | None, bind: bool, vf_token: UUID | None, file: Path | None) -> None:
    """Run a Python prompt with an iommufd, an IOAS, the device and all classes, or run FILE with them.

    At the end the command closes everything and gives the device back. The prompt completes names with Tab and keeps
    the history. Without a terminal, the command runs Python code from the standard input.

    A file can replay a bug report: 'iommufd -v shell FILE' shows each ioctl. Put a call that must fail into a block
    'with expect("EEXIST"):', which fails if the call succeeds. FILE is a program: run a file of another author in a
    guest, with 'iommufd lab run -- iommufd shell FILE'.

    Exit status: 0 the file ran to its end, 1 a call failed or did not fail as expected, 2 FILE is not Python.

    \b
    Examples:
      iommufd shell --device mock
      iommufd -v shell --device mock report.py
      echo 'print(ioas.iova_ranges())' | iommufd shell
    """
    program = None if file is None and sys.stdin.isatty() else _compile(file or _STDIN)
    with open_session(device, bind, vf_token=vf_token) as (iommufd, bound):
        ioas = iommufd.alloc_ioas()
        names = {name: getattr(api, name) for name in api.__all__}
        names |= {"iommufd": iommufd, "ioas": ioas, "expect": expect, "__name__": "__main__"}
        if bound is not None:
            names["device"] = bound
        if program is not None:
            _run(program, names)
            return
        at_hand = ", ".join(f"{name} = {names[name]!r}" for name in ("iommufd", "ioas", "device") if name in names)
        with _line_editing(names):
            code.interact(banner=f"{at_hand}, and the classes of iommufd_py; Ctrl-D ends", local=names, exitmsg="")


@contextlib.contextmanager
def expect(name: str) -> Iterator[None]:
    """Expect the block to fail with an error of this name, for example ``EEXIST``.

    Raises:
        ToolError: the block succeeds, or fails with another error.
        ValueError: there is no error *name*.
    """
    # Some numbers have two names, of which errno.errorcode has one: EOPNOTSUPP is also ENOTSUP.
    number = getattr(errno, name, None) if isinstance(name, str) else None
    if not isinstance(number, int):
        raise ValueError(f"{shown(name)} is not the name of an error: write for example 'EEXIST'")
    try:
        yield
    except IommufdError as failure:
        if failure.errno != number:
            raise ToolError(f"{name} was expected, but: {failure}") from None
        return
    raise ToolError(f"{name} was expected, but there was no error")


def _compile(file: Path) -> CodeType:
    """Read and compile a program.

    Raises:
        ToolError: the file cannot be read.
        click.UsageError: it is not Python.
    """
    name = "<stdin>" if file == _STDIN else str(file)
    try:
        source = read_file(STDIN if file == _STDIN else file, _MOST_PROGRAM_BYTES)
    except OSError as failure:
        raise cannot_read(name, failure) from None
    try:
        return compile(source, name, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as failure:
        where = f", line {failure.lineno}" if isinstance(failure, SyntaxError) and failure.lineno else ""
        # The message may quote the file, which may contain control characters.
        reason = (failure.msg if isinstance(failure, SyntaxError) else str(failure)) or type(failure).__name__
        raise click.UsageError(f"{name}{where} is not Python: {printable(reason)}") from None


def _run(program: CodeType, names: dict[str, Any]) -> None:
    """Run a program. The report of an error shows the line of the program, and no function of this tool.

    Raises:
        ToolError: a call failed, or the program has an error.
    """
    try:
        exec(program, names)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as failure:  # Also those of libraries, such as asyncio.CancelledError.
        frames = [one for one in traceback.extract_tb(failure.__traceback__) if one.filename == program.co_filename]
        where = f"{program.co_filename}, line {frames[-1].lineno}: " if frames else ""
        kind = "" if isinstance(failure, IommufdError | ToolError) else f"{type(failure).__name__}: "
        raise ToolError(f"{where}{kind}{printable(error_text(failure))}") from failure


@contextlib.contextmanager
def _line_editing(names: dict[str, Any]) -> Iterator[None]:
    """Complete *names* with Tab and keep the history, if this Python has readline."""
    try:
        import readline
        import rlcompleter
    except ImportError:
        yield
        return
    history = _history_file()
    readline.set_history_length(_MOST_HISTORY)
    if history is not None:
        with contextlib.suppress(OSError):  # There is no history yet.
            readline.read_history_file(history)
    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        if history is not None:
            with contextlib.suppress(OSError):  # A full disk is no error here: only the history is lost.
                history.touch(mode=0o600)
                readline.write_history_file(history)


def _history_file() -> Path | None:
    """Return the file of the history. None if this user has no directory that nobody else can write.

    sudo can keep the home directory of the user. Root would leave files there that the user cannot change, or follow
    a link of the user.
    """
    try:
        state = Path(os.environ.get("XDG_STATE_HOME", ""))
        if not state.is_absolute():  # The XDG specification says to ignore a relative path.
            state = Path.home() / ".local/state"
        directory = state / "iommufd-py"
        existing = next(path for path in (directory, *directory.parents) if path.exists())
        if existing.stat().st_uid != os.geteuid():
            return None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except (OSError, RuntimeError):  # The user has no home directory, or no permission to write there.
        return None
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return directory / "history" if private else None
