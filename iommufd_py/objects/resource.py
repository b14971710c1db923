# SPDX-License-Identifier: MIT
"""The base of everything that must be closed: open or closed, the resources below it, and the order of closing."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn, Self

from iommufd_py.base.errors import ArgumentTypeError, ClosedError, ToolError
from iommufd_py.base.signals import held_signals


class Resource:
    """A kernel object, or a file, that the program holds until :meth:`close`.

    A resource names the resources that it uses: a mapping names its buffer and its IOAS. close() first closes the
    users of a resource, newest first, because the kernel refuses another order. A second close() does nothing. Use
    after close() raises :class:`~iommufd_py.base.errors.ClosedError`. ``__del__`` only warns and closes nothing: the
    garbage collector does not know the order.

    Threads: only one thread at a time may use a resource, or any resource below or above it. Different trees of
    resources may be used in different threads at the same time.

    Fork: after os.fork() both processes hold the same kernel object, and the child's close() changes it for the parent
    too. So a child that leaves a `with` block of its parent, for example with sys.exit(), closes nothing.
    """

    # The present process: an attribute, because a call would cost each of thousands of mappings some time.
    _process = os.getpid()
    # An attribute of the class until _mark_open(), so that an object looks closed if its constructor fails.
    _open = False
    # Whether the object still exists after a _release() that raised ToolError, so that close() can be tried again.
    _stays_open = True

    def __init__(self, *stands_on: "Resource") -> None:
        for lower in stands_on:
            if not lower._open:
                lower._check_open()
        self._stands_on = stands_on
        self._maker = self._process
        # A dict keeps the order of creation, and finds one of a thousand mappings at once.
        self._dependents: dict[Resource, None] = {}

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        """Register the resource as open at the end of the block, which makes the kernel object.

        Signals are held during the block. KeyboardInterrupt before the registration would leak the kernel object, which
        pins its parents. On failure close() runs, so that a subclass can clean up.
        """
        try:
            with held_signals():
                yield
                self._mark_open()
        except BaseException:
            self.close()
            raise

    def _mark_open(self) -> None:
        """Register the resource as open, at the end of a constructor."""
        self._open = True
        for lower in self._stands_on:
            lower._dependents[self] = None

    def _release(self) -> None:
        """Give the kernel object back. close() calls it once, after all dependents are closed.

        Raises:
            ToolError: the object cannot be given back now, and stays open.
        """
        raise NotImplementedError

    def _mark_closed(self) -> None:
        """Mark the resource closed without an ioctl: the kernel has already dropped the object."""
        self._open = False
        for lower in self._stands_on:
            del lower._dependents[self]

    def _move(self, *stands_on: "Resource") -> None:
        """Replace the resources that this one stands on."""
        for lower in self._stands_on:
            del lower._dependents[self]
        self._stands_on = stands_on
        for lower in stands_on:
            lower._dependents[self] = None

    @property
    def closed(self) -> bool:
        """Whether the resource is closed."""
        return not self._open

    def _check_open(self) -> None:
        if not self._open:
            raise ClosedError(f"{self!r} is closed: open a new one")

    def close(self) -> None:
        """Close the resources that stand on this one, newest first, then this one.

        Signals are held until everything is closed, so that Ctrl-C leaves nothing half closed. A failure does not stop
        the rest: close() tries everything, then raises the signal's exception, or else the first failure.
        """
        if not self._open:
            return
        with held_signals():
            failures = self._close_dependents()
            # Mark it closed before the release, because the release must not run a second time, even after an error.
            self._mark_closed()
            try:
                self._release()
            except BaseException as failure:
                if self._stays_open and isinstance(failure, ToolError):
                    self._mark_open()
                failures.append(failure)
            if failures:
                raise min(failures, key=_is_failure)

    def _close_dependents(self) -> list[BaseException]:
        failures: list[BaseException] = []
        for dependent in reversed(tuple(self._dependents)):
            while dependent._open:
                try:
                    dependent.close()
                except Exception as failure:
                    failures.append(failure)
                    break
                # In a program with several threads a signal can still be handled here, possibly before the release.
                except BaseException as interruption:
                    failures.append(interruption)
        return failures

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise ArgumentTypeError(
            f"{type(self).__name__} cannot be copied or pickled: two objects would close the same kernel object; "
            "pass the object itself, or open a new one in the other process"
        )

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._maker == self._process:
            self.close()

    def __del__(self) -> None:
        if self._open and self._maker == self._process:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)


class OpenFile(Resource):
    """A resource that is an open file. Closing it closes its file descriptor."""

    _fd: int

    def fileno(self) -> int:
        """Return the file descriptor."""
        self._check_open()
        return self._fd

    def _release(self) -> None:
        os.close(self._fd)


def _note_process() -> None:
    Resource._process = os.getpid()


os.register_at_fork(after_in_child=_note_process)


def _is_failure(exception: BaseException) -> bool:
    """Return whether the exception is an error. The exception of a signal, which ends the program, is none."""
    return isinstance(exception, Exception)
