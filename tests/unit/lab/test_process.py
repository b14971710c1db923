# SPDX-License-Identifier: MIT
"""Child processes of the lab: their signals, their timeouts, and the output of one that ended."""

import io
import signal
import subprocess
import threading

import pytest

from iommufd_py.lab.process import start, stop, supervise
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


class SlowReader(io.BytesIO):
    """Takes each chunk only after a while, like a slow terminal."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._pause = threading.Event()
        self._seconds = seconds

    def write(self, data: object) -> int:
        self._pause.wait(self._seconds)
        return super().write(data)  # type: ignore[arg-type]


def supervised(script: str, timeout: float, reader: io.BytesIO) -> int | None:
    """Supervise a shell script in a thread. A supervisor that ignores its timeout fails the test."""
    ended: list[int | None] = []
    thread = threading.Thread(
        target=lambda: ended.append(supervise(["sh", "-c", script], timeout, reader, io.BytesIO())), daemon=True
    )
    thread.start()
    thread.join(patience(20))
    assert ended, f"{script!r} still runs, and its timeout was {timeout} s"
    return ended[0]


def test_a_timeout_holds_for_output_that_comes_faster_than_it_is_read() -> None:
    assert supervised("while :; do echo more; sleep 0.01; done", 0.5, SlowReader(0.05)) is None


def test_a_timeout_holds_for_a_child_that_closes_its_output() -> None:
    assert supervised("exec >&- 2>&-; sleep 1000", 0.5, io.BytesIO()) is None


@pytest.mark.slow
def test_a_slow_reader_gets_all_output_of_a_child_that_ended_in_time() -> None:
    reader = SlowReader(1)
    assert supervised("for each in 1 2 3; do echo $each; sleep 0.1; done; exit 3", 2, reader) == 3
    assert reader.getvalue() == b"1\n2\n3\n"
