# SPDX-License-Identifier: MIT
import signal
import subprocess

import pytest

from iommufd_py.lab.process import start, stop
from tests.waiting import patience


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE])
def test_a_child_ignores_no_signal_that_we_ignore(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        child = start(["sh", "-c", "kill -$0 $$; sleep 60", str(int(number))], stdin=subprocess.DEVNULL)
        try:
            assert child.wait(patience(12)) == -number
        finally:
            stop(child)
    finally:
        signal.signal(number, before)
