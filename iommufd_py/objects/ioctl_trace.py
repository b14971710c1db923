# SPDX-License-Identifier: MIT
"""Report the ioctls that this process issues, in the manner of strace."""

import contextlib
import errno
from collections.abc import Callable, Iterator

from iommufd_py.base.errors import show_argument
from iommufd_py.base.units import format_ns
from iommufd_py.uapi import call
from iommufd_py.uapi.call import IoctlCall


@contextlib.contextmanager
def ioctl_trace(write: Callable[[IoctlCall], None]) -> Iterator[None]:
    """Report every ioctl to *write* while the block runs, in the order in which they end. Blocks may nest.

    A process has one observer: in a program with threads, a block reports the ioctls of all threads.
    """
    before = call.observe_ioctls(None)

    def report(one: IoctlCall) -> None:
        if before is not None:
            before(one)
        write(one)

    call.observe_ioctls(report)
    try:
        yield
    finally:
        call.observe_ioctls(before)


def describe_ioctl(one: IoctlCall) -> str:
    """Return one line for an ioctl: its arguments, result, changed fields and duration."""
    arguments = ", ".join(f"{name}={show_argument(name, value)}" for name, value in one.arguments.items())
    outputs = ", ".join(f"{name}={show_argument(name, value)}" for name, value in one.outputs.items())
    result = str(one.result) if one.result >= 0 else f"-{errno.errorcode.get(-one.result, -one.result)}"
    came_back = f" -> {outputs}" if outputs else ""
    return f"{one.ioctl}({arguments}) on {one.fd} = {result}{came_back}, {format_ns(one.nanoseconds)}"
