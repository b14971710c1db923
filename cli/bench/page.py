# SPDX-License-Identifier: MIT
"""Print tables and lines that are no wider than a page."""

import shutil
import sys
from collections.abc import Sequence

import click

from iommufd_py.base.shown import printable
from iommufd_py.results.tables import WIDTH, Table, fold, wrapped

from ..output import emit_table


def page_width() -> int:
    """Return the width of the terminal in columns; 80 for a pipe or a file."""
    return shutil.get_terminal_size((WIDTH, 0)).columns if sys.stdout.isatty() else WIDTH


def emit_folded(table: Table) -> None:
    """Print a table, in several parts if it is wider than the page."""
    for number, part in enumerate(fold(table, page_width())):
        if number:
            click.echo()
        emit_table(part.headings, part.rows)


def emit_lines(lines: Sequence[str]) -> None:
    """Print an empty line and then the lines. Lines wider than the page are broken between words."""
    if lines:
        click.echo()
    for line in lines:
        for part in wrapped(line, page_width()):
            click.echo(printable(part))
