# SPDX-License-Identifier: MIT
"""Read files of sysfs and procfs that may disappear at any moment.

Other programs bind and unbind drivers, and unplug devices. A file that disappears during a read counts as missing.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path


def attribute_text(attribute: Path) -> str:
    """Return the text of an attribute without surrounding white space; empty if the file does not exist."""
    with _may_be_gone():
        # Other programs choose names of processes and paths, which need not be UTF-8.
        return attribute.read_text("utf-8", "surrogateescape").strip()
    return ""


def target_name(link: Path) -> str:
    """Return the last part of a link's target, such as the name of a ``driver``; empty if there is no link."""
    with _may_be_gone():
        return os.path.basename(os.readlink(link))
    return ""


def entries(directory: Path, pattern: str = "*") -> list[Path]:
    """Return the entries of a directory that match *pattern*, sorted by name; none if there is no directory."""
    with _may_be_gone():
        return sorted(directory.glob(pattern))
    return []


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
def _may_be_gone() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        # ENODEV, ESRCH: the device or the process disappeared while the file was open.
        if failure.errno not in (errno.ENOENT, errno.ENODEV, errno.ESRCH):
            raise
