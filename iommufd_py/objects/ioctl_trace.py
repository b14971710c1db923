# SPDX-License-Identifier: MIT
"""Watching the ioctls that this process issues, as strace would show them."""

import contextlib
import errno
from collections.abc import Callable, Iterator

from iommufd_py.base.errors import show_argument
from iommufd_py.base.units import format_ns
from iommufd_py.uapi import call
from iommufd_py.uapi.call import IoctlCall


@contextlib.contextmanager
def ioctl_trace(write: Callable[[IoctlCall], None]) -> Iterator[None]:
    """Have every ioctl reported to *write* meanwhile, in the order they end; who had them before has them, too."""
    before = call.observe(None)

    def report(one: IoctlCall) -> None:
        if before is not None:
            before(one)
        write(one)

    call.observe(report)
    try:
        yield
    finally:
        call.observe(before)


def describe_ioctl(one: IoctlCall) -> str:
    """Return a line for one ioctl: its arguments, its result, what came back, how long it took."""
    arguments = ", ".join(f"{name}={show_argument(name, value)}" for name, value in one.arguments.items())
    outputs = ", ".join(f"{name}={show_argument(name, value)}" for name, value in one.outputs.items())
    result = str(one.result) if one.result >= 0 else f"-{errno.errorcode.get(-one.result, -one.result)}"
    came_back = f" -> {outputs}" if outputs else ""
    return f"{one.ioctl}({arguments}) on {one.fd} = {result}{came_back}, {format_ns(one.nanoseconds)}"
