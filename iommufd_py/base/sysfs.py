# SPDX-License-Identifier: MIT
"""Read files of sysfs and procfs that may disappear at any moment.

Other programs bind and unbind drivers, and unplug devices. A file that disappears during a read counts as missing.
"""

import contextlib
import errno
import os
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


@contextlib.contextmanager
def _may_be_gone() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        # ENODEV, ESRCH: the device or the process disappeared while the file was open.
        if failure.errno not in (errno.ENOENT, errno.ENODEV, errno.ESRCH):
            raise
