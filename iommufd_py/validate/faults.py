# SPDX-License-Identifier: MIT
"""Fault injection: let the kernel's allocations fail one by one.

Source: Documentation/fault-injection/fault-injection.rst.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from iommufd_py.base.errors import SkipError

_DEBUGFS = Path("/sys/kernel/debug")
_FAIL_NTH = Path("/proc/thread-self/fail-nth")
# Any allocation may fail, also one that may sleep and one of a single page. The kernel log has no report of each.
_KNOBS = {
    "failslab/ignore-gfp-wait": "N",
    "fail_page_alloc/ignore-gfp-wait": "N",
    "fail_page_alloc/ignore-gfp-highmem": "N",
    "fail_page_alloc/min-order": "0",
    "failslab/verbose": "0",
    "fail_page_alloc/verbose": "0",
    "fail_iommufd/verbose": "0",
}


class Faults:
    """Fault injection in a ``with`` block; the settings of before are restored at its end.

    Raises:
        SkipError: the kernel has no fault injection.
    """

    def __init__(self) -> None:
        self.happened = False

    def __enter__(self) -> "Faults":
        if not (_DEBUGFS / "failslab").exists() or not _FAIL_NTH.exists():
            raise SkipError("this kernel has no fault injection: it needs CONFIG_FAILSLAB, and debugfs mounted")
        with ExitStack() as stack:
            for knob, value in _KNOBS.items():
                file = _DEBUGFS / knob
                if file.exists():
                    stack.callback(file.write_text, file.read_text())
                    file.write_text(value)
            self._restore = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore.close()

    @contextmanager
    def at(self, number: int) -> Iterator[None]:
        """Let one allocation of this thread in the block fail, by its *number* from 1; ``happened`` tells if it did."""
        fd = os.open(_FAIL_NTH, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, str(number).encode())
            try:
                yield
            finally:
                self.happened = _stop(fd)
        finally:
            os.close(fd)


def _stop(fd: int) -> bool:
    """End the injection, and tell whether an allocation failed."""
    try:
        happened = int(os.pread(fd, 16, 0)) == 0
        os.pwrite(fd, b"0", 0)
    except OSError as failure:
        if failure.errno not in (errno.EFAULT, errno.ENOMEM):
            raise
        # The fault hit our own access to the file, so no allocation in the block failed.
        os.pwrite(fd, b"0", 0)
        return False
    return happened
