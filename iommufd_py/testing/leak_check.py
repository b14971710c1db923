# SPDX-License-Identifier: MIT
"""Checks after a kernel test: nothing is left behind, and the kernel reported nothing."""

import errno
import gc
import os
import re
from collections.abc import Sequence

from iommufd_py.base.errors import BackingError, IommufdError, NotSupportedError, UnsupportedIoctlError
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
        expected: what the kernel is expected to report, as regular expressions on the first line of a report.
    """

    def __init__(self, expected: Sequence[str] = ()) -> None:
        self._expected = [re.compile(pattern) for pattern in expected]
        self._buffers: list[DmaBuffer] = []
        self._log: KernelLog | None = None
        self.unwatched = ""
        try:
            self._log = KernelLog()
        except OSError as failure:
            self.unwatched = f"the kernel log is not watched: {KMSG}: {failure.strerror}"
        self._pinned = pinned_bytes()
        self._descriptors = _descriptors()

    def buffer(self, length: int, backing: Backing = Backing.ANON_4K, *, prefault: bool = True) -> DmaBuffer:
        """Make a buffer that is closed at the end, when nothing may have its pages pinned any more."""
        buffer = DmaBuffer(length, backing, prefault=prefault)
        self._buffers.append(buffer)
        return buffer

    def complaints(self, *, leaks: bool = True) -> list[str]:
        """Return the faults found after the test, and close the kernel log.

        Args:
            leaks: whether to look for what was left behind; what a failed test opened, its traceback still holds.
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
            # What only waits for the garbage collector is not left behind.
            gc.collect()
            now, pinned = _descriptors(), pinned_bytes()
        found = [f"descriptor {fd} was left open: {now[fd]}" for fd in sorted(now.keys() - self._descriptors.keys())]
        gone = sorted(self._descriptors.keys() - now.keys())
        found += [f"descriptor {fd} was closed, which is not the test's: {self._descriptors[fd]}" for fd in gone]
        if pinned != self._pinned:
            found.append(f"{pinned - self._pinned:+} bytes stay pinned (VmPin of /proc/self/status)")
        return found

    def _reports(self, text: str) -> list[str]:
        reports: list[Splat] = [*scan_kernel_log(text), *scan_dma_faults(text)]
        found = [
            f"the kernel reported a {report.kind} meanwhile:\n{report.text}"
            for report in reports
            if not any(pattern.search(report.title) for pattern in self._expected)
        ]
        found += [
            f"the kernel was expected to report {pattern.pattern!r} and did not"
            for pattern in self._expected
            if not any(pattern.search(report.title) for report in reports)
        ]
        return found


def _descriptors() -> dict[int, str]:
    """Return the open descriptors and their files, but for the locks of devices that the pool keeps between tests."""
    found = {}
    locks = lock_descriptors()
    for entry in os.listdir(_DESCRIPTORS):
        if int(entry) in locks:
            continue
        try:
            found[int(entry)] = os.readlink(f"{_DESCRIPTORS}/{entry}")
        except FileNotFoundError:
            continue  # the one that the listing itself used
    return found


def _is_pinned(buffer: DmaBuffer) -> bool:
    """Ask the kernel whether any page of *buffer* is pinned; False where it has no such question."""
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
