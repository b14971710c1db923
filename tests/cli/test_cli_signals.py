# SPDX-License-Identifier: MIT
import signal
import subprocess
import sys

import pytest

# A command that waits, and gets a signal where Python drops what the handler raises.
WAITS = """
import signal, sys, time
from iommufd_py.cli import main

class Deaf:
    def __del__(self):
        signal.raise_signal(number)

@main.iommufd.command()
def info():
    Deaf()
    time.sleep(60)

number = int(sys.argv.pop())
main.iommufd.get_command = lambda context, name: info
main.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_program_wherever_it_comes(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITS, "info", str(int(number))], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 128 + number
    assert done.stderr == ("\n" if number == signal.SIGINT else "")  # click ends the line that has the ^C
