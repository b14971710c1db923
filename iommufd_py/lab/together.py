# SPDX-License-Identifier: MIT
"""Run commands of this tool in separate processes, also several at the same time."""

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from iommufd_py.lab.errors import LabError
from iommufd_py.lab.process import start, stop

_POLL_SECONDS = 0.1
# Time for a process to end its guest.
_GRACE_SECONDS = 10


def run_iommufd(arguments: Sequence[str]) -> None:
    """Run this tool in a separate process. Its output is discarded, and its errors are shown.

    Raises:
        LabError: the command failed.
    """
    run_together([arguments])


def run_together(commands: Iterable[Sequence[str]]) -> None:
    """Run this tool in several processes at the same time, as :func:`run_iommufd` does. A failure ends all of them.

    Raises:
        LabError: a command failed.
    """
    program = str(Path(sys.executable).parent / "iommufd")
    running: dict[subprocess.Popen[bytes], Sequence[str]] = {}
    try:
        for arguments in commands:
            process = start([program, *arguments], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
            running[process] = arguments
        while running:
            for process in [one for one in running if one.poll() is not None]:
                arguments = running.pop(process)
                if process.returncode:
                    command = shlex.join(["iommufd", *arguments])
                    raise LabError(f"'{command}' failed with status {process.returncode}; see above")
            time.sleep(_POLL_SECONDS)
    finally:
        for process in running:
            stop(process, grace=_GRACE_SECONDS)


def run_in_turns(commands: Sequence[Sequence[str]], directory: Path) -> None:
    """Run commands of `bench run` in guests at the same time. They measure in turns.

    Args:
        commands: for each guest, the arguments of `lab run`, with `bench run` and its options at the end.
        directory: a directory that all guests see and write.

    Raises:
        LabError: a command failed.
    """
    with tempfile.TemporaryDirectory(prefix="turns-", dir=directory) as meeting:
        count = str(len(commands))
        run_together([*command, "--turn", meeting, str(place), count] for place, command in enumerate(commands))
