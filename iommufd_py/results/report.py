# SPDX-License-Identifier: MIT
"""A run as text: what was measured, on what, and how far it may be trusted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from iommufd_py.base.coherency import FlushCount
from iommufd_py.base.units import PAGE_BYTES, format_ns, format_size
from iommufd_py.results.model import BenchResult, Point, Row, Workload
from iommufd_py.results.stats import Summary, median, summarize
from iommufd_py.results.validity import Finding, findings

_OFF_ON = ("off", "on")
# A remark about more rows than this gives their number instead of their names.
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Table:
    """Headings, and rows as wide."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """The samples of one operation of one row, summarized."""

    row: Row
    operation: str
    summary: Summary

    @property
    def flush(self) -> FlushCount | None:
        """What the kernel flushed from the CPU caches in one such operation, None where it does not count."""
        return next(self.row.samples(self.operation)).flush

    @property
    def flush_text(self) -> str:
        """Flush calls, and flushed pages for each page of the mapping."""
        if self.flush is None:
            return "-"
        return f"{self.flush.calls}, {self.flush.pages * PAGE_BYTES / self.row.point.size_bytes:.2f}"

    @property
    def page_ns(self) -> float:
        """Median time for each 4K of the mapping."""
        return self.summary.median_ns * PAGE_BYTES / self.row.point.size_bytes

    @property
    def gib_per_s(self) -> float:
        """Bytes mapped or unmapped in the median time."""
        return self.row.point.size_bytes / self.summary.median_ns * 1e9 / (1 << 30)


def cells(result: BenchResult) -> Iterator[Cell]:
    """Yield each row's operations in the order of a round."""
    for row in result.rows:
        for operation in row.operations:
            yield Cell(row, operation, summarize([one.ns for one in row.samples(operation)]))


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
    """Return the axes worth a column: size and backing, and what is not the same, or not the default, in all points."""
    return [name for name in _AXES if name in _ALWAYS or any(_is_special(point, name) for point in points)]


def _is_special(point: Point, name: str) -> bool:
    default = next(one.default for one in fields(Point) if one.name == name)
    return bool(getattr(point, name) != default)


def axis_headings(names: Sequence[str]) -> tuple[str, ...]:
    """Return the headings of some axes."""
    return tuple(_AXES[name][0] for name in names)


def axis_values(point: Point, names: Sequence[str]) -> tuple[str, ...]:
    """Return a point's values on some axes, as people read them."""
    return tuple(_AXES[name][1](getattr(point, name)) for name in names)


def row_name(point: Point) -> str:
    """Return what a row is called where there is no table: its size, its backing, and what is special of it."""
    return ", ".join(
        axis_values(point, _ALWAYS)
        + tuple(f"{_AXES[name][0]} {axis_values(point, [name])[0]}" for name in axes([point]) if name not in _ALWAYS)
    )


# --- tables ---------------------------------------------------------------------------------------------------------


def table(result: BenchResult) -> Table:
    """Return the times: a row for each operation."""
    names = axes([row.point for row in result.rows])
    figures = ("n", "min", "median", "medians", "p90", "p99", "p99.9", "outliers", "ns/4K page", "GiB/s", "flush")
    rows = []
    for cell in cells(result):
        summary = cell.summary
        rows.append(
            (
                *axis_values(cell.row.point, names),
                cell.operation,
                str(summary.count),
                format_ns(summary.min_ns),
                format_ns(summary.median_ns),
                _interval(summary),
                format_ns(summary.p90_ns),
                format_ns(summary.p99_ns),
                format_ns(summary.p999_ns),
                str(summary.outliers),
                f"{cell.page_ns:.1f}",
                f"{cell.gib_per_s:.3g}",
                cell.flush_text,
            )
        )
    return Table((*axis_headings(names), "operation", *figures), tuple(rows))


def _interval(summary: Summary) -> str:
    if len(summary.run_medians_ns) < 2:
        return "-"
    low, high = summary.low_ns / summary.median_ns - 1, summary.high_ns / summary.median_ns - 1
    return f"{low:+.1%} {high:+.1%}"


def buffers(result: BenchResult) -> Table:
    """Return what the times were measured with: a row for each buffer that was mapped."""
    rows_of_buffers = [row for row in result.rows if row.runs]
    names = axes([row.point for row in rows_of_buffers])
    rows = [
        (
            *axis_values(row.point, names),
            str(row.point.workload),
            f"{row.iova:#x}",
            _physical_runs(row),
            _leaves(row),
            format_ns(median(row.user_flush_ns)) if row.user_flush_ns else "-",
        )
        for row in rows_of_buffers
    ]
    headings = (*axis_headings(names), "workload", "IOVA", "physical runs", "leaves", "CLFLUSHOPT")
    return Table(headings, tuple(rows))


def _physical_runs(row: Row) -> str:
    counts = sorted(run.physical_runs for run in row.runs if run.physical_runs is not None)
    if not counts:
        return "?"
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]}-{counts[-1]}"


def _leaves(row: Row) -> str:
    if row.leaves is None:
        return "?"
    return " ".join(f"{count}x{format_size(size)}" for size, count in row.leaves.items())


# --- what goes with them --------------------------------------------------------------------------------------------


def facts(result: BenchResult) -> list[tuple[str, str]]:
    """Return what the figures depend on, as names and values."""
    environment, target = result.environment, result.target
    cap = f", CAP={target.cap:#x}" if target.cap is not None else ""
    boots = len({run.boot_id for row in result.rows for run in row.runs})
    processes = max((len(row.runs) for row in result.rows), default=0)
    return [
        ("kernel", " ".join(filter(None, (environment.kernel_release, environment.kernel_variant)))),
        ("platform", ", ".join(filter(None, (environment.platform, environment.machine, environment.cpu)))),
        ("device", f"{target.device}, IOMMU {target.iommu}{cap}"),
        ("coherency", f"{target.evidence.coherency} by {target.evidence}"),
        ("processes", f"{processes}, on {boots} boot{'s' if boots > 1 else ''}"),
        (
            "floor",
            f"{format_ns(median(result.floor.clock_ns))} between two clock reads, "
            f"{format_ns(median(result.floor.ioctl_ns))} for an ioctl that does nothing (medians)",
        ),
    ]


def notes(result: BenchResult) -> list[str]:
    """Return the findings as lines: code, the rows it is about, text."""
    return [_note(result, finding) for finding in findings(result)]


def _note(result: BenchResult, finding: Finding) -> str:
    concerned = ""
    if len(finding.rows) > _MAX_NAMED:
        concerned = f" ({len(finding.rows)} of {len(result.rows)} rows)"
    elif finding.rows and len(finding.rows) < len(result.rows):
        concerned = f" ({'; '.join(_row_label(result.rows[number]) for number in finding.rows)})"
    return f"{finding.code}{concerned}: {finding.text}"


def _row_label(row: Row) -> str:
    workload = row.point.workload
    return row_name(row.point) if workload is Workload.MAP else f"{workload} {row_name(row.point)}"


def summary_document(result: BenchResult) -> dict[str, Any]:
    """Return the summaries of a run, without its samples, as one JSON document."""
    return {
        "schema": "iommufd-bench-summary/1",
        "label": result.label,
        "facts": dict(facts(result)),
        "validity": [asdict(finding) for finding in findings(result)],
        "rows": [
            {
                "point": asdict(cell.row.point),
                "operation": cell.operation,
                **asdict(cell.summary),
                "page_ns": cell.page_ns,
                "gib_per_s": cell.gib_per_s,
                "flush": asdict(cell.flush) if cell.flush else None,
            }
            for cell in cells(result)
        ],
    }
