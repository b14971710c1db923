# SPDX-License-Identifier: MIT
"""The interface through which long work reports its progress."""

from typing import Protocol


class Progress(Protocol):
    """Receives the steps of a build. The command line shows them; tests and scripts ignore them."""

    def step(self, text: str, total: int | None = None) -> None:
        """A new step began. *total* is the value that :meth:`advance` will reach, if it is known."""

    def advance(self, done: int) -> None:
        """The current step has reached *done*."""

    def note(self, text: str) -> None:
        """Show one sentence to the reader."""


class Silent:
    """Shows nothing."""

    def step(self, text: str, total: int | None = None) -> None:
        """See :class:`Progress`."""

    def advance(self, done: int) -> None:
        """See :class:`Progress`."""

    def note(self, text: str) -> None:
        """See :class:`Progress`."""
