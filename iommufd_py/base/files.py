# SPDX-License-Identifier: MIT
"""Read and write the files that a person names. A regular file is written completely or not at all."""

import contextlib
import errno
import os
import re
import secrets
import select
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.errors import ToolError, reason_of
from iommufd_py.base.privilege import permission_remedy
from iommufd_py.base.shown import printable
from iommufd_py.base.units import format_bytes

MOST_INPUT_BYTES = 1 << 28
"""The size limit of an input file. A result with ten rows of a million samples is smaller."""

STDIN = Path("/dev/stdin")
"""The name of standard input, for :func:`read_file`."""

STDOUT = Path("-")
"""The name of an output file that means standard output."""

# A wait for another program is no surprise to a person who sees the reason after this time.
_TELL_AFTER_SECONDS = 2
_PIECE_BYTES = 1 << 20
# The kernel also gives up there: MAXSYMLINKS in include/linux/namei.h.
_MOST_LINKS = 40
_PROC = Path("/proc")
# Without the bits that let a program run as its owner: the new content is not a program.
_PERMISSIONS = 0o777


def is_regular(path: Path) -> bool:
    """Return whether *path* is, or would become, a regular file: no open descriptor, device, pipe or socket.

    Raises:
        ToolError: nothing can be written there.
    """
    if path == STDOUT:
        return False
    try:
        target = _followed(path)
        mode = os.stat(target).st_mode
        regular = isinstance(target, Path) and stat.S_ISREG(mode)
        if regular:
            _check_protection(path)
            _check_directory(path)
        return regular
    except FileNotFoundError:
        _check_directory(path)
        return True
    except OSError as failure:
        raise cannot_write(path, failure) from failure


def _check_protection(file: Path) -> None:
    """Let the kernel refuse a file without the right to write: with the right to its directory it can be replaced."""
    os.close(os.open(file, os.O_WRONLY | os.O_CLOEXEC))


def _check_directory(path: Path) -> None:
    """Check, before a long measurement, that a new file can be made."""
    directory = _followed(path)
    assert isinstance(directory, Path)  # A descriptor's file exists.
    try:
        # Only the kernel knows all reasons: rights, read-only file systems, procfs.
        descriptor, temporary = tempfile.mkstemp(prefix=".iommufd-", dir=directory.parent)
    except OSError as failure:
        raise cannot_write(path, failure) from failure
    os.close(descriptor)
    os.unlink(temporary)


def read_file(path: Path, most_bytes: int = MOST_INPUT_BYTES) -> bytes:
    """Return the content of a file that a person named; a pipe is read to its end.

    ``/dev/stdin`` and ``/dev/fd/5`` are these descriptors, from their positions on. A new open of them would refuse a
    socket, and a file or a pipe of another user.

    Raises:
        OSError: it cannot be read. The error names the file.
        ToolError: it has more than *most_bytes*, for example /dev/zero.
    """
    own = own_descriptor(path)
    status = os.stat(path if own is None else own)
    # A file of procfs has no size, and can wait for data as a pipe does. A thread for each file would cost too much.
    may_wait = not (stat.S_ISREG(status.st_mode) and status.st_size)
    wait = _told_while_it_waits(f"waiting for data from {path}") if may_wait else contextlib.nullcontext()
    content = bytearray()
    with wait, open(path if own is None else os.dup(own), "rb") as file:
        # In pieces: one read of the limit would take that much memory at once.
        try:
            for piece in read_pieces(file.fileno()):
                content += piece
                if len(content) > most_bytes:
                    break
        except OSError as failure:
            # The error of a read names no file. The command line takes an error without a file for one of the output.
            failure.filename = str(path)
            raise
    if len(content) > most_bytes:
        raise ToolError(f"{path} is larger than {format_bytes(most_bytes)}: give another file")
    return bytes(content)


def read_pieces(descriptor: int) -> Iterator[bytes]:
    """Yield the data of a descriptor up to its end. A caller can have made it non-blocking.

    Raises:
        OSError: it cannot be read.
    """
    while True:
        try:
            piece = os.read(descriptor, _PIECE_BYTES)
        except BlockingIOError:
            ready = select.poll()
            ready.register(descriptor, select.POLLIN)
            ready.poll()
            continue
        if not piece:
            return
        yield piece


def own_descriptor(path: Path) -> int | None:
    """Return the number of our descriptor that *path* names: 0 for ``/dev/stdin`` and ``/dev/fd/0``. None for a
    file."""
    if path == STDIN:
        return 0  # Also where /dev has no such link, as in a guest without udev.
    return next((int(one.name) for one in _way(path) if _is_descriptor(one)), None)


def _way(path: Path) -> Iterator[Path]:
    """Yield *path*, then the target of each link on the way. Each has the real path of its directory."""
    for _ in range(_MOST_LINKS):
        path = Path(os.path.realpath(path.parent), path.name)
        yield path
        if not os.path.islink(path):
            return
        path = path.parent / os.readlink(path)


def _is_descriptor(path: Path) -> bool:
    of_this_process = path.parent == Path(os.path.realpath("/proc/self/fd"))
    return of_this_process and re.fullmatch(r"[0-9]{1,9}", path.name) is not None


def write_file(path: Path, content: bytes) -> None:
    """Write *content* to *path*; a reader of a regular file sees the old content or the new, never a part.

    A symbolic link is followed, unless another user may have put it there. A regular file is replaced by a new one with
    its mode, and with its owner if this process may set that. A device, a pipe or a socket is written to. ``-`` is
    standard output, and ``/dev/stdout`` and ``/dev/fd/5`` are these descriptors.

    Raises:
        ToolError: the file cannot be written. The old content is then unchanged, and no temporary file is left.
    """
    if path == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    try:
        target = _followed(path)
        if isinstance(target, int):
            sys.stdout.flush()
            _write_into(os.dup(target), content)
            return
        try:
            present = target.stat()
        except FileNotFoundError:
            present = None
        if present is None or stat.S_ISREG(present.st_mode):
            _replace(target, content, present)
        else:
            with _told_while_it_waits(f"waiting for a reader of {path}"):
                _write_into(os.open(target, os.O_WRONLY | os.O_CLOEXEC), content)
    except OSError as failure:
        raise cannot_write(path, failure) from failure


def _followed(path: Path) -> Path | int:
    """Return the file at the end of the links of *path*, or the number of our descriptor. The file may be missing.

    Raises:
        ToolError: a link on the way is not trusted.
    """
    for one in _way(path):
        if _is_descriptor(one):
            # Its link leads to a name that may not exist, such as pipe:[123]; and >> must not lose the old content.
            return int(one.name)
        try:
            link = one.lstat()
        except FileNotFoundError:
            return one
        # A link of another process's descriptor has such a name, too.
        if not stat.S_ISLNK(link.st_mode) or one.is_relative_to(_PROC):
            return one
        _check_link(one, link, os.readlink(one))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _check_link(path: Path, link: os.stat_result, leads_to: str) -> None:
    """Refuse a link that another user put into a directory that everybody can write, such as /tmp.

    The kernel does the same if fs.protected_symlinks is 1 and the kernel itself follows the link.
    """
    directory = path.parent.stat()
    if directory.st_mode & stat.S_IWOTH and link.st_uid not in (os.geteuid(), directory.st_uid):
        raise ToolError(
            f"{path} cannot be written: it is a link to {leads_to} that another user put into a directory that "
            "everybody can write; choose another file"
        )


@contextlib.contextmanager
def _told_while_it_waits(text: str) -> Iterator[None]:
    """Print *text* on stderr if the block takes long: a pipe waits for its other end, and a dead server for ever."""

    def tell() -> None:
        with contextlib.suppress(OSError, ValueError):  # Nobody reads stderr any more.
            print(f"iommufd: {printable(text)}", file=sys.stderr, flush=True)

    timer = threading.Timer(_TELL_AFTER_SECONDS, tell)
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # No more threads are allowed (ulimit -u, ulimit -v).
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()  # A process with a second thread must not fork.


def _write_into(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb") as file:
        file.write(content)


def _replace(target: Path, content: bytes, present: os.stat_result | None) -> None:
    if present is not None:
        _check_protection(target)
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
    # Only root can give a file away. Who may write a file of another user in a shared directory becomes its owner.
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, -1, present.st_gid)
        os.fchown(descriptor, present.st_uid, -1)
    os.fchmod(descriptor, stat.S_IMODE(present.st_mode) & _PERMISSIONS)


def cannot_read(path: Path | str, failure: OSError, otherwise: str = "give another file") -> ToolError:
    """Return the error for a file that a person named as input; *otherwise* is the remedy if no right is missing."""
    remedy = permission_remedy() if isinstance(failure, PermissionError) else otherwise
    return ToolError(f"{path} cannot be read: {reason_of(failure, remedy)}")


def cannot_write(path: Path, failure: OSError) -> ToolError:
    """Return the error for an output file that a person named."""
    return ToolError(f"{path} cannot be written: {reason_of(failure, 'choose another file')}")
