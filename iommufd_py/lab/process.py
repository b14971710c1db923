# SPDX-License-Identifier: MIT
"""Child processes that end with this process, and locks between processes."""

import fcntl
import os
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

from iommufd_py.lab import paths
from iommufd_py.lab.errors import LabError

SPACE_REMEDY = "free some space, or set XDG_CACHE_HOME to a directory on another disk"

# A file takes at least a block of its disk. Larger blocks are rare.
_SMALLEST_FILE = 4096

# nohup and a shell's & start this process with ignored signals, and a child inherits them. A child that ignores SIGINT
# cannot be interrupted.
_DEFAULT_SIGNALS = ("env", "--default-signal")
# The child asks to be killed when its parent dies, then looks whether that happened before it asked.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start *argv* in a session of its own. The kernel kills it when this process dies, even by SIGKILL.

    In its own session it does not get the terminal's Ctrl-C. Ctrl-C stops this process, and this process stops the
    child. The child ignores no signal.

    Raises:
        LabError: the programs that start the child are not on PATH.
    """
    command = [*_DEFAULT_SIGNALS, *_DIE_WITH_PARENT, str(os.getpid()), *argv]
    try:
        return subprocess.Popen(command, start_new_session=True, **options)
    except FileNotFoundError as failure:
        raise LabError(
            f"{failure.filename} is not on PATH, and no process of the lab starts without it: add /usr/bin to PATH, or "
            "'sudo apt-get install coreutils util-linux'"
        ) from None


def stop(child: subprocess.Popen[bytes], *, grace: float = 0) -> None:
    """End *child* and its children: at once, or with SIGTERM first and *grace* seconds to clean up."""
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


def supervise(argv: Sequence[str], timeout: float, stdout: BinaryIO, stderr: BinaryIO) -> int | None:
    """Run *argv* to its end and pass its output on as it comes.

    Return its exit status, or None if it was killed after *timeout* seconds.

    The output goes through pipes. QEMU opens its standard streams again by path: it would truncate a file, and two of
    its channels would overwrite each other.
    """
    deadline = time.monotonic() + timeout
    stdin = subprocess.DEVNULL if os.isatty(0) else None
    child = start(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    chunks: SimpleQueue[tuple[BinaryIO, bytes]] = SimpleQueue()
    try:
        sources = ((child.stdout, stdout), (child.stderr, stderr))
        for source, sink in sources:
            assert source is not None
            Thread(target=_drain, args=(os.dup(source.fileno()), sink, chunks), daemon=True).start()
        flowing = len(sources)
        while flowing:
            left = deadline - time.monotonic()
            # A slow reader may get the rest of the output of a child that has ended in time.
            if left <= 0 and child.poll() is None:
                return None
            try:
                sink, data = chunks.get(timeout=max(left, 0))
            except Empty:
                return None
            if data:
                sink.write(data)
                sink.flush()
            else:
                flowing -= 1
        try:
            return child.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            return None
    finally:
        stop(child)


def _drain(source: int, sink: BinaryIO, chunks: "SimpleQueue[tuple[BinaryIO, bytes]]") -> None:
    """Queue the data from *source*, and an empty chunk at its end.

    QEMU must never wait for the reader of our output. A guest can power off with megabytes still in a virtqueue, and
    QEMU then has no time to empty it.
    """
    with open(source, "rb", buffering=0) as stream:
        while data := stream.read(1 << 16):
            chunks.put((sink, data))
    chunks.put((sink, b""))


def run_tool(
    argv: Sequence[str], doing: str, *, env: Mapping[str, str] | None = None, harmless: str | None = None
) -> str:
    """Run a short program and return its output.

    Args:
        argv: the program with its arguments.
        doing: what it is for, as the beginning of a sentence about its failure.
        env: its environment; ours by default.
        harmless: the end of an error line that is no failure. If all error lines end so, the output counts.

    Raises:
        LabError: it failed; the sentence has *doing* and the first thing the program complained of.
    """
    child = start(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = (stream.decode(errors="replace") for stream in child.communicate())
    finally:
        stop(child, grace=5)
    if child.returncode != 0:
        if out_of_space(errors):
            raise LabError(f"{doing}: no space left on the disk; {SPACE_REMEDY}")
        if harmless and errors and all(line.endswith(harmless) for line in errors.splitlines()):
            return output
        lines = (errors.strip() or output.strip() or f"exit status {child.returncode}").splitlines()
        # The first error line names the cause. apt marks its errors with E:, after warnings about other things.
        cause = next((line for line in lines if line.startswith("E: ")), lines[0])
        raise LabError(f"{doing}: {cause.strip()}")
    return output


def out_of_space(text: str) -> bool:
    """Return whether a program's messages say that the disk is full."""
    return "No space left on device" in text or "Disk quota exceeded" in text


@contextmanager
def space_explained(directory: Path) -> Iterator[None]:
    """Explain a full disk to the caller of the block, which writes below *directory*. The error of a write names no
    file, and reads as if the output could not be written.

    Raises:
        LabError: the disk is full.
    """
    try:
        yield
    except OSError as failure:
        if out_of_space(str(failure)):
            raise LabError(f"no space left on the disk of {directory}; {SPACE_REMEDY}") from failure
        raise


def space_note(directory: Path) -> str:
    """Return a remark if the disk of *directory* is full, which can be why a guest ended; else an empty text."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    full = shutil.disk_usage(existing).free < _SMALLEST_FILE
    return f" (no space is left on the disk of {directory}; {SPACE_REMEDY})" if full else ""


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on the file *path*. Call *waiting* if another process holds it.

    The kernel drops the lock when its holder dies. The protected files may then be incomplete.
    """
    paths.make(path.parent)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def interact(argv: Sequence[str]) -> int:
    """Run *argv* on this terminal to its end, restore the terminal, and return the exit status."""
    settings = termios.tcgetattr(0)
    child = start(argv)
    try:
        return child.wait()
    finally:
        stop(child)
        termios.tcsetattr(0, termios.TCSAFLUSH, settings)
