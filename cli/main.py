# SPDX-License-Identifier: MIT
"""The command group, and the only place where an error becomes a message and an exit status."""

import contextlib
import errno
import io
import itertools
import json
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from iommufd_py.base.errors import IommufdError, SkipError, ToolError, reason_of
from iommufd_py.base.shown import error_text, printable, valid_utf8
from iommufd_py.base.signals import ENDING

from .exit_status import FAILED, INTERRUPTED, NOT_OBSERVED
from .lazy import LazyGroup
from .output import note

if TYPE_CHECKING:
    from io import TextIOWrapper

_AGAIN_SECONDS = 0.01
_MOST_CHARACTERS = 2000

_COMMANDS = {
    "info": "Show the features of this machine and its kernel, and the coherency of its IOMMUs.",
    "device": "List PCI devices; bind one to vfio-pci and give it back.",
    "map": "Map memory for a device once, and report each step.",
    "shell": "Run a Python prompt, or a file, with the objects of a device.",
    "dma": "Let a device read and write memory through a mapping, and check the bytes.",
    "trace": "Show maps, unmaps, attaches, faults and flushes while they happen.",
    "explain": "Show where a running process spends the time of its maps.",
    "bench": "Time DMA map and unmap.",
    "validate": "Check the running kernel against the three flush rules.",
    "bisect": "Find the commit of a kernel tree that broke a rule, a test or a timing.",
    "lab": "Build the kernels of the lab, and run commands and tests on them in guests.",
    "fleet": "Run a plan on many machines that labgrid lends, and judge all results together.",
    "report-bug": "Write an archive for a bug report, without data that identifies the machine.",
    "completion": "Print the completion script of a shell.",
}

_MORE_MEMORY = "not enough memory: ask for less, end other programs, or raise the limit (ulimit -v)"
# What the loader of libraries says when it gets no memory.
_NO_MEMORY = ("failed to map segment from shared object", "Cannot allocate memory", "cannot create shared object")

# The packages that each extra installs.
_EXTRAS = {
    "report": {"matplotlib", "numpy", "scipy"},
    "fleet": {"grpc", "kcidb_io", "labgrid", "serial", "statsmodels"},
}


class _Commands(LazyGroup):
    package = __package__
    table = _COMMANDS


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from iommufd_py.base.version import tool_version

        click.echo(f"iommufd, version {tool_version()}")
        context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("-v", "--verbose", is_flag=True, help="Show every ioctl on stderr, with its arguments and result.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def iommufd(context: click.Context, verbose: bool) -> None:
    """VFIO and iommufd at the command line: devices, DMA map/unmap timing, and a lab for machines without VT-d.

    Exit status: 0 good, 1 failed or violated, 2 wrong usage, 4 cannot be observed here.

    \b
    Examples:
      iommufd info
      iommufd -v map --device mock --size 64K
    """
    if verbose:
        from iommufd_py.objects.ioctl_trace import describe_ioctl, ioctl_trace

        context.with_resource(ioctl_trace(lambda one: click.echo(describe_ioctl(one), err=True)))


def _exit_on_signal(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _leave_after_all(dropped: "sys.UnraisableHookArgs") -> None:
    """Raise an exception of a signal handler again if Python discarded it, in ``__del__`` or during an import."""
    reason = dropped.exc_value
    if not isinstance(reason, (KeyboardInterrupt, SystemExit)):
        sys.__unraisablehook__(dropped)
        return

    def raise_again(*_: object) -> None:
        raise reason.with_traceback(None)

    # Raise it later, because Python would discard an exception that is raised now.
    signal.signal(signal.SIGALRM, raise_again)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def main() -> None:
    """Run the command line."""
    # The caller may have set SIGCHLD to be ignored; then wait() would not return the status of children.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Like Ctrl-C, end through the `finally` clauses, which give devices back and stop guests.
    # An alarm(2) of the caller survives exec: "perl -e 'alarm 60; exec @ARGV' COMMAND" limits the time of a command.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        # The caller may have set a signal to be ignored, as nohup does; Python itself respects this for SIGINT.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _exit_on_signal)
    # A thread that blocks signals, for example in a launcher, starts its programs with these signals blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    sys.unraisablehook = _leave_after_all
    _replace_closed_streams()
    _forget_impossible_terminal()
    # The output encoding may lack a character of a name, and a file's name need not be UTF-8.
    cast("TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
    status = _run()
    try:
        # Writing the rest of the buffer can also fail: a full disk is noticed only here.
        sys.stdout.flush()
    except ValueError:
        pass  # A program of `iommufd shell` closed the stream.
    except BrokenPipeError:
        status = _drop_output()
    except OSError as failure:
        _report(failure, "error", f"the output cannot be written: {failure.strerror}")
        status = _drop_output()
    try:
        sys.stderr.flush()
    except OSError:
        # Python would exit with 120 because of the text that is left in the buffer.
        _drop(sys.stderr.fileno())
    sys.exit(status)


def _forget_impossible_terminal() -> None:
    """Remove a size of the terminal that is none. rich draws nothing in 0 columns, and fails for the digit ``²``."""
    for name in ("COLUMNS", "LINES"):
        if not re.fullmatch("[1-9][0-9]{0,4}", os.environ.get(name, "1")):
            del os.environ[name]


def _run() -> int:
    """Run the command, and return the exit status. All errors are reported here."""
    try:
        return int(iommufd.main(standalone_mode=False) or 0)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        click.echo(leaving.code, err=True)
        return FAILED
    except click.ClickException as failure:
        _show_usage(failure)
        return failure.exit_code
    except SkipError as failure:
        _report(failure, "skipped")
        return NOT_OBSERVED
    except (ToolError, IommufdError) as failure:
        _report(failure, "error")
        return FAILED
    except BrokenPipeError:
        return _drop_output()
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except MemoryError:
        # A traceback would need more memory.
        _report(ToolError(), "error", _MORE_MEMORY)
        return FAILED
    except Exception as failure:
        _trace_back()
        _report(failure, "error", _text_of(failure))
        # The rest of the output cannot be written either, and main() would report that again.
        return _drop_output() if _is_of_output(failure) else FAILED


def _text_of(failure: Exception) -> str:
    """Return the message for an error that comes from Python or a library, not from this tool."""
    match failure:
        case OSError():
            return _what_failed(failure)
        case UnicodeError():
            return f"a text is not UTF-8, or cannot be written in the encoding of the output: {failure}"
        case RecursionError():
            return "the input is nested too deeply"
        case ModuleNotFoundError():
            return _what_is_missing(failure)
        case OverflowError():
            return f"a number is too large, or negative although it must not be: {failure}"
        case ImportError() if any(text in str(failure) for text in _NO_MEMORY):
            return _MORE_MEMORY
        case ImportError():
            return f"a library cannot be loaded: {failure}; install it, or this tool again"
    return _our_bug(failure)


def _show_usage(failure: click.ClickException) -> None:
    """Print a usage error. It quotes the user's text, which may have any length and any characters."""
    written = io.StringIO()
    failure.show(written)
    with contextlib.suppress(OSError):  # Nobody reads stderr any more.
        note("\n".join(map(_cut, written.getvalue().rstrip("\n").split("\n"))))


def _is_of_output(failure: Exception) -> bool:
    """Return whether the standard output could not be written. An error of a file names the file."""
    full = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)
    return isinstance(failure, OSError) and failure.filename is None and failure.errno in full


def _what_failed(failure: OSError) -> str:
    if _is_of_output(failure):
        return f"the output cannot be written: {reason_of(failure, 'free some space there, or write it elsewhere')}"
    reason = reason_of(failure)
    if failure.filename is None and failure.errno == errno.ENOENT and not _in_a_directory():
        return "the current directory does not exist any more: change to another one"
    named = failure.filename is not None
    where = os.fsdecode(failure.filename) if isinstance(failure.filename, (str, bytes)) else str(failure.filename)
    remedy = {
        errno.EACCES: "; if the file belongs to root, run as root or with sudo" if os.geteuid() else "",
        errno.EPERM: "; a kernel in lockdown (Secure Boot) refuses even root",
    }.get(failure.errno or 0, "")
    return f"{where}: {reason}{remedy}" if named else f"{reason}{remedy}"


def _what_is_missing(failure: ModuleNotFoundError) -> str:
    from iommufd_py.base.installation import command_for_extra

    package = (failure.name or "").partition(".")[0]
    extra = next((extra for extra, packages in _EXTRAS.items() if package in packages), None)
    if extra is None:
        return _our_bug(failure)
    return f"this command needs {package}, which is not installed: run {command_for_extra(extra)}"


def _in_a_directory() -> bool:
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False


def _our_bug(failure: Exception) -> str:
    from iommufd_py.base.version import tool_version

    place = traceback.extract_tb(failure.__traceback__)[-1]
    return (
        f"this is a bug of iommufd-py {tool_version()}: {type(failure).__name__}: {error_text(failure)} "
        f"({Path(place.filename).name}:{place.lineno}); report it with this command and the traceback that "
        "'iommufd -v' shows"
    )


def _trace_back() -> None:
    """Print the traceback of the failure if the user asked for details (-v)."""
    if {"-v", "--verbose"} & set(_own_words()[:1]):
        traceback.print_exc()


def _drop_output() -> int:
    """Discard buffered output if the output is closed or full, and return the exit status of the failure."""
    _drop(sys.stdout.fileno())
    return FAILED


def _drop(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def _replace_closed_streams() -> None:
    """Open /dev/null for each closed standard stream: Python would have None there, and a file would get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - for the whole run


def _own_words() -> list[str]:
    """Return the arguments of this command. Those after ``--`` belong to another command."""
    return list(itertools.takewhile(lambda word: word != "--", sys.argv[1:]))


def _report(failure: Exception, kind: str, text: str = "") -> None:
    text = " ".join((text or str(failure)).split())
    with contextlib.suppress(OSError):  # The stream stderr is closed.
        if "--json" in _own_words():
            click.echo(json.dumps({"schema": "iommufd-error/1", kind: _document(failure, text)}), err=True)
        else:
            # A file name may contain bytes that are not UTF-8, and control characters of a terminal.
            click.echo(f"iommufd: {kind}: {printable(_cut(text))}", err=True)


def _cut(text: str) -> str:
    """Leave out the middle of a very long text, for example one with a path of 4096 characters."""
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]} [...] {text[-half:]}"


def _document(failure: Exception, text: str) -> dict[str, Any]:
    document: dict[str, Any] = {"message": valid_utf8(text)}
    if isinstance(failure, IommufdError):
        document |= {"ioctl": failure.ioctl, "errno": failure.errno_name, "arguments": failure.arguments}
    return document
