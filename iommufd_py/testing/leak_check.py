# SPDX-License-Identifier: MIT
"""Check after a kernel test that nothing is left behind, and that the kernel reported no fault."""

import errno
import gc
import os
import re
from collections.abc import Sequence

from iommufd_py.base.errors import BackingError, IommufdError, NotSupportedError, UnsupportedIoctlError
from iommufd_py.base.units import counted
from iommufd_py.host import pinned_bytes
from iommufd_py.host.kernel_log import Splat, scan_dma_faults, scan_kernel_log
from iommufd_py.host.kmsg import KMSG, KernelLog
from iommufd_py.mock import check_refs
from iommufd_py.objects.buffer import Backing, DmaBuffer
from iommufd_py.objects.iommufd import Iommufd
from iommufd_py.pci.lending import lock_descriptors

_DESCRIPTORS = "/proc/self/fd"


class LeakCheck:
    """The state before a test, and the buffers of the test; :meth:`complaints` compares it with the state afterwards.

    Args:
        expected: regular expressions for the first lines of the reports that the kernel must print.
    """

    def __init__(self, expected: Sequence[str] = ()) -> None:
        self._expected = [re.compile(pattern) for pattern in expected]
        self._buffers: list[DmaBuffer] = []
        self._log: KernelLog | None = None
        self.unwatched = ""
        try:
            self._log = KernelLog()
        except OSError as failure:
            self.unwatched = f"the kernel log is not checked: {KMSG}: {failure.strerror}"
        self._pinned = pinned_bytes()
        self._descriptors = _descriptors()

    def buffer(self, length: int, backing: Backing = Backing.ANON_4K, *, prefault: bool = True) -> DmaBuffer:
        """Make a buffer that is closed at the end of the test. Its pages must not be pinned then."""
        buffer = DmaBuffer(length, backing, prefault=prefault)
        self._buffers.append(buffer)
        return buffer

    def complaints(self, *, leaks: bool = True) -> list[str]:
        """Return the faults found after the test, and close the kernel log.

        Args:
            leaks: whether to look for leaks. After a failed test its traceback still holds open objects.
        """
        found = self._references() if leaks else []
        for buffer in self._buffers:
            try:
                buffer.close()
            except BackingError as failure:
                found += [str(failure)] if leaks else []
        if leaks:
            found += self._leaks()
        if self._log is not None:
            found += self._reports(self._log.text())
            if self._log.lost:
                self.unwatched = (
                    f"the kernel overwrote {counted(self._log.lost, 'message')} of its log before they were read: a "
                    "report can be among them; make the log larger (log_buf_len=4M)"
                )
            self._log.close()
        elif self._expected:
            found.append(self.unwatched)
        return found

    def _references(self) -> list[str]:
        held = [buffer for buffer in self._buffers if not buffer.closed and _is_pinned(buffer)]
        return [f"pages of {buffer!r} at {buffer.user_va:#x} are still pinned" for buffer in held]

    def _leaks(self) -> list[str]:
        now, pinned = _descriptors(), pinned_bytes()
        if (now, pinned) != (self._descriptors, self._pinned):
            # Objects that wait for the garbage collector are not leaks.
            gc.collect()
            now, pinned = _descriptors(), pinned_bytes()
        found = [f"descriptor {fd} was left open: {now[fd]}" for fd in sorted(now.keys() - self._descriptors.keys())]
        gone = sorted(self._descriptors.keys() - now.keys())
        found += [
            f"descriptor {fd} was open before the test, and the test closed it: {self._descriptors[fd]}" for fd in gone
        ]
        if pinned != self._pinned:
            found.append(f"{pinned - self._pinned:+} bytes stay pinned (VmPin of /proc/self/status)")
        return found

    def _reports(self, text: str) -> list[str]:
        reports: list[Splat] = [*scan_kernel_log(text), *scan_dma_faults(text)]
        found = [
            f"the kernel reported a {report.kind} during the test:\n{report.text}"
            for report in reports
            if not any(pattern.search(report.title) for pattern in self._expected)
        ]
        found += [
            f"the kernel did not report {pattern.pattern!r} as expected"
            for pattern in self._expected
            if not any(pattern.search(report.title) for report in reports)
        ]
        return found


def _descriptors() -> dict[int, str]:
    """Return the open descriptors and their files, without the locks of devices that the pool keeps between tests."""
    found = {}
    locks = lock_descriptors()
    for entry in os.listdir(_DESCRIPTORS):
        if int(entry) in locks:
            continue
        try:
            found[int(entry)] = os.readlink(f"{_DESCRIPTORS}/{entry}")
        except FileNotFoundError:
            continue  # This is the descriptor of the listing itself.
    return found


def _is_pinned(buffer: DmaBuffer) -> bool:
    """Ask the kernel whether a page of *buffer* is pinned; False without CONFIG_IOMMUFD_TEST."""
    with Iommufd() as iommufd:
        try:
            check_refs(iommufd, buffer.user_va, buffer.length, pins=0)
        except (UnsupportedIoctlError, NotSupportedError):
            return False
        except IommufdError as failure:
            if failure.errno != errno.EIO:
                raise
            return True
    return False
