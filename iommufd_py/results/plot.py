# SPDX-License-Identifier: MIT
"""Pictures of results. Needs matplotlib and numpy (extra ``report``)."""

import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from iommufd_py.base.errors import ToolError
from iommufd_py.base.units import PAGE_BYTES, format_ns, format_percent, format_size
from iommufd_py.results.breakdown import Breakdown
from iommufd_py.results.compare import FLOOR_SHARE, Comparison, Verdict
from iommufd_py.results.cover_letter import amount
from iommufd_py.results.drawing import (
    Axes,
    Axis,
    Figure,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
    drawable,
    rc_context,
)
from iommufd_py.results.estimate import CONFIDENCE
from iommufd_py.results.history import ChangePoint, OperationHistory
from iommufd_py.results.model import BenchResult, floor_of
from iommufd_py.results.report import Cell, but_size, cells, floors_of, row_name
from iommufd_py.results.scientific import np
from iommufd_py.results.validity import figure_limits

# Width and height of a panel, and height of a line of text below, all in inches.
_PANEL = (5.6, 3.4)
_LINE = 0.16
# The axis of ratios extends by this factor beyond the extremes. It is logarithmic if it spans at least this factor.
_MARGIN = 1.5
_LINEAR_SPAN = 4
# The axis of times for a page begins by this factor below the shortest time. A floor that marks a ratio is above that.
_BELOW = 1.2 / FLOOR_SHARE
# Series with points of the same size stand side by side. The distance of two neighbours, and the most for all series
# together, in octaves of the size.
_BESIDE, _ROOM = 0.06, 0.7
# A longer axis of times or ratios has labels at the powers of ten only. There is no room for more.
_DECADES = 3
# Distance of the ratio without the floor from the ratio, of which one is the distance of two operations.
_NET_BELOW = 0.25
# The format g writes larger numbers with an exponent.
_EXPONENT = 1000
# A shorter axis of ratios than this has room for more labels than 1, 2 and 5.
_SHORT = 30
# The measured sizes label their axis if this number of labels, as close as the closest two, would fit.
_SIZE_LABELS = 12
# The colours of Okabe and Ito, for any kind of colour vision. Their order alternates dark and light, for grey print.
_COLOURS = ("#0072B2", "#E69F00", "#000000", "#56B4E9", "#D55E00", "#F0E442", "#009E73", "#CC79A7")
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Number of markers on a distribution.
_MARKS = 8
# The longest label of a result, and the most lines that describe the machine.
_LABEL_CHARACTERS, _MACHINE_LINES = 60, 6
# The longest line and the most lines of a name beside an axis, and width of a character of a legend in inches.
_NAME_CHARACTERS, _NAME_LINES = 40, 8
# The longest line below an axis.
_AXIS_CHARACTERS = 55
_LEGEND_CHARACTER = 0.062
# Room for the line and the marker of an entry of a legend, in characters.
_LEGEND_MARKER = 8
# Size in points of the limits below a picture, and height of one of their lines in inches.
_SMALL, _SMALL_LINE = 6.5, 0.125
# Width of a character of this size in inches.
_SMALL_CHARACTER = 0.055
# Colour and marker of each verdict. The markers distinguish the verdicts in grey print.
_VERDICTS = {
    Verdict.SLOWER: ("#D55E00", ">"),
    Verdict.FASTER: ("#009E73", "<"),
    Verdict.EQUIVALENT: ("#000000", "o"),
    Verdict.INCONCLUSIVE: ("#777777", "x"),
    Verdict.TOO_FEW: ("#999999", "d"),
    Verdict.TOO_SHORT: ("#999999", "d"),
}


def render(figure: Figure, kind: str) -> bytes:
    """Return *figure* as ``svg`` or ``png``. Equal figures give equal bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "iommufd-py"}):
        figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def distribution_figure(results: Sequence[BenchResult]) -> Figure:
    """Draw the distribution of the times: for each operation a panel with the share of samples up to each time.

    No sample is binned, smoothed or left out. The colour and the marker show the row, the line style shows the result.
    """
    panels = _by_operation(results)
    figure, all_axes = _panels(len(panels), sum(map(len, panels.values())))
    # Rows of several workloads share a legend, so equal names have equal colours.
    names = list(dict.fromkeys(row_name(cell.row.point) for found in panels.values() for _, cell in found))
    floors_of_results = [one.floors for one in results]
    for axes, (operation, found) in zip(all_axes, panels.items(), strict=True):
        for label, cell in found:
            samples = np.sort(np.concatenate([np.asarray(one.ns) for one in cell.row.samples(cell.operation)]))
            name = row_name(cell.row.point)
            # Line styles repeat after as many results as there are styles. The next results get other colours.
            colour, marker = _look(names.index(name) + label // len(_LINES) * len(names))
            axes.plot(
                samples,
                np.arange(1, len(samples) + 1) / len(samples),
                color=colour,
                marker=marker,
                markersize=3.5,
                markevery=max(len(samples) // _MARKS, 1),
                linestyle=_LINES[label % len(_LINES)],
                linewidth=1.4,
                drawstyle="steps-post",
                label=_series(results, label, name),
            )
        # A line for each result. The floors of its rows differ by noise, and their lines would be a smear.
        floors = (floor_of(cell.row.point.calls(operation), *floors_of_results[label]) for label, cell in found)
        for floor in dict.fromkeys(floor for floor in floors if floor > 0):
            axes.axvline(floor, color="#888888", linestyle=":", linewidth=1, label="floor")
        axes.set_xscale("log")
        axes.set_title(operation)
        axes.set_xlabel("time of one operation")
        axes.set_ylabel("share of samples up to this time")
        _label_times(axes.xaxis)
        axes.set_ylim(0, 1.02)
        axes.grid(True, alpha=0.3)
    _legend(figure, all_axes)
    _finish(figure, "How do the times of one operation spread? (floor: an ioctl that does nothing)", results)
    return figure


def page_figure(results: Sequence[BenchResult]) -> Figure:
    """Draw the time for a 4K page against the size: medians, the range of the processes' medians, and the floor."""
    panels = _by_operation(results)
    figure, all_axes = _panels(len(panels), max(map(len, panels.values())))
    names = list(
        dict.fromkeys(_series(results, at, but_size(cell.row.point)) for found in panels.values() for at, cell in found)
    )
    for axes, (operation, found) in zip(all_axes, panels.items(), strict=True):
        series: dict[str, list[Cell]] = {}
        for label, cell in found:
            series.setdefault(_series(results, label, but_size(cell.row.point)), []).append(cell)
        for name, row in series.items():
            row.sort(key=lambda cell: cell.row.point.size_bytes)
            sizes = np.array([cell.row.point.size_bytes for cell in row], dtype=float)
            middle, low, high, floor = (
                np.array(values) * PAGE_BYTES / sizes
                for values in (
                    [cell.summary.median_ns for cell in row],
                    [cell.summary.low_ns for cell in row],
                    [cell.summary.high_ns for cell in row],
                    [cell.floor_ns for cell in row],
                )
            )
            # The median of all samples can lie outside of the processes' medians.
            bars = np.maximum([middle - low, high - middle], 0)
            number = names.index(name)
            colour, marker = _look(number)
            # Points of equal size stand side by side, because one would hide the others.
            beside = sizes * 2 ** ((number - (len(names) - 1) / 2) * min(_BESIDE, _ROOM / len(names)))
            look: dict[str, Any] = {"marker": marker, "color": colour, "linestyle": _line(number)}
            axes.errorbar(beside, middle, bars, markersize=4, capsize=3, label=name, **look)
            axes.plot(sizes, floor, color="#888888", linestyle=":", marker=".", linewidth=1, label="floor")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        # The floor of a large size is far below the times. An axis down to it would flatten the curves.
        lowest = min(cell.page_ns for _, cell in found)
        if lowest:
            axes.set_ylim(bottom=lowest / _BELOW)
        axes.set_title(operation)
        axes.set_xlabel("mapped size in bytes")
        axes.set_ylabel("median time for each 4K page")
        _label_sizes(axes.xaxis, {cell.row.point.size_bytes for _, cell in found})
        _label_times(axes.yaxis)
        axes.grid(True, which="major", alpha=0.3)
    _legend(figure, all_axes)
    # With one process there is no bar.
    bars_shown = any(len(cell.summary.run_medians_ns) > 1 for found in panels.values() for _, cell in found)
    meaning = "bar: lowest to highest median of a process; " if bars_shown else ""
    _finish(figure, f"What does one 4K page cost? ({meaning}floor: an ioctl that does nothing)", results)
    return figure


def change_figure(comparison: Comparison, results: Sequence[BenchResult] = ()) -> Figure:
    """Draw the ratio of each operation with its interval and verdict. A hollow marker is the ratio without the
    floor."""
    changes = [one for one in comparison.changes if one.ratio is not None]
    if not changes:
        raise ToolError("no operation of the comparison has a ratio to draw")
    names = [
        name_lines(f"{change.operation}, {row_name(change.point)}{' *' if change.on_floor else ''}")
        for change in changes
    ]
    figure = Figure(figsize=(7.5, 2.4 + _heights(names)), layout="constrained")
    axes = figure.subplots()
    margin = max(change.margin for change in changes)
    axes.axvspan(1 - margin, 1 + margin, color="#DDDDDD", label=f"within {format_percent(margin)}: equivalent")
    nets = []
    for place, change in enumerate(changes):
        colour, marker = _VERDICTS[change.verdict]
        if change.low is not None and change.high is not None:
            axes.plot([change.low, change.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([change.ratio or 1.0], [place], marker, color=colour, markersize=6)
        if change.on_floor and change.net is not None:
            nets.append(change.net.value)
            below = place + _NET_BELOW
            axes.plot([change.net.value], [below], "o", color=colour, markerfacecolor="none", markersize=5)
            if change.net.low is not None and change.net.high is not None:
                axes.plot([change.net.low, change.net.high], [below] * 2, color=colour, linewidth=0.8)
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_yticks(range(len(changes)), names)
    axes.invert_yaxis()
    # An interval much wider than the ratios is cut off at the edge.
    ratios = [1.0, *nets, *(change.ratio for change in changes if change.ratio is not None)]
    low, high = min(ratios) / _MARGIN, max(ratios) * _MARGIN
    if high / low > _LINEAR_SPAN:
        axes.set_xscale("log")
        subs = (1, 1.5, 2, 3, 5, 7) if high <= low * _SHORT else _subs(low, high)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"x{value:{'.4g' if value < _EXPONENT else '.0f'}}"))
    what = f"time of {_short(comparison.after)} divided by time of {_short(comparison.before)}"
    axes.set_xlabel(name_lines(what, _AXIS_CHARACTERS))
    axes.grid(True, axis="x", alpha=0.3)
    for verdict in dict.fromkeys(change.verdict for change in changes):
        colour, marker = _VERDICTS[verdict]
        axes.plot([], [], marker + "-", color=colour, label=str(verdict))
    if any(change.on_floor for change in changes):
        axes.plot([], [], " ", label="*: the floor is over 10 %")
    if nets:
        axes.plot([], [], "o", color="#000000", markerfacecolor="none", markersize=5, label="less the floor")
    figure.legend(fontsize=7, loc="outside lower center", ncols=5)
    line = f" (line: interval of {CONFIDENCE:.0%})" if any(change.low is not None for change in changes) else ""
    _finish(figure, f"Is {_short(comparison.after)} slower than {_short(comparison.before)}?{line}", results)
    return figure


def share_figure(breakdowns: Sequence[Breakdown]) -> Figure:
    """Draw the shares of the kernel's time: a bar for each operation, its parts adding up to the whole."""
    parts = list(dict.fromkeys(part.name for one in breakdowns for part in one.parts))
    names = [name_lines(one.name) for one in breakdowns]
    figure = Figure(figsize=(8.5, 2.0 + 0.08 * len(breakdowns) + _heights(names)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(breakdowns))
    for number, name in enumerate(parts):
        shares = np.array([one.share(name) for one in breakdowns])
        hatch = "" if number < len(_COLOURS) else "//"
        colour = _COLOURS[number % len(_COLOURS)]
        axes.barh(range(len(breakdowns)), shares, left=left, color=colour, hatch=hatch, edgecolor="white", label=name)
        left += shares
    axes.set_yticks(range(len(breakdowns)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_xlabel("share of the traced time in the kernel")
    _legend(figure, [axes])
    _finish(figure, "Which part of the kernel takes the time?", ())
    return figure


def history_figure(
    lines: Sequence[OperationHistory], results: Sequence[BenchResult], found: Sequence[ChangePoint]
) -> Figure:
    """Draw each operation over the results, of which there is at least one: its time relative to the first.

    A circle marks the first result after each change that was *found*.
    """
    names = [" ".join(filter(None, (one.started[:16].replace("T", " "), _short(one.name)))) for one in results]
    height = 4.5 + _LINE * len(lines) / 3 + _SMALL_CHARACTER * max(map(len, names))
    figure = Figure(figsize=(8.5, height), layout="constrained")
    axes = figure.subplots()
    for number, line in enumerate(lines):
        colour, marker = _look(number)
        axes.plot(
            line.at,
            [ns / line.ns[0] for ns in line.ns],
            color=colour,
            marker=marker,
            linestyle=_line(number),
            markersize=4,
            label=f"{line.operation}, {row_name(line.point)}",
        )
        for change in found:
            if (change.point, change.operation) == (line.point, line.operation):
                ratio = line.ns[line.at.index(change.at)] / line.ns[0]
                axes.plot(change.at, ratio, "o", color="#000000", fillstyle="none", markersize=12, label="change")
    axes.set_xticks(range(len(results)), names, rotation=90, fontsize=_SMALL)
    axes.set_xlabel("start of the result")
    axes.set_ylabel("time divided by that of the first result")
    axes.grid(True, alpha=0.3)
    _legend(figure, [axes])
    _finish(figure, "When did an operation become slower or faster?", results)
    return figure


def _look(number: int) -> tuple[str, str]:
    """Return the colour and the marker of a series. No two of the first 64 series have the same pair."""
    return _COLOURS[number % len(_COLOURS)], _MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)]


def _line(number: int) -> str:
    """Return the line style of a series, where it does not show the result. In grey, some of the colours are alike."""
    return _LINES[number // len(_COLOURS) % len(_LINES)]


def _by_operation(results: Sequence[BenchResult]) -> dict[str, list[tuple[int, Cell]]]:
    found: dict[str, list[tuple[int, Cell]]] = {}
    for number, cell in _all_cells(results):
        found.setdefault(cell.operation, []).append((number, cell))
    if not found:
        raise ToolError("there is nothing to draw: the results have no rows with samples")
    return found


def _all_cells(results: Sequence[BenchResult]) -> Iterator[tuple[int, Cell]]:
    for number, result in enumerate(results):
        for cell in cells(result):
            yield number, cell


def _panels(count: int, entries: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of *count* panels with room for *entries* in the legend."""
    columns = min(count, 2)
    rows = -(-count // columns)
    size = (max(_PANEL[0] * columns, 7.5), _PANEL[1] * rows + _LINE * (entries // 2 + 6))
    figure = Figure(figsize=size, layout="constrained")
    every: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in every[count:]:
        unused.remove()
    return figure, every[:count]


def _label_times(axis: Axis) -> None:
    """Label a logarithmic axis of nanoseconds, once its limits are set: at 1, 2 and 5 of each power of ten, so that
    some labels are always visible, or at each power of ten on a long axis."""
    axis.set_major_locator(LogLocator(subs=_subs(*axis.get_view_interval())))
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_ns(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(labelsize=7)


def _subs(low: float, high: float) -> tuple[int, ...]:
    """Return the multiples of each power of ten with a label on a logarithmic axis."""
    return (1, 2, 5) if high <= low * 10**_DECADES else (1,)


def _label_sizes(axis: Axis, sizes: Iterable[int]) -> None:
    """Label a logarithmic axis at the measured sizes, or at powers of two if there are too many sizes."""
    places = sorted(sizes)
    gaps = [math.log2(above / below) for below, above in pairwise(places)]
    if min(gaps, default=0.0) * _SIZE_LABELS >= sum(gaps):
        axis.set_ticks(places)
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_size(round(value))))


def name_lines(name: str, characters: int = _NAME_CHARACTERS) -> str:
    """Return a name in lines that leave room for the panel beside them."""
    return "\n".join(textwrap.wrap(drawable(name), characters, max_lines=_NAME_LINES))


def _heights(names: Sequence[str]) -> float:
    """Return the height of a panel with these names beside it, at equal distances, in inches."""
    return len(names) * (0.32 + _LINE * max((name.count("\n") for name in names), default=0))


def _legend(figure: Figure, all_axes: Sequence[Axes]) -> None:
    """Draw one legend for all panels: in as many columns as fit, and with room for long names."""
    handles: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(drawable(label), handle)
    room = int(figure.get_figwidth() / _LEGEND_CHARACTER)
    longest = max(map(len, handles)) + _LEGEND_MARKER
    columns = max(min(len(handles), 3, room // longest), 1)
    names = [textwrap.fill(name, room // columns - _LEGEND_MARKER) for name in handles]
    # The size of the figure has room for three columns of short names.
    lines = sum(1 + name.count("\n") for name in names) / columns
    figure.set_figheight(figure.get_figheight() + _LINE * max(lines - -(-len(names) // 3), 0))
    figure.legend(list(handles.values()), names, fontsize=7, loc="outside lower center", ncols=columns)


def _finish(figure: Figure, title: str, results: Sequence[BenchResult]) -> None:
    """Add the title, the machine and the limits of the figures, so that the picture needs no other text."""
    lines = [title]
    if results:
        environments = [one.environment for one in results]
        facts = [
            ", ".join(
                (
                    _ends(", ".join(filter(None, (one.cpu, one.platform))) for one in environments),
                    f"kernel {_ends(one.kernel_release for one in environments)}",
                )
            ),
            f"device {_ends(one.target.device for one in results)}",
            _ends(map(amount, results)),
            _ends(one.started[:10] for one in results),
            # A number stays beside its unit.
            f"floor {floors_of(results)[1]}".replace(" ", "\N{NO-BREAK SPACE}"),
        ]
        lines.append("; ".join(facts))
    codes = list(dict.fromkeys(found.code for one in results for found in figure_limits(one)))
    if codes:
        lines.append(f"limits of these figures: {', '.join(codes)}")
    width = round(figure.get_figwidth() * 15)
    text = "\n".join(part for line in lines for part in textwrap.wrap(drawable(line), width, max_lines=_MACHINE_LINES))
    figure.suptitle(text, fontsize=8)


def _ends(values: Iterable[str]) -> str:
    """Return the only value, or the first and the last of different ones."""
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def add_limits(figure: Figure, limits: Sequence[str]) -> None:
    """Write *limits* below a picture that stands alone, a paragraph each, and make it higher by as much."""
    width = round(figure.get_figwidth() * 19)
    lines = [part for line in limits for part in textwrap.wrap(drawable(line), width, subsequent_indent="  ")]
    if not lines:
        return
    figure.draw_without_rendering()  # This gives the legends their size.
    legends = sum(legend.get_window_extent().height for legend in figure.legends) / figure.dpi
    added = _SMALL_LINE * (len(lines) + 1)
    height = figure.get_figheight() + added
    bottom, above = added / height, (added + legends + _SMALL_LINE) / height
    figure.set_figheight(height)
    figure.set_layout_engine("constrained", rect=(0, above, 1, 1 - above))
    for legend in figure.legends:
        legend.set_in_layout(False)
        legend.set_bbox_to_anchor((0, bottom, 1, 1 - bottom), figure.transFigure)
    figure.text(0.01, bottom - _SMALL_LINE / 2 / height, "\n".join(lines), fontsize=_SMALL, va="top", ha="left")


def _series(results: Sequence[BenchResult], number: int, name: str) -> str:
    return name if len(results) == 1 else f"{_short(results[number].label)}: {name}"


def _short(label: str) -> str:
    """Return a label as a legend and an axis can show it. A longer text would leave no room for the panels."""
    half, label = _LABEL_CHARACTERS // 2, drawable(label)
    cut = label if len(label) <= _LABEL_CHARACTERS else f"{label[:half]}...{label[-half:]}"
    # matplotlib leaves names that start with _ out of a legend.
    return f" {cut}" if cut.startswith("_") else cut
