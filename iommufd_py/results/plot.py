# SPDX-License-Identifier: MIT
"""Pictures of results. Needs matplotlib and numpy (extra ``report``)."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from iommufd_py.base.units import format_ns, format_size
from iommufd_py.results.breakdown import Breakdown
from iommufd_py.results.compare import Comparison, Verdict
from iommufd_py.results.model import BenchResult, Point
from iommufd_py.results.report import Cell, cells, row_name

# Inches: width and height of a panel, height of a line of its legend.
_PANEL = (5.6, 3.2)
_ENTRY = 0.15
# The axis of ratios goes so far beyond the least and the greatest, and is logarithmic from such a span on.
_MARGIN = 1.5
_LINEAR_SPAN = 4
# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_LINES = ("-", "--", ":", "-.")
_VERDICT_COLOURS = {
    Verdict.SLOWER: "#D55E00",
    Verdict.FASTER: "#009E73",
    Verdict.SAME: "#555555",
    Verdict.UNKNOWN: "#AAAAAA",
}


def render(figure: Figure, kind: str) -> bytes:
    """Return *figure* as ``svg`` or ``png``, the same bytes each time."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "iommufd-py"}):
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def distribution_figure(results: Sequence[BenchResult]) -> Figure:
    """Draw how the times are distributed: a panel for each operation, the share of samples up to a time.

    Nothing is binned, smoothed or left out; a colour for each row, a line style for each result.
    """
    panels = _by_operation(results)
    figure, all_axes = _panels(len(panels), max(len(found) for found in panels.values()))
    for axes, (operation, found) in zip(all_axes, panels.items(), strict=True):
        points = list(dict.fromkeys(cell.row.point for _, cell in found))
        for label, cell in found:
            samples = np.sort(np.concatenate([np.asarray(one.ns) for one in cell.row.samples(cell.operation)]))
            axes.plot(
                samples,
                np.arange(1, len(samples) + 1) / len(samples),
                color=_COLOURS[points.index(cell.row.point) % len(_COLOURS)],
                linestyle=_LINES[label % len(_LINES)],
                linewidth=1.4,
                drawstyle="steps-post",
                label=_series(results, label, row_name(cell.row.point)),
            )
        axes.set_xscale("log")
        axes.set_title(operation)
        axes.set_xlabel("time")
        axes.set_ylabel("share of samples")
        _label_times(axes.xaxis)
        axes.set_ylim(0, 1.02)
        _legend_below(axes)
    return figure


def page_figure(results: Sequence[BenchResult]) -> Figure:
    """Draw the time of a 4K page against the size: medians, with the range of the processes' medians as a bar."""
    panels = _by_operation(results)
    figure, all_axes = _panels(len(panels), max(len(found) for found in panels.values()))
    for axes, (operation, found) in zip(all_axes, panels.items(), strict=True):
        series: dict[str, list[Cell]] = {}
        for label, cell in found:
            series.setdefault(_series(results, label, _but_size(cell.row.point)), []).append(cell)
        for number, (name, row) in enumerate(series.items()):
            row.sort(key=lambda cell: cell.row.point.size_bytes)
            sizes = np.array([cell.row.point.size_bytes for cell in row])
            scale = np.array([cell.page_ns / cell.summary.median_ns for cell in row])
            middle, low, high = (
                np.array([getattr(cell.summary, which) for cell in row]) * scale
                for which in ("median_ns", "low_ns", "high_ns")
            )
            # The median of all samples can lie outside of the processes' medians.
            bars = np.maximum([middle - low, high - middle], 0)
            colour = _COLOURS[number % len(_COLOURS)]
            axes.errorbar(sizes, middle, bars, marker="o", markersize=4, capsize=3, color=colour, label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_title(operation)
        axes.set_xlabel("size")
        axes.set_ylabel("time for each 4K page")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_size(round(value))))
        _label_times(axes.yaxis)
        axes.grid(True, which="major", alpha=0.3)
        _legend_below(axes)
    return figure


def change_figure(comparison: Comparison) -> Figure:
    """Draw what changed: each operation's ratio with its confidence interval, by verdict."""
    changes = comparison.changes
    figure = Figure(figsize=(7.5, 1.3 + 0.32 * len(changes)), layout="constrained")
    axes = figure.subplots()
    for place, change in enumerate(changes):
        colour = _VERDICT_COLOURS[change.verdict]
        if change.low is not None and change.high is not None:
            axes.plot([change.low, change.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([change.ratio], [place], "o", color=colour, markersize=5)
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(changes)), [f"{change.operation}, {row_name(change.point)}" for change in changes])
    axes.invert_yaxis()
    # Intervals too wide to mean anything are cut off where they leave the ratios' surroundings.
    ratios = [1.0, *(change.ratio for change in changes)]
    low, high = min(ratios) / _MARGIN, max(ratios) * _MARGIN
    if high / low > _LINEAR_SPAN:
        axes.set_xscale("log", base=2)
        axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"x{value:.3g}"))
    axes.set_xlabel(f"time of {comparison.after}\nby time of {comparison.before}")
    axes.grid(True, axis="x", alpha=0.3)
    for verdict in dict.fromkeys(change.verdict for change in changes):
        axes.plot([], [], "o-", color=_VERDICT_COLOURS[verdict], label=str(verdict))
    figure.legend(fontsize=7, loc="outside upper center", ncols=len(Verdict))
    return figure


def share_figure(breakdowns: Sequence[Breakdown]) -> Figure:
    """Draw where the kernel's time went: a bar for each operation, its parts adding up to the whole."""
    parts = list(dict.fromkeys(part.name for one in breakdowns for part in one.parts))
    figure = Figure(figsize=(8.5, 1.6 + 0.4 * len(breakdowns)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(breakdowns))
    for number, name in enumerate(parts):
        shares = np.array([one.share(name) for one in breakdowns])
        colour = _COLOURS[number % len(_COLOURS)]
        axes.barh(range(len(breakdowns)), shares, left=left, color=colour, label=name)
        left += shares
    axes.set_yticks(range(len(breakdowns)), [one.name for one in breakdowns])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_xlabel("share of the time in the kernel, traced")
    figure.legend(fontsize=7, loc="outside upper center", ncols=3)
    return figure


def _by_operation(results: Sequence[BenchResult]) -> dict[str, list[tuple[int, Cell]]]:
    found: dict[str, list[tuple[int, Cell]]] = {}
    for number, cell in _all_cells(results):
        found.setdefault(cell.operation, []).append((number, cell))
    return found


def _all_cells(results: Sequence[BenchResult]) -> Iterator[tuple[int, Cell]]:
    for number, result in enumerate(results):
        for cell in cells(result):
            yield number, cell


def _panels(count: int, entries: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of *count* panels with room for as many *entries* in the legend below each."""
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(_PANEL[0] * columns, (_PANEL[1] + _ENTRY * entries) * rows), layout="constrained")
    every: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in every[count:]:
        unused.remove()
    return figure, every[:count]


def _label_times(axis: Axis) -> None:
    """Label a logarithmic axis of nanoseconds in units a human reads: 1, 2 and 5 of each, some of which are always in
    view.
    """
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_ns(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(labelsize=7)


def _legend_below(axes: Axes) -> None:
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18))


def _series(results: Sequence[BenchResult], number: int, name: str) -> str:
    return name if len(results) == 1 else f"{results[number].label}: {name}"


def _but_size(point: Point) -> str:
    return row_name(point).partition(", ")[2]
