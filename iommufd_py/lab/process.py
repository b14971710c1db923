# SPDX-License-Identifier: MIT
"""Child processes that do not outlive this one, and locks between processes."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from iommufd_py.lab.errors import LabError

__all__ = ["SPACE_REMEDY", "locked", "out_of_space", "run_tool", "start", "stop"]

SPACE_REMEDY = "free some, or set XDG_CACHE_HOME to a directory on another disk"

# The child asks to be killed when its parent dies, then looks whether that happened before it asked.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start *argv* in a session of its own, as a child that is killed when this process dies, even of SIGKILL.

    In its own session it is out of reach of the terminal's Ctrl-C: that stops this process, which stops the child.
    """
    return subprocess.Popen([*_DIE_WITH_PARENT, str(os.getpid()), *argv], start_new_session=True, **options)


def stop(child: subprocess.Popen[bytes], *, grace: float = 0) -> None:
    """End *child* and what it started: at once, or asked first and given *grace* seconds to tidy up."""
    if child.poll() is None:
        if grace:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(grace)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
        else:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def run_tool(argv: Sequence[str], doing: str, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a short program and return its output.

    Raises:
        LabError: it failed; the sentence has *doing* and the first thing the program complained of.
    """
    child = start(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = (stream.decode(errors="replace") for stream in child.communicate())
    finally:
        stop(child, grace=5)
    if child.returncode != 0:
        if out_of_space(errors):
            raise LabError(f"{doing}: no space left on the disk; {SPACE_REMEDY}")
        lines = (errors.strip() or output.strip() or f"exit status {child.returncode}").splitlines()
        # The first complaint has the cause; apt marks its own, and warns about other things before.
        cause = next((line for line in lines if line.startswith("E: ")), lines[0])
        raise LabError(f"{doing}: {cause.strip()}")
    return output


def out_of_space(text: str) -> bool:
    """Whether a program's messages say that the disk is full."""
    return "No space left on device" in text or "Disk quota exceeded" in text


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on the file *path*; *waiting* is called when another process holds it.

    The kernel drops the lock when its holder dies: what it protects may then be half done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
