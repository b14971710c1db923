# SPDX-License-Identifier: MIT
"""Show the progress of each machine on stderr: as a live table on a terminal, as lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table


@contextmanager
def show_fleet_progress() -> Iterator[Callable[[int, str, str], None]]:
    """Yield a function that takes the number of a machine, its name and its current activity."""
    if not sys.stderr.isatty():
        yield _print_line
        return
    # Imported here, because the import takes longer than most commands.
    from rich.console import Console
    from rich.live import Live

    rows: dict[int, tuple[str, str, float]] = {}
    with Live(console=Console(stderr=True), get_renderable=lambda: _table(rows), refresh_per_second=2) as live:

        def tell(number: int, name: str, text: str) -> None:
            rows[number] = (name, text, time.monotonic())
            if ";" in text:
                # Print this when the table disappears.
                live.console.print(f"{name}: {text}", markup=False, highlight=False, soft_wrap=True)

        yield tell


def _print_line(number: int, name: str, text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {name}: {text}", err=True)


def _table(rows: dict[int, tuple[str, str, float]]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("machine", "now", "for", box=box.SIMPLE_HEAD)
    for _, (name, text, since) in sorted(rows.items()):
        table.add_row(Text(name), Text(text), f"{time.monotonic() - since:.0f} s")
    return table
