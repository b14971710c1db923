# SPDX-License-Identifier: MIT
"""A run as text: what was measured, on what, and how far it may be trusted."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from iommufd_py.bench.model import BenchResult, Row
from iommufd_py.bench.stats import Summary, summarize
from iommufd_py.mock import FlushCount
from iommufd_py.units import PAGE_BYTES, format_ns, format_size

__all__ = ["HEADINGS", "Cell", "cells", "comparison", "comparison_warnings", "document", "facts", "table", "warnings"]

# Buffers whose numbers of runs differ by more than this factor are not the same work.
_UNEQUAL_RUNS = 1.5
_OPERATIONS = ("map", "unmap")


@dataclass(frozen=True, slots=True)
class Cell:
    """The samples of one operation of one row, summarized."""

    row: Row
    operation: str
    summary: Summary

    @property
    def flush(self) -> FlushCount | None:
        """What the kernel flushed from the CPU caches in one such operation."""
        return self.row.map_flush if self.operation == "map" else self.row.unmap_flush

    @property
    def flush_text(self) -> str:
        """Flush calls, and flushed pages for each page of the mapping."""
        if self.flush is None:
            return "-"
        return f"{self.flush.calls}, {self.flush.pages * PAGE_BYTES / self.row.size_bytes:.2f}"

    @property
    def page_ns(self) -> float:
        """Median time for each 4K of the mapping."""
        return self.summary.median_ns * PAGE_BYTES / self.row.size_bytes

    @property
    def gib_per_s(self) -> float:
        """Bytes mapped or unmapped in the median time."""
        return self.row.size_bytes / self.summary.median_ns * 1e9 / (1 << 30)


def cells(result: BenchResult) -> Iterator[Cell]:
    """Yield each row's map, then its unmap."""
    for row in result.rows:
        for operation in _OPERATIONS:
            yield Cell(row, operation, summarize(row.map_ns if operation == "map" else row.unmap_ns))


HEADINGS = (
    "size",
    "backing",
    "runs",
    "leaves",
    "operation",
    "n",
    "min",
    "median",
    "p99",
    "ns/4K page",
    "GiB/s",
    "flush",
)


def table(result: BenchResult) -> list[tuple[str, ...]]:
    """Return the run's table under :data:`HEADINGS`."""
    return [
        (
            format_size(cell.row.size_bytes),
            cell.row.backing,
            _runs(cell.row),
            _leaves(cell.row),
            cell.operation,
            str(cell.summary.count),
            format_ns(cell.summary.min_ns),
            format_ns(cell.summary.median_ns),
            format_ns(cell.summary.p99_ns),
            f"{cell.page_ns:.1f}",
            f"{cell.gib_per_s:.3g}",
            cell.flush_text,
        )
        for cell in cells(result)
    ]


def comparison(results: Sequence[BenchResult]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Put the medians of several runs side by side; returns headings and rows.

    Beside each median stand the flush calls and the flushed pages per mapped page of one such operation, or ``-`` where
    the kernel does not count them. Sizes that not every run has are left out. No ratio is formed: runs that were not
    interleaved support none.
    """
    by_run = [{(c.row.size_bytes, c.row.backing, c.operation): c for c in cells(result)} for result in results]
    shared = [key for key in by_run[0] if all(key in run for run in by_run)]
    headings = ["size", "backing", "operation"]
    for result in results:
        headings += [result.label, "flush"]
    rows = []
    for key in shared:
        size, backing, operation = key
        row = [format_size(size), backing, operation]
        for run in by_run:
            row += [format_ns(run[key].summary.median_ns), run[key].flush_text]
        rows.append(tuple(row))
    return tuple(headings), rows


def comparison_warnings(results: Sequence[BenchResult]) -> list[str]:
    """Return which rows of a comparison were not the same work in each run."""
    found = []
    for rows in zip(*(result.rows for result in results), strict=False):
        runs = [row.physical_runs or 0 for row in rows]
        if len({row.size_bytes for row in rows}) == 1 and max(runs) > _UNEQUAL_RUNS * min(runs):
            listed = ", ".join(map(_runs, rows))
            found.append(f"{format_size(rows[0].size_bytes)}: the buffers lay in {listed} physical runs: unequal work")
    return found


def document(results: Sequence[BenchResult]) -> dict[str, Any]:
    """Return the summaries of several runs, without their samples, as one JSON document."""
    return {
        "schema": "iommufd-bench-summary/1",
        "notes": comparison_warnings(results),
        "runs": [
            {
                "label": result.label,
                "facts": dict(facts(result)),
                "notes": warnings(result),
                "rows": [
                    {
                        "size_bytes": cell.row.size_bytes,
                        "backing": cell.row.backing,
                        "operation": cell.operation,
                        **asdict(cell.summary),
                        "page_ns": cell.page_ns,
                        "flush": asdict(cell.flush) if cell.flush else None,
                    }
                    for cell in cells(result)
                ],
            }
            for result in results
        ],
    }


def facts(result: BenchResult) -> list[tuple[str, str]]:
    """Return what the figures depend on, as names and values."""
    environment, target = result.environment, result.target
    floor = summarize(result.floor_ns)
    cap = f", CAP={target.cap:#x}" if target.cap is not None else ""
    return [
        ("kernel", " ".join(filter(None, (environment.kernel_release, environment.kernel_variant)))),
        ("platform", ", ".join(filter(None, (environment.platform, environment.machine, environment.cpu)))),
        ("device", f"{target.device}, IOMMU {target.iommu}{cap}"),
        ("coherency", f"{target.evidence.coherency} by {target.evidence}"),
        ("domains", str(target.domains)),
        ("floor", f"{format_ns(floor.median_ns)} median for an ioctl that does nothing"),
    ]


def warnings(result: BenchResult) -> list[str]:
    """Return what keeps the figures from meaning what they seem to."""
    environment = result.environment
    found = []
    if environment.emulated:
        found.append("emulated: compare within this table only")
    if environment.noncoherent_knob:
        found.append(
            "iommufd.test_noncoherent_hwpt is set: coherency was not enforced although the IOMMU may be able to"
        )
    if environment.costly_config:
        options = ", ".join(f"CONFIG_{option}" for option in environment.costly_config)
        found.append(f"the kernel was built with {options}, which slows these paths")
    found += [
        f"{format_size(row.size_bytes)}: only {format_size(row.pinned_bytes)} were pinned by the map"
        for row in result.rows
        if row.pinned_bytes < row.size_bytes
    ]
    return found


def _runs(row: Row) -> str:
    return "?" if row.physical_runs is None else str(row.physical_runs)


def _leaves(row: Row) -> str:
    if row.leaves is None:
        return "?"
    return " ".join(f"{count}x{format_size(size)}" for size, count in row.leaves.items())
