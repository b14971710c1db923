# SPDX-License-Identifier: MIT
"""Write a file completely or not at all."""

import os
import secrets
import stat
import sys
from pathlib import Path

from iommufd_py.base.errors import ToolError

MOST_INPUT_BYTES = 1 << 28
"""The size limit of an input file. A result with ten rows of a million samples is smaller."""

STDOUT = Path("-")
"""The name of an output file that means standard output."""


def is_regular(path: Path) -> bool:
    """Return whether *path* is, or would become, a regular file: not standard output, a device, a pipe or a socket."""
    if path == STDOUT:
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True
    except OSError as failure:
        raise _cannot_write(path, failure) from failure


def read_file(path: Path, most_bytes: int = MOST_INPUT_BYTES) -> bytes:
    """Return the content of a file that a person named; a pipe is read to its end.

    Raises:
        OSError: it cannot be read.
        ToolError: it has more than *most_bytes*, for example /dev/zero.
    """
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ToolError(f"{path} is larger than {most_bytes >> 20} MiB: give a file that this tool wrote")
    return content


def write_file(path: Path, content: bytes) -> None:
    """Write *content* to *path*; a reader of a regular file sees the old content or the new, never a part.

    A symbolic link is followed. A regular file is replaced by a new one with its mode and owner. A device, a pipe or a
    socket is written to. ``-`` is standard output.

    Raises:
        ToolError: the file cannot be written. The old content is then unchanged, and no temporary file is left.
    """
    if path == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    try:
        target = Path(os.path.realpath(path))
        try:
            present = target.stat()
        except FileNotFoundError:
            present = None
        if present is None or stat.S_ISREG(present.st_mode):
            _replace(target, content, present)
        else:
            _write_into(target, content)
    except OSError as failure:
        raise _cannot_write(path, failure) from failure


def _write_into(target: Path, content: bytes) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(content)


def _replace(target: Path, content: bytes, present: os.stat_result | None) -> None:
    # O_EXCL and an unpredictable name prevent an attack: nobody can place a link there in advance.
    temporary = target.with_name(f".iommufd-{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            if present is not None:
                _keep_owner_and_mode(descriptor, present)
            file.flush()
            os.fsync(descriptor)  # A full disk causes an error here at the latest.
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _keep_owner_and_mode(descriptor: int, present: os.stat_result) -> None:
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (present.st_uid, present.st_gid):
        os.fchown(descriptor, present.st_uid, present.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(present.st_mode))


def _cannot_write(path: Path, failure: OSError) -> ToolError:
    return ToolError(f"{path} cannot be written: {failure.strerror}; choose another file")
