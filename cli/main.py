# SPDX-License-Identifier: MIT
"""The command group, and the one place where an error becomes a message and an exit status."""

import importlib
import itertools
import json
import os
import signal
import sys
from typing import Any

import click

from iommufd_py.base.errors import IommufdError, SkipError, ToolError

_FAILED, _SKIPPED, _INTERRUPTED = 1, 4, 130
_AGAIN_SECONDS = 0.01

# Loaded when used: `iommufd lab run` must not pay for what a benchmark needs, and neither must the list of commands.
_COMMANDS = {
    "info": "Show what this machine and its kernel can do, and who is coherent.",
    "device": "List PCI devices; bind one to vfio-pci and give it back.",
    "map": "Map memory for a device once, and tell what happens.",
    "shell": "Give a Python prompt with the objects at hand.",
    "dma": "Have a device read and write memory through a mapping, and check what arrives.",
    "trace": "Show maps, unmaps, flushes and faults as they happen.",
    "bench": "Time DMA map and unmap.",
    "validate": "Hold the running kernel against the three flush rules.",
    "lab": "Run commands on a kernel of the lab, behind an emulated VT-d.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f".{cmd_name}", __package__), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("-v", "--verbose", is_flag=True, help="Show every ioctl on stderr, with its arguments and result.")
@click.version_option(package_name="iommufd-py")
@click.pass_context
def iommufd(context: click.Context, verbose: bool) -> None:
    """VFIO and iommufd at the command line: devices, DMA map/unmap timing, and a lab for machines without VT-d.

    Exit status: 0 good, 1 failed, 2 wrong usage, 4 cannot be observed here.

    \b
    Examples:
      iommufd info
      iommufd -v map --device mock --size 64K
    """
    if verbose:
        from iommufd_py.objects.ioctl_trace import describe_ioctl, ioctl_trace

        context.with_resource(ioctl_trace(lambda one: click.echo(describe_ioctl(one), err=True)))


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _leave_after_all(dropped: "sys.UnraisableHookArgs") -> None:
    """Have what a signal's handler raised raised again, where Python could not: in ``__del__``, while it imports."""
    reason = dropped.exc_value
    if not isinstance(reason, (KeyboardInterrupt, SystemExit)):
        sys.__unraisablehook__(dropped)
        return

    def raise_again(*_: object) -> None:
        raise reason.with_traceback(None)

    # Not at once: that would be dropped as well.
    signal.signal(signal.SIGALRM, raise_again)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def main() -> None:
    """Run the command line."""
    # Where whoever started us has us ignore it, the kernel tells nobody how our children ended.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # As Ctrl-C does: end through the `finally` clauses, which give devices back and stop guests.
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Whoever started us may want us to ignore it (nohup); Python does the same for SIGINT.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)
    sys.unraisablehook = _leave_after_all
    try:
        sys.exit(iommufd.main(standalone_mode=False))
    except click.ClickException as failure:
        failure.show()
        sys.exit(failure.exit_code)
    except SkipError as failure:
        _report(failure, "skipped")
        sys.exit(_SKIPPED)
    except (ToolError, IommufdError) as failure:
        _report(failure, "error")
        sys.exit(_FAILED)
    except BrokenPipeError:
        # The reader of our output is gone; give the interpreter nothing to flush into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_FAILED)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)


def _report(failure: Exception, kind: str) -> None:
    ours = itertools.takewhile(lambda word: word != "--", sys.argv[1:])  # the rest is a guest's command
    if "--json" in ours:
        click.echo(json.dumps({"schema": "iommufd-error/1", kind: _document(failure)}), err=True)
    else:
        click.echo(f"iommufd: {kind}: {failure}", err=True)


def _document(failure: Exception) -> dict[str, Any]:
    document: dict[str, Any] = {"message": str(failure)}
    if isinstance(failure, IommufdError):
        document |= {"ioctl": failure.ioctl, "errno": failure.errno_name, "arguments": failure.arguments}
    return document
