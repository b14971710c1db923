# SPDX-License-Identifier: MIT
"""Comparisons as text: a table, Markdown, or what goes into a patch series' cover letter."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from iommufd_py.base.units import format_ns
from iommufd_py.results.compare import CONFIDENCE, Change, Comparison, Verdict
from iommufd_py.results.model import BenchResult, Point, Workload
from iommufd_py.results.report import Table, axes, axis_headings, axis_values, row_name

# Operations side by side in a mail.
_ACROSS = 4


def comparison_table(comparison: Comparison) -> Table:
    """Return a row for each operation: both medians, their ratio with its interval, and the verdict."""
    names = axes([change.point for change in comparison.changes])
    rows = [
        (
            *axis_values(change.point, names),
            change.operation,
            format_ns(change.before_ns),
            format_ns(change.after_ns),
            f"{change.ratio:.3f}",
            _interval(change),
            _floors(change),
            str(change.verdict),
        )
        for change in comparison.changes
    ]
    headings = ("operation", comparison.before, comparison.after, "ratio", f"{CONFIDENCE:.0%} interval", "CLFLUSHOPTs")
    return Table((*axis_headings(names), *headings, "verdict"), tuple(rows))


def _interval(change: Change) -> str:
    return "-" if change.low is None or change.high is None else f"{change.low:.3f} to {change.high:.3f}"


def _floors(change: Change) -> str:
    """The difference as a multiple of the buffer's flush from user space, where there is a difference."""
    known = change.floors is not None and change.verdict in (Verdict.SLOWER, Verdict.FASTER)
    return f"{change.floors:.2f}" if known else "-"


def markdown(comparison: Comparison) -> str:
    """Return the table as Markdown, with what goes with it."""
    shown = comparison_table(comparison)
    lines = ["| " + " | ".join(row) + " |" for row in (shown.headings, *shown.rows)]
    lines.insert(1, "|" + " --- |" * len(shown.headings))
    return "\n".join([*lines, *(f"\n- {caution}" for caution in comparison.cautions)])


def cover_letter(before: BenchResult, after: BenchResult, comparison: Comparison) -> str:
    """Return a plain-text table with a block for each size, to paste into a mail; lines stay below 72 columns."""
    blocks: dict[Point, list[Change]] = defaultdict(list)
    for change in comparison.changes:
        blocks[replace(change.point, workload=Workload.MAP)].append(change)
    environment = after.environment
    lines = [
        f"Median times of {_amount(after)}, {environment.kernel_release},",
        f"{environment.cpu}, {environment.platform},",
        f"device {after.target.device} on {after.target.iommu},",
        f"{comparison.before}: {before.target.evidence}",
        f"{comparison.after}: {after.target.evidence}",
    ]
    for point, changes in blocks.items():
        lines += ["", row_name(point)]
        for start in range(0, len(changes), _ACROSS):
            lines += _block(comparison, changes[start : start + _ACROSS])
    lines += ["", f"x: ratio, with its {CONFIDENCE:.0%} confidence interval; n.s.: no significant change"]
    if any(change.floors is not None for change in comparison.changes):
        lines.append("F: what is added, in times of CLFLUSHOPT over the same memory")
    return "\n".join(lines + [f"note: {caution}" for caution in comparison.cautions])


def _amount(result: BenchResult) -> str:
    boots = len({run.boot_id for row in result.rows for run in row.runs})
    runs = max(len(row.runs) for row in result.rows)
    return f"{runs} processes on {boots} boots" if boots > 1 else f"{runs} processes"


def _block(comparison: Comparison, changes: Sequence[Change]) -> list[str]:
    columns = [("", comparison.before, comparison.after, "", "", "")]
    for change in changes:
        columns.append(
            (
                change.operation,
                format_ns(change.before_ns),
                format_ns(change.after_ns),
                _cover_ratio(change),
                f"{change.low:.3g} to {change.high:.3g}" if change.low is not None else "",
                f"{_floors(change)} F" if _floors(change) != "-" else "",
            )
        )
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in zip(*columns, strict=True):
        if not any(row):
            continue
        first, *others = row
        texts = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(others, widths[1:], strict=True))]
        lines.append(("  " + " | ".join(texts)).rstrip())
    lines.insert(1, "  " + "-+-".join("-" * width for width in widths))
    return lines


def _cover_ratio(change: Change) -> str:
    return f"x{change.ratio:.2f}" + (" n.s." if change.verdict is Verdict.SAME else "")
