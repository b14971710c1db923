# SPDX-License-Identifier: MIT
"""Print data to stdout, and everything else to stderr."""

import json
import shutil
import sys
from collections.abc import Sequence

import click

from iommufd_py.base.shown import column_widths, padded, printable

_GAP = "  "
# Width of the blanks and lines of a drawn column, in addition to its text.
_DRAWN_MARGIN = 3


def emit_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, indent=2))


def emit_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names with their values, a line each. An empty name, or one that repeats the line above, is left out."""
    width = max(len(name) for name, _ in facts) + len(":" + _GAP)
    before = ""
    for name, text in facts:
        shown = f"{name}:" if name not in ("", before) else ""
        click.echo(f"{shown:{width}}{printable(text)}".rstrip())
        before = name


def emit_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal; aligned text in a pipe, or if the drawn table would be cut off.

    The first column is a name. Figures are aligned to the right.
    """
    rows = [[printable(text) for text in row] for row in rows]
    drawn = sum(column_widths(headings, rows)) + _DRAWN_MARGIN * (len(headings) + 1)
    if not sys.stdout.isatty() or drawn > shutil.get_terminal_size().columns:
        _emit_plain(headings, rows)
        return
    from rich import box  # Imported here, because the import takes 50 ms, and a pipe does not need it.
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if _is_numeric(rows, index) else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A name can have brackets and colons, in which rich would see colours and pictures.
    Console(markup=False, emoji=False).print(table)


def _emit_plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = column_widths(headings, rows)
    right = [_is_numeric(rows, index) for index in range(len(headings))]
    for row in (headings, *rows):
        texts = (
            padded(text, width, to_right=to_right) for text, width, to_right in zip(row, widths, right, strict=True)
        )
        click.echo(_GAP.join(texts).rstrip())


def _is_numeric(rows: Sequence[Sequence[str]], index: int) -> bool:
    return bool(rows) and all(row[index][:1].isdigit() or row[index] == "-" for row in rows) and index > 0


def note(text: str) -> None:
    """Print a remark on stderr."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=True)
