# SPDX-License-Identifier: MIT
"""Show the progress of a build on stderr: a bar on a terminal, else a line for each step."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from iommufd_py.lab.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


class _Lines:
    def step(self, text: str, total: int | None = None) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)

    def advance(self, done: int) -> None:
        """Ignore the progress within a step: a log shows the steps only."""

    def note(self, text: str) -> None:
        click.echo(f"iommufd: {text}", err=True)


class _Bar:
    """A progress bar. It appears at the first step: most calls find everything in the cache and show nothing."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None

    def step(self, text: str, total: int | None = None) -> None:
        if self._bar is None:
            self._bar = _make_bar()
            self._bar.start()
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._bar.add_task(text, total=total)

    def advance(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)

    def note(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(f"iommufd: {text}", markup=False, highlight=False)
        else:
            click.echo(f"iommufd: {text}", err=True)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _make_bar() -> "RichProgress":
    # Imported here, because the import takes longer than most commands.
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    return RichProgress(*columns, console=Console(stderr=True), transient=True)


@contextmanager
def show_lab_progress() -> Iterator[Progress]:
    """Show progress on stderr while the block runs."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    bar = _Bar()
    try:
        yield bar
    finally:
        bar.stop()
