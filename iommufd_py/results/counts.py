# SPDX-License-Identifier: MIT
"""Show the counts of results from an emulated CPU: ioctls, cache flushes, page-table leaves. Its times mean nothing."""

from collections.abc import Sequence
from dataclasses import replace

from iommufd_py.results.model import BenchResult, Point, Row, Samples, Workload
from iommufd_py.results.report import flush_texts, flushed_share, leaves_text, machine_lines, of_each, row_name
from iommufd_py.results.tables import MAIL_WIDTH, Table, fold, heading_lines, lines, wrapped
from iommufd_py.results.validity import figure_limits

_EXPLANATIONS = (
    "ioctls: number in one sample of the operation.",
    "calls: calls of the kernel's CPU cache flush in one operation; contiguous pages take one call.",
    "pages: flushed pages for each page of the mapping; 1.00 is each page once.",
    "-: the kernel does not count flushes for this interface; a kernel without the series has no flush.",
    "leaves: leaves of the IOMMU's page table, by size; 'or' if boots differ.",
)


def count_letter(results: Sequence[BenchResult]) -> str:
    """Return a block for each size, with the results of all kernels side by side; at most 72 columns."""
    facts = [
        *machine_lines(results),
        *(f"{one.label}: {one.target.evidence}" for one in results),
        *of_each(results, lambda one: f"command: {one.repeat_command}"),
    ]
    text = [line for fact in facts for line in wrapped(fact, MAIL_WIDTH)]
    for point in dict.fromkeys(replace(row.point, workload=Workload.MAP) for one in results for row in one.rows):
        text += ["", *wrapped(row_name(point), MAIL_WIDTH)]
        for part in fold(_block(point, results), MAIL_WIDTH - 2):
            text += lines(part, "  ")
    for paragraph in (_EXPLANATIONS, count_sentences(results), _doubts(results)):
        text.append("")
        for line in paragraph:
            text += wrapped(line, MAIL_WIDTH)
    return "\n".join(text)


def _block(point: Point, results: Sequence[BenchResult]) -> Table:
    rows: dict[tuple[str, str], list[str]] = {}
    for number, result in enumerate(results):
        for row in result.rows:
            if replace(row.point, workload=Workload.MAP) != point:
                continue
            for operation in row.operations:
                cells = rows.setdefault(
                    (row.point.workload, operation),
                    [
                        str(row.point.calls(operation) or "-"),
                        leaves_text(row) if operation in ("map", "map-file") else "",
                        *["", ""] * len(results),
                    ],
                )
                cells[2 + 2 * number : 4 + 2 * number] = _flushes(row, operation)
    names = [heading_lines(f"{one.label} calls") for one in results]
    headings = ("", "ioctls", "leaves", *(text for name in names for text in (name[0], "pages")))
    more = [
        ("", "", "", *(text for name in names for text in (name[line] if line < len(name) else "", "")))
        for line in range(1, max(map(len, names)))
    ]
    return Table(headings, (*more, *((key[1], *cells) for key, cells in rows.items())))


def _flushes(row: Row, operation: str) -> list[str]:
    return flush_texts(row, operation) or ["-", "-"]


def count_sentences(results: Sequence[BenchResult]) -> list[str]:
    """Return the finding in three sentences, derived from the counts."""
    counted, once, most = 0, 0, ("", 0.0)
    for result in results:
        for row in result.rows:
            for operation in row.operations:
                ends = row.flushes(operation)
                if ends is None or not ends[1].calls:
                    continue
                least, pages = (flushed_share(one, row) for one in ends)
                counted += 1
                once += least == pages == 1
                if pages > most[1]:
                    most = f"{operation} {row_name(row.point)} on {result.label}", pages
    silent = [one.label for one in results if all(samples.flush is None for row in one.rows for samples in _every(row))]
    none = "Flushes: not counted." if len(silent) == len(results) else "Flushes: no operation flushes."
    return [
        f"Flushes: {once} of {counted} operations with flushes flush each page once." if counted else none,
        f"Most: {most[0]} flushes each page {most[1]:.2f} times." if counted else "Most: none.",
        f"Not counted: {', '.join(silent)} {'has' if len(silent) == 1 else 'have'} no flush counter."
        if silent
        else "All kernels count their flushes.",
    ]


def _every(row: Row) -> list[Samples]:
    return [samples for run in row.runs for samples in run.operations.values()]


def _doubts(results: Sequence[BenchResult]) -> list[str]:
    codes = ("TCG", "NOTHING_PINNED", "UNEQUAL_FLUSHES", "UNEQUAL_RUNS", "NONCOHERENT_KNOB")
    found = {
        f"{one.code}: {one.text}": None for result in results for one in figure_limits(result) if one.code in codes
    }
    return [*found, "Times are left out: on an emulated CPU they say nothing about hardware (--times shows them)."]
