# SPDX-License-Identifier: MIT
"""Run a part of a test while this process can open no file."""

import contextlib
import os
import resource
from collections.abc import Iterator

TOO_MANY = r"Too many open files; raise the limit of open files \(ulimit -n\)"


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Lower the limit of open files to the number of the next one."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
