# SPDX-License-Identifier: MIT
"""Signals to the command line: they end it with the right status, also while it starts."""

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.waiting import DEFAULT_SIGNALS, patience

# A command that runs a child, gets signals in __del__, where Python discards exceptions, and then waits.
WAITS = """
import signal, subprocess, sys, time
from iommufd_py.cli import main

class Deaf:
    def __del__(self):
        for number in numbers:
            signal.raise_signal(number)

@main.iommufd.command()
def info():
    print(subprocess.run("exit 7", shell=True).returncode)
    Deaf()
    time.sleep(60)

numbers = [int(word) for word in sys.argv.pop().split()]
main.iommufd.get_command = lambda context, name: info
main.main()
"""


def waits(start: Sequence[str], *numbers: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Run the command, begun by *start*, with signals to come."""
    words = " ".join(str(int(number)) for number in numbers)
    command = [*start, sys.executable, "-c", WAITS, "info", words]
    return subprocess.run(command, capture_output=True, text=True, timeout=patience(50), check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM])
def test_a_signal_ends_the_program_wherever_it_comes(number: signal.Signals) -> None:
    done = waits(DEFAULT_SIGNALS, number)
    assert done.returncode == 128 + number
    assert done.stderr == ("\n" if number == signal.SIGINT else "")  # click ends the line with the ^C


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_it_was_started_to_ignore_does_not_end_it(ignored: signal.Signals) -> None:
    """This is so under nohup, and in the background of a shell without jobs."""
    start = [*DEFAULT_SIGNALS, "env", f"--ignore-signal={ignored.name.removeprefix('SIG')}"]
    assert waits(start, ignored, signal.SIGTERM).returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("blocked", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_it_was_started_to_block_ends_it(blocked: signal.Signals) -> None:
    start = [*DEFAULT_SIGNALS, "env", f"--block-signal={blocked.name.removeprefix('SIG')}"]
    assert waits(start, blocked).returncode == 128 + blocked


def test_the_status_of_a_child_is_known_under_any_ignored_signal() -> None:
    assert waits([*DEFAULT_SIGNALS, "env", "--ignore-signal=CHLD"], signal.SIGTERM).stdout == "7\n"


def test_nothing_else_is_imported_before_the_handler_of_ctrl_c_is_set() -> None:
    """Ctrl-C during an earlier import would print a traceback."""
    program = (
        "import sys; before = set(sys.modules); from iommufd_py.cli.start import main; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["iommufd_py", "iommufd_py.cli", "iommufd_py.cli.start"]
