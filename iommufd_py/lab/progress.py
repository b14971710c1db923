# SPDX-License-Identifier: MIT
"""How long work tells what it is doing."""

from typing import Protocol


class Progress(Protocol):
    """Receives what a build is doing; the command line shows it, tests and scripts ignore it."""

    def step(self, text: str, total: int | None = None) -> None:
        """A new step began; *total* is how far :meth:`advance` will count, where that is known."""

    def advance(self, done: int) -> None:
        """The current step has come this far."""

    def note(self, text: str) -> None:
        """Something a reader should know, in one sentence."""


class Silent:
    """Shows nothing."""

    def step(self, text: str, total: int | None = None) -> None:
        """See :class:`Progress`."""

    def advance(self, done: int) -> None:
        """See :class:`Progress`."""

    def note(self, text: str) -> None:
        """See :class:`Progress`."""
