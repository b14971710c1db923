# SPDX-License-Identifier: MIT
"""Tables that fit a page, and the meaning of their columns."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from iommufd_py.base.shown import column_widths, display_width, padded

WIDTH = 80
"""Width of a terminal page, in characters."""
MAIL_WIDTH = 72
"""Width of a mail, in characters."""
_GAP = 2
# Width of a word in a heading. A wider column would not fit a mail.
_HEADING_WIDTH = 24
# No text of a table contains it.
_FILLER = "\0"


@dataclass(frozen=True, slots=True)
class Table:
    """Headings, and rows with the same number of texts.

    Attributes:
        keys: number of the first columns, which identify the row.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    keys: int = 1


def fold(table: Table, width: int = WIDTH) -> list[Table]:
    """Return *table* as tables of at most *width* columns, each with the keys; a single column is never divided.

    If there are too many keys for one page, the number of the row is the only key.
    """
    widths = [width + _GAP for width in column_widths(table.headings, table.rows)]
    room = width + _GAP - sum(widths[: table.keys])
    if table.keys > 1 and max(widths[table.keys :]) > room:
        numbered = tuple((str(number), *row) for number, row in enumerate(table.rows, 1))
        return fold(Table(("row", *table.headings), numbered), width)
    parts: list[list[int]] = [[]]
    used = 0
    for at in range(table.keys, len(table.headings)):
        if parts[-1] and used + widths[at] > room:
            parts.append([])
            used = 0
        parts[-1].append(at)
        used += widths[at]
    return [_columns(table, (*range(table.keys), *part)) for part in parts]


def _columns(table: Table, chosen: Sequence[int]) -> Table:
    return Table(
        tuple(table.headings[at] for at in chosen),
        tuple(tuple(row[at] for at in chosen) for row in table.rows),
        table.keys,
    )


def lines(table: Table, indent: str = "") -> list[str]:
    """Return the table as aligned text: keys to the left, figures to the right."""
    widths = column_widths(table.headings, table.rows)
    return [
        (
            indent
            + (" " * _GAP).join(
                padded(text, width, to_right=at >= table.keys)
                for at, (text, width) in enumerate(zip(row, widths, strict=True))
            )
        ).rstrip()
        for row in (table.headings, *table.rows)
    ]


def wrapped(text: str, width: int = WIDTH, indent: str = "  ") -> list[str]:
    """Return *text* in lines of at most *width* columns. Words stay whole, except one longer than a line."""
    # textwrap counts characters. If it divides a long word behind a wide one, the line is a column wider.
    filled = "".join(one + _FILLER * (display_width(one) - 1) for one in text)
    most = width if filled == text else width - 1
    lines_of_text = textwrap.wrap(filled, most, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace(_FILLER, "") for line in lines_of_text]


def heading_lines(label: str) -> list[str]:
    """Return the words of a label, each for a line of a heading, and a long word in pieces."""
    pieces = [piece for word in label.split() for piece in wrapped(word, _HEADING_WIDTH, "")]
    return pieces or ["-"]


EXPLANATIONS = {
    "size": "bytes that one sample maps",
    "backing": "kind of memory behind the buffer",
    "backend": "interface to the kernel: iommufd, its container, or VFIO type1",
    "chunk": "bytes that one ioctl maps",
    "operation": "the operation, which is timed alone",
    "n": "number of samples",
    "min": "shortest sample",
    "median": "median of all samples",
    "mean": "mean of all samples",
    "medians": "lowest and highest median of a process, relative to the median",
    "p90": "90 % of the samples are not longer",
    "p99": "99 % of the samples are not longer",
    "p99.9": "99.9 % of the samples are not longer",
    "outliers": "samples above the third quartile by over three interquartile ranges; they are included",
    "ns/4K": "median for each 4K page",
    "GiB/s": "size divided by the median",
    "flush": "calls of the kernel's CPU cache flush in one operation, and flushed pages for each page",
    "floor": "time of the same number of ioctls that do nothing, as a share of the median",
    "IOVA": "first I/O virtual address of the mapping",
    "runs": "physically contiguous runs that the buffer consists of",
    "leaves": "page-table leaves of the IOMMU by size; 'or' if boots differ; ? if the kernel does not show them",
    "tables": "growth of the IOMMU page tables of the whole system by the first operation; ? if not counted",
    "CLFLUSHOPT": "median time to flush the same buffer from user space, with two clock reads",
    "before": "geometric mean over boots (or processes) of the medians of the first result",
    "after": "the same of the second result",
    "ratio": "after divided by before",
    "interval": "99 % confidence interval of the ratio",
    "net": "ratio after the floor is subtracted from both times; shown if the floor is over 10 %",
    "F": "the difference, in units of CLFLUSHOPT over the same buffer from user space",
    "minima": "shortest sample of the first and of the second result",
    "verdict": "explained above",
}
"""Meaning of each column, by its heading."""


def explained(headings: Iterable[str], width: int = WIDTH) -> list[str]:
    """Return a line for each of the *headings* that has an explanation."""
    return [
        line
        for heading in dict.fromkeys(headings)
        if heading in EXPLANATIONS
        for line in wrapped(f"{heading}: {EXPLANATIONS[heading]}", width)
    ]
