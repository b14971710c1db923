# SPDX-License-Identifier: MIT
"""Read files of sysfs and procfs that may disappear at any moment.

Other programs bind and unbind drivers, and unplug devices. A file that disappears during a read counts as missing. A
file that cannot be read because this process has too many open files does not: that is an error, with its remedy.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from iommufd_py.base.errors import ToolError, reason_of
from iommufd_py.base.shown import shown


def kernel_text(file: Path) -> str:
    """Return the text of a file that every kernel has.

    Raises:
        ToolError: too many files are open.
        OSError: the file cannot be read for another reason.
    """
    with limit_named(file):
        return file.read_text("utf-8", "replace")


def attribute_text(attribute: Path) -> str:
    """Return the text of an attribute without surrounding white space; empty if the file does not exist."""
    with _may_be_gone(attribute):
        # Other programs choose names of processes and paths, which need not be UTF-8.
        return attribute.read_text("utf-8", "surrogateescape").strip()
    return ""


def attribute_number(attribute: Path) -> int:
    """Return the number in an attribute; 0 if the file does not exist.

    Raises:
        ToolError: the file has another text.
    """
    text = attribute_text(attribute)
    if not re.fullmatch("-?[0-9]{1,20}|", text):
        raise ToolError(f"{attribute} should have a number, and has {shown(text)}: is another file mounted there?")
    return int(text or 0)


def target_name(link: Path) -> str:
    """Return the last part of a link's target, such as the name of a ``driver``; empty if there is no link."""
    with _may_be_gone(link):
        return os.path.basename(os.readlink(link))
    return ""


def entries(directory: Path, pattern: str = "*") -> list[Path]:
    """Return the entries of a directory that match *pattern*, sorted by name; none if this user may not list it.

    It is not Path.glob(): from Python 3.13 on, that finds nothing where it cannot read, whatever the reason.
    """
    first, _, rest = pattern.partition("/")
    found: list[Path] = []
    with _may_be_gone(directory), contextlib.suppress(NotADirectoryError, PermissionError):
        if set(first) & set("*?["):
            found = sorted(directory / name for name in os.listdir(directory) if fnmatchcase(name, first))
        elif (directory / first).exists():
            found = [directory / first]
    return [match for path in found for match in entries(path, rest)] if rest else found


def process_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on; none if the process has ended. Source: proc(5).

    The second field is the name of the program in parentheses, and the name can contain blanks and parentheses.
    """
    return attribute_text(Path("/proc", str(pid), "stat")).rpartition(")")[2].split()


def start_ticks(pid: int) -> int | None:
    """Return the start of a process in clock ticks since boot; None if it has ended, also if it is a zombie."""
    fields = process_fields(pid)
    return None if not fields or fields[0] == "Z" else int(fields[19])


def chosen_word(text: str) -> str:
    """Return the word in brackets: ``madvise`` of ``always [madvise] never``; empty if there is none."""
    chosen = re.search(r"\[(\w+)\]", text)
    return chosen[1] if chosen else ""


def cpuinfo_field(cpuinfo: str, name: str) -> str:
    """Return a field of the first CPU in the text of /proc/cpuinfo, for example ``model name``; empty without it."""
    match = re.search(rf"^{name}\s*: (.*)$", cpuinfo, re.MULTILINE)
    return match[1] if match else ""


@contextlib.contextmanager
def limit_named(file: Path | str) -> Iterator[None]:
    """Name *file* and the remedy if no more files can be opened.

    Raises:
        ToolError: too many files are open.
    """
    try:
        yield
    except OSError as failure:
        if failure.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise ToolError(f"{file} cannot be opened: {reason_of(failure)}") from failure


@contextlib.contextmanager
def _may_be_gone(file: Path) -> Iterator[None]:
    try:
        with limit_named(file):
            yield
    except OSError as failure:
        # ENODEV, ESRCH: the device or the process disappeared while the file was open.
        if failure.errno not in (errno.ENOENT, errno.ENODEV, errno.ESRCH):
            raise
