# SPDX-License-Identifier: MIT
"""Making the kernel's allocations fail one by one, and restoring what was set for it.

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
# Any allocation may fail, those that may sleep and single pages too; and no report of each in the kernel log.
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
    """Fault injection, for the time of a ``with`` block.

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
        """Let the allocation of this *number*, from 1, that this thread makes in the block fail; see ``happened``."""
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
    """Let nothing fail any more, and tell whether something did before this."""
    try:
        happened = int(os.pread(fd, 16, 0)) == 0
        os.pwrite(fd, b"0", 0)
    except OSError as failure:
        if failure.errno not in (errno.EFAULT, errno.ENOMEM):
            raise
        # The fault hit our own reading or writing of the number, so it is spent, and not in the block.
        os.pwrite(fd, b"0", 0)
        return False
    return happened
