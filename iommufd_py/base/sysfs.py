# SPDX-License-Identifier: MIT
"""Files of sysfs and procfs whose owner may go away while they are read.

Others bind and unbind drivers, and unplug devices, at any moment: what has gone reads as what was never there.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


def attribute_text(attribute: Path) -> str:
    """Return what an attribute says, without white space around it; empty if there is none."""
    with _may_be_gone():
        return attribute.read_text().strip()
    return ""


def target_name(link: Path) -> str:
    """Return the name of what a link like ``driver`` leads to; empty if there is none."""
    with _may_be_gone():
        return os.path.basename(os.readlink(link))
    return ""


def entries(directory: Path, pattern: str = "*") -> list[Path]:
    """Return what is in a directory and matches *pattern*, by name; nothing if there is no such directory."""
    with _may_be_gone():
        return sorted(directory.glob(pattern))
    return []


@contextlib.contextmanager
def _may_be_gone() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        # ENODEV: the owner went away when the file was open.
        if failure.errno not in (errno.ENOENT, errno.ENODEV):
            raise
