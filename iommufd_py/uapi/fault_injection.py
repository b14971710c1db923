# SPDX-License-Identifier: MIT
"""Use the kernel's fault injection: let the nth allocation of this thread fail.

Source: Documentation/fault-injection/fault-injection.rst.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.errors import SkipError

FAIL_NTH = Path("/proc/thread-self/fail-nth")
"""The number of this thread's next allocation that fails."""

_DEBUGFS = Path("/sys/kernel/debug")
# Every allocation may fail, including those that may sleep and single pages, and no failure is reported in the kernel
# log.
_SETTINGS = {
    "failslab/ignore-gfp-wait": "N",
    "fail_page_alloc/ignore-gfp-wait": "N",
    "fail_page_alloc/ignore-gfp-highmem": "N",
    "fail_page_alloc/min-order": "0",
}


def injection_problem() -> str | None:
    """Return the reason why fault injection does not work here; None if it works."""
    if not FAIL_NTH.exists():
        return "this kernel has no fault injection: it needs CONFIG_FAULT_INJECTION, as the lab's kernels have it"
    if not (_DEBUGFS / "failslab").is_dir():
        return "fault injection needs root, debugfs mounted, CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS"
    return None


@contextlib.contextmanager
def injection_settings() -> Iterator[None]:
    """Allow every allocation to fail, without a report, while the block runs; then restore the settings."""
    wanted = {
        **{_DEBUGFS / name: value for name, value in _SETTINGS.items()},
        **dict.fromkeys(_DEBUGFS.glob("fail*/verbose"), "0"),
    }
    with contextlib.ExitStack() as restore:
        for file, value in wanted.items():
            if file.exists():
                restore.callback(file.write_text, file.read_text().strip())
                file.write_text(value)
        yield


class FaultInjection:
    """Fault injection for the time of a ``with`` block.

    Attributes:
        happened: whether an allocation failed in the last block of :meth:`at`.

    Raises:
        SkipError: the kernel has no fault injection.
    """

    def __init__(self) -> None:
        self.happened = False
        self._settings = contextlib.ExitStack()

    def __enter__(self) -> "FaultInjection":
        problem = injection_problem()
        if problem is not None:
            raise SkipError(problem)
        self._settings.enter_context(injection_settings())
        return self

    def __exit__(self, *exception: object) -> None:
        self._settings.close()

    @contextlib.contextmanager
    def at(self, number: int) -> Iterator[None]:
        """Fail allocation number *number*, from 1, that this thread makes in the block, and set ``happened``."""
        fd = os.open(FAIL_NTH, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, str(number).encode())
            try:
                yield
            finally:
                self.happened = _disarm(fd)
        finally:
            os.close(fd)


def _disarm(fd: int) -> bool:
    """Disarm the injection. Return whether an allocation has failed."""
    try:
        happened = int(os.pread(fd, 16, 0)) == 0
        os.pwrite(fd, b"0", 0)
    except OSError as failure:
        if failure.errno not in (errno.EFAULT, errno.ENOMEM):
            raise
        # The failure hit this read or write of the number itself, and none happened in the block.
        os.pwrite(fd, b"0", 0)
        return False
    return happened
