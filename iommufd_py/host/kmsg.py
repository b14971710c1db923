# SPDX-License-Identifier: MIT
"""Read the running kernel's log, from now on."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from iommufd_py.base.sysfs import limit_named
from iommufd_py.objects.resource import OpenFile

KMSG = Path("/dev/kmsg")
# Documentation/admin-guide/clearing-warn-once.rst
_CLEAR_WARN_ONCE = Path("/sys/kernel/debug/clear_warn_once")
# Longer than any record: the kernel refuses a read that is too short.
_RECORD_BYTES = 8192
_HEAD = re.compile(rb"[0-9]+,([0-9]{1,20}),([0-9]{1,20})(?:,|$)(?:.*,caller=([TC][0-9]{1,10})(?:,|$))?")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def record_text(record: bytes) -> str:
    """Return one record of /dev/kmsg as a console shows it: each line with its time, and with its caller if known.

    Source: Documentation/ABI/testing/dev-kmsg: ``prefix,number,microseconds,flags;message``, then lines of key=value.
    """
    head, _, rest = record.partition(b";")
    message = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), rest.partition(b"\n")[0])
    known = _HEAD.match(head)
    caller = f"[{known[3].decode():>6}] " if known and known[3] else ""
    prefix = f"[{int(known[2]) / 1e6:12.6f}] {caller}" if known else ""
    return "\n".join(prefix + line for line in message.decode(errors="replace").split("\n"))


class KernelLog(OpenFile):
    """The messages of the kernel, from now on.

    Args:
        whole: begin with the oldest message that the kernel still has.

    Attributes:
        lost: the least number of messages that the kernel overwrote before they were read.

    Raises:
        ToolError: too many files are open.
        OSError: this process has no permission to read the log (dmesg_restrict), or there is no log.
    """

    def __init__(self, *, whole: bool = False) -> None:
        super().__init__()
        self.lost = 0
        self._next: int | None = None
        with self._opening(), limit_named(KMSG):
            self._fd = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not whole:
            os.lseek(self._fd, 0, os.SEEK_END)

    def __repr__(self) -> str:
        return "KernelLog()"

    def text(self) -> str:
        """Return the messages since the last call."""
        self._check_open()
        return "\n".join(self._records())

    def restart(self) -> None:
        """Discard the messages until now. WARN_ONCE() and pr_warn_once() print their messages once more from now on.

        Without debugfs, those that were printed since the boot stay silent.
        """
        with contextlib.suppress(FileNotFoundError, PermissionError):
            _CLEAR_WARN_ONCE.write_text("1")
        lost = self.lost
        self.text()
        self.lost = lost

    def _records(self) -> Iterator[str]:
        while True:
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                return
            except OSError as failure:
                # The kernel has overwritten unread records. The next read continues with the oldest record left.
                if failure.errno != errno.EPIPE:
                    raise
                self.lost += self._next is None  # The number of the first one is not known.
                continue
            known = _HEAD.match(record.partition(b";")[0])
            if known:
                number = int(known[1])
                self.lost += 0 if self._next is None else max(number - self._next, 0)
                self._next = number + 1
            yield record_text(record)
