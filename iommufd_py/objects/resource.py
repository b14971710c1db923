# SPDX-License-Identifier: MIT
"""Open and closed, what stands on what, and the order in which things are given back."""

import contextlib
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn, Self

from iommufd_py.base.errors import ArgumentTypeError, ClosedError, ToolError
from iommufd_py.base.signals import held_signals


class Resource:
    """Something of the kernel's that is held until :meth:`close`.

    A resource names those it stands on; closing one of them closes first whatever stands on it, newest first, so the
    kernel never sees an order that it refuses. Closing twice is no error; using it after that raises
    :class:`~iommufd_py.base.errors.ClosedError`. ``__del__`` only warns: it never closes anything, since the garbage
    collector knows no order.

    Threads: only one thread at a time may use a resource, or any resource below or above it. Different trees of
    resources may be used in different threads at the same time.

    Fork: after os.fork() both processes hold the same kernel object, and the child's close() changes it for the parent
    too. Leave the child with os._exit(), or make its own resources there.
    """

    # Of the class until _opened(), so that a constructor that fails leaves nothing that looks open.
    _open = False

    def __init__(self, *stands_on: "Resource") -> None:
        for lower in stands_on:
            if not lower._open:
                lower._check_open()
        self._stands_on = stands_on
        # In the order in which they came; a thousand mappings are each found and dropped at once.
        self._dependents: dict[Resource, None] = {}

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        """Become open when the block is through, which makes the kernel's object.

        A signal that comes meanwhile is raised afterwards, when there is something to close. What the kernel has made
        and nobody knows could not be given back, and would keep what it stands on from that. After a failure close() is
        called, too: one that closes more than this has it done.
        """
        try:
            with held_signals():
                yield
                self._opened()
        except BaseException:
            self.close()
            raise

    def _opened(self) -> None:
        """Say, at the end of a constructor, that there now is something to close."""
        self._open = True
        for lower in self._stands_on:
            lower._dependents[self] = None

    def _release(self) -> None:
        """Give the kernel's object back. Called once, with all dependents closed and this no longer open.

        Raises:
            ToolError: it cannot go now, and stays open.
        """
        raise NotImplementedError

    def _forget(self) -> None:
        """Become closed without asking the kernel, which has dropped the object already."""
        self._open = False
        for lower in self._stands_on:
            del lower._dependents[self]

    def _move(self, *stands_on: "Resource") -> None:
        """Stand on other resources from now on."""
        for lower in self._stands_on:
            del lower._dependents[self]
        self._stands_on = stands_on
        for lower in stands_on:
            lower._dependents[self] = None

    @property
    def closed(self) -> bool:
        """Whether there is nothing left to close."""
        return not self._open

    def _check_open(self) -> None:
        if not self._open:
            raise ClosedError(f"{self!r} is closed; open a new one")

    def close(self) -> None:
        """Close the resources that stand on this one, newest first, then this one.

        Signals are held until everything is closed, so that Ctrl-C leaves nothing half closed. A failure does not stop
        the rest: close() tries everything, then raises the signal's exception, or else the first failure.
        """
        if not self._open:
            return
        with held_signals():
            failures = self._close_dependents()
            # Before the release, which must not run a second time, whatever it raises.
            self._forget()
            try:
                self._release()
            except ToolError as refusal:
                self._opened()
                failures.append(refusal)
            except BaseException as failure:
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
                # In a program with several threads a signal may get through. It may have come before the release.
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
        self.close()

    def __del__(self) -> None:
        if self._open:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)


def _is_failure(exception: BaseException) -> bool:
    """Whether it is an error, and not a signal that ends the program."""
    return isinstance(exception, Exception)
