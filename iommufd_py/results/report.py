# SPDX-License-Identifier: MIT
"""Format a result as text: the times, the machine, and the limits of the figures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

from iommufd_py.base.coherency import FlushCount
from iommufd_py.base.environment import Environment
from iommufd_py.base.units import PAGE_BYTES, format_ns, format_size, three_digits
from iommufd_py.results.model import BenchResult, Point, Row, Workload
from iommufd_py.results.stats import Summary, median, summarize
from iommufd_py.results.tables import Table
from iommufd_py.results.validity import FigureLimit, figure_limits

_OFF_ON = ("off", "on")
# A remark about more rows than this has their number instead of their names.
_MAX_NAMED = 3
PARTED = 0.05
"""The mean is shown if it differs from the median by more than this fraction."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The samples of one operation of one row, summarized.

    Attributes:
        floor_ns: time of the same number of ioctls that do nothing.
    """

    row: Row
    operation: str
    summary: Summary
    floor_ns: float

    @property
    def flush(self) -> FlushCount | None:
        """CPU cache flushes by the kernel in one operation, in the first process; None if the kernel does not count
        them."""
        return next(self.row.samples(self.operation)).flush

    @property
    def flush_text(self) -> str:
        """Flush calls, and flushed pages for each page of the mapping."""
        return ", ".join(flush_texts(self.row, self.operation) or "-")

    @property
    def page_ns(self) -> float:
        """Median time for each 4K of the mapping."""
        return self.summary.median_ns * PAGE_BYTES / self.row.point.size_bytes

    @property
    def gib_per_s(self) -> float | None:
        """GiB per second at the median time; None if the median is 0."""
        if not self.summary.median_ns:
            return None
        return self.row.point.size_bytes / self.summary.median_ns * 1e9 / (1 << 30)

    @property
    def mean_ns(self) -> float:
        """Mean of all samples."""
        return fmean(ns for samples in self.row.samples(self.operation) for ns in samples.ns)

    @property
    def parted(self) -> bool:
        """Whether mean and median differ by more than 5 %."""
        return abs(self.mean_ns - self.summary.median_ns) > PARTED * self.summary.median_ns


def flushed_share(flush: FlushCount, row: Row) -> float:
    """Return the number of flushed pages for each page of the mapping."""
    return flush.pages * PAGE_BYTES / row.point.size_bytes


def flush_texts(row: Row, operation: str) -> list[str]:
    """Return flush calls, and flushed pages for each page of the mapping: ranges if the processes differ.

    Empty if the kernel does not count flushes.
    """
    ends = row.flushes(operation) or ()
    texts = [(str(one.calls), f"{flushed_share(one, row):.2f}") for one in ends]
    return ["-".join(dict.fromkeys(pair)) for pair in zip(*texts, strict=True)]


def cells(result: BenchResult) -> Iterator[Cell]:
    """Yield each row's operations in the order of a round."""
    for row in result.rows:
        for operation in row.operations:
            summary = summarize([one.ns for one in row.samples(operation)])
            yield Cell(row, operation, summary, row.floor_ns(operation, result.floor))


# --- axes -----------------------------------------------------------------------------------------------------------

_AXES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "size_bytes": ("size", format_size),
    "backing": ("backing", str),
    "backend": ("backend", str),
    "chunk_bytes": ("chunk", lambda value: format_size(value) if value else "whole"),
    "bulk_unmap": ("bulk unmap", lambda value: _OFF_ON[value]),
    "hwpts": ("HWPTs", str),
    "cache": ("cache", str),
    "iova_use": ("IOVA", str),
    "alignment": ("alignment", lambda value: format_size(value) if value else "natural"),
    "huge_pages": ("huge pages", lambda value: _OFF_ON[value]),
    "accounting": ("accounting", str),
    "threads": ("threads", str),
    "own_ioas": ("IOAS", lambda value: "own" if value else "one"),
    "cpu": ("CPU", lambda value: "any" if value is None else str(value)),
    "node": ("node", lambda value: "any" if value is None else str(value)),
}
_ALWAYS = ("size_bytes", "backing")


def axes(points: Sequence[Point]) -> list[str]:
    """Return the axes with a column: size and backing, and each axis that differs from its default in a point."""
    return [name for name in _AXES if name in _ALWAYS or any(_is_special(point, name) for point in points)]


def _is_special(point: Point, name: str) -> bool:
    default = next(one.default for one in fields(Point) if one.name == name)
    return bool(getattr(point, name) != default)


def axis_headings(names: Sequence[str]) -> tuple[str, ...]:
    """Return the headings of some axes."""
    return tuple(_AXES[name][0] for name in names)


def axis_values(point: Point, names: Sequence[str]) -> tuple[str, ...]:
    """Return the values of a point on some axes as text."""
    return tuple(_AXES[name][1](getattr(point, name)) for name in names)


def row_name(point: Point) -> str:
    """Return the name of a row outside a table: size, backing, and each axis that differs from its default."""
    return ", ".join(
        axis_values(point, _ALWAYS)
        + tuple(f"{_AXES[name][0]} {axis_values(point, [name])[0]}" for name in axes([point]) if name not in _ALWAYS)
    )


def but_size(point: Point) -> str:
    """Return the name of a row without the size, for rows of several sizes."""
    return row_name(point).partition(", ")[2]


def machine_lines(results: Sequence[BenchResult]) -> list[str]:
    """Return the machine, the kernel and the device of results, one line each; one for each result if they differ."""
    return [
        *of_each(results, lambda one: _machine_text(one.environment)),
        *of_each(results, lambda one: _kernel_text(one.environment)),
        *of_each(results, lambda one: f"device {one.target.device} on {one.target.iommu}"),
    ]


def _machine_text(environment: Environment) -> str:
    return ", ".join(filter(None, (environment.cpu, environment.platform, environment.machine)))


def _kernel_text(environment: Environment) -> str:
    return f"kernel {environment.kernel_release}" + (
        f", built by {environment.compiler}" if environment.compiler else ""
    )


def of_each(results: Sequence[BenchResult], text: Callable[[BenchResult], str]) -> list[str]:
    """Return the *text* that all results have, or else that of each result behind its label."""
    texts = [text(one) for one in results]
    if len(set(texts)) == 1:
        return texts[:1]
    return [f"{one.label}: {line}" for one, line in zip(results, texts, strict=True)]


def floors_of(results: Sequence[BenchResult]) -> tuple[str, str]:
    """Return the time of two clock reads and that of an ioctl that does nothing: the lowest and the highest of all."""
    clocks, ioctls = (sorted(times) for times in zip(*(one.floors for one in results), strict=True))
    return _ends(clocks), _ends(ioctls)


def _ends(times_ns: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(map(format_ns, (times_ns[0], times_ns[-1]))))


# --- tables ---------------------------------------------------------------------------------------------------------


def times_table(result: BenchResult) -> Table:
    """Return the times: a row for each operation."""
    names = axes([row.point for row in result.rows])
    shown = list(cells(result))
    parted = any(cell.parted for cell in shown)
    figures = ("n", "min", "median", *(["mean"] if parted else []), "medians", "p90", "p99", "p99.9", "outliers")
    rows = []
    for cell in shown:
        summary = cell.summary
        rows.append(
            (
                *axis_values(cell.row.point, names),
                cell.operation,
                str(summary.count),
                format_ns(summary.min_ns),
                format_ns(summary.median_ns),
                *([format_ns(cell.mean_ns)] if parted else []),
                _interval(summary),
                format_ns(summary.p90_ns),
                format_ns(summary.p99_ns),
                format_ns(summary.p999_ns),
                str(summary.outliers),
                three_digits(cell.page_ns),
                "-" if cell.gib_per_s is None else three_digits(cell.gib_per_s),
                f"{cell.floor_ns / summary.median_ns:.0%}" if summary.median_ns else "-",
                cell.flush_text,
            )
        )
    headings = (*axis_headings(names), "operation", *figures, "ns/4K", "GiB/s", "floor", "flush")
    return Table(headings, tuple(rows), len(names) + 1)


def _interval(summary: Summary) -> str:
    if len(summary.run_medians_ns) < 2 or not summary.median_ns:
        return "-"
    low, high = summary.low_ns / summary.median_ns - 1, summary.high_ns / summary.median_ns - 1
    return f"{low:+.1%} {high:+.1%}"


def buffers(result: BenchResult) -> Table:
    """Return the table of the mapped buffers: a row for each."""
    rows_of_buffers = [row for row in result.rows if row.runs]
    names = axes([row.point for row in rows_of_buffers])
    rows = [
        (
            *axis_values(row.point, names),
            str(row.point.workload),
            f"{row.iova:#x}",
            _physical_runs(row),
            leaves_text(row) if row.leaves else "?",
            _page_tables(row),
            format_ns(median(row.user_flush_ns)) if row.user_flush_ns else "-",
        )
        for row in rows_of_buffers
    ]
    headings = (*axis_headings(names), "workload", "IOVA", "runs", "leaves", "tables", "CLFLUSHOPT")
    return Table(headings, tuple(rows), len(names) + 1)


def _physical_runs(row: Row) -> str:
    counts = sorted(run.physical_runs for run in row.runs if run.physical_runs is not None)
    if not counts:
        return "?"
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]}-{counts[-1]}"


def leaves_text(row: Row) -> str:
    """Return the number of page-table leaves of each size; boots whose numbers differ are joined by "or"."""
    return " or ".join(" ".join(f"{count}x{format_size(size)}" for size, count in one.items()) for one in row.leaves)


def _page_tables(row: Row) -> str:
    sizes = sorted(run.page_table_bytes for run in row.runs if run.page_table_bytes is not None)
    if not sizes:
        return "?"
    return "-".join(map(format_size, dict.fromkeys((sizes[0], sizes[-1]))))


# --- facts and limits -----------------------------------------------------------------------------------------------


def facts(result: BenchResult) -> list[tuple[str, str]]:
    """Return the conditions of the figures, as names and values."""
    environment, target = result.environment, result.target
    cap = f", CAP={target.cap:#x}" if target.cap is not None else ""
    boots, processes = result.boot_count, result.process_count
    clock_ns, ioctl_ns = result.floors
    return [
        *([("name", result.name)] if result.name else []),
        ("kernel", " ".join(filter(None, (environment.kernel_release, environment.kernel_variant)))),
        ("platform", ", ".join(filter(None, (environment.platform, environment.machine, environment.cpu)))),
        ("device", f"{target.device}, IOMMU {target.iommu}{cap}"),
        ("coherency", f"{target.evidence.coherency} by {target.evidence}"),
        *([("compiler", environment.compiler)] if environment.compiler else []),
        ("processes", f"{processes}, on {boots} boot{'' if boots == 1 else 's'}"),
        (
            "floor",
            f"{format_ns(clock_ns)} between two clock reads, {format_ns(ioctl_ns)} for an ioctl that does nothing "
            "(medians)",
        ),
        ("clock", result.floor.clock),
    ]


def notes(result: BenchResult) -> list[str]:
    """Return the limits of the figures as lines: code, rows concerned, text."""
    return [_note(result, limit) for limit in figure_limits(result)]


def _note(result: BenchResult, limit: FigureLimit) -> str:
    return f"{limit.code}{concerned_rows(result, limit)}: {limit.text}"


def concerned_rows(result: BenchResult, limit: FigureLimit) -> str:
    """Return the rows that *limit* is about, in parentheses: the names of a few, the number of many.

    Empty if it is about all.
    """
    if len(limit.rows) in (0, len(result.rows)):
        return ""
    if len(limit.rows) > _MAX_NAMED:
        return f" ({len(limit.rows)} of {len(result.rows)} rows)"
    return f" ({'; '.join(_row_label(result.rows[number]) for number in limit.rows)})"


def _row_label(row: Row) -> str:
    workload = row.point.workload
    return row_name(row.point) if workload is Workload.MAP else f"{workload} {row_name(row.point)}"


def summary_document(result: BenchResult) -> dict[str, Any]:
    """Return the summaries of a result as one JSON document without samples."""
    return {
        "schema": "iommufd-bench-summary/1",
        "label": result.label,
        "facts": dict(facts(result)),
        "validity": [asdict(limit) for limit in figure_limits(result)],
        "rows": [
            {
                "point": asdict(cell.row.point),
                "operation": cell.operation,
                **asdict(cell.summary),
                "mean_ns": cell.mean_ns,
                "floor_ns": cell.floor_ns,
                "page_ns": cell.page_ns,
                "gib_per_s": cell.gib_per_s,
                "flush": asdict(cell.flush) if cell.flush else None,
            }
            for cell in cells(result)
        ],
    }
