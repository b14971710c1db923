# SPDX-License-Identifier: MIT
"""Processes that run at the same time end together."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iommufd_py.base.errors import ToolError
from iommufd_py.lab.together import run_together
from tests.waiting import patience


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace `iommufd` by a program that runs its arguments."""
    iommufd = tmp_path / "iommufd"
    iommufd.write_text('#!/bin/sh\nexec "$@"\n')
    iommufd.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))


@pytest.mark.usefixtures("program")
def test_processes_run_at_the_same_time(tmp_path: Path) -> None:
    """Each of the two ends when it sees the other."""
    script = 'touch "$0"; while [ ! -e "$1" ]; do sleep 0.01; done'
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    run_together([["sh", "-c", script, one, other], ["sh", "-c", script, other, one]])


@pytest.mark.usefixtures("program")
def test_a_failure_ends_the_others(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    waiting = ["sh", "-c", 'echo $$ > "$0"; exec sleep 1000', str(pid)]
    failing = ["sh", "-c", 'while [ ! -s "$0" ]; do sleep 0.01; done; exit 3', str(pid)]
    start = time.monotonic()
    with pytest.raises(ToolError, match="failed with status 3; see above"):
        run_together([waiting, failing])
    assert time.monotonic() - start < patience(60)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_an_interrupt_ends_all(tmp_path: Path) -> None:
    iommufd = tmp_path / "iommufd"
    iommufd.write_text('#!/bin/sh\necho $$ >> pids; exec "$@"\n')
    iommufd.chmod(0o755)
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.executable = {str(tmp_path / 'python')!r}\n"
        "from iommufd_py.lab.together import run_together\n"
        "run_together([['sleep', '1000'], ['sleep', '1000']])"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + patience(60)
        pids: list[int] = []
        while len(pids) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            if (tmp_path / "pids").exists():
                pids = [int(one) for one in (tmp_path / "pids").read_text().split()]
        run.send_signal(2)
        run.wait(patience(60))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
