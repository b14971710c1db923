# SPDX-License-Identifier: MIT
"""Format comparisons for the mail of a patch series: plain text, at most 72 columns, every doubt below the table."""

from collections.abc import Sequence
from dataclasses import replace

from iommufd_py.base.units import counted, format_ns, format_percent
from iommufd_py.results import finding
from iommufd_py.results.compare import Change, Comparison, Verdict
from iommufd_py.results.compare_text import (
    floor_legend,
    flush_multiple,
    hump_lines,
    interval_text,
    net_interval,
    net_text,
    ratio_text,
)
from iommufd_py.results.estimate import CONFIDENCE
from iommufd_py.results.model import BenchResult, Point, Workload
from iommufd_py.results.report import concerned_rows, floors_of, machine_lines, of_each, row_name
from iommufd_py.results.tables import MAIL_WIDTH, Table, fold, heading_lines, lines, wrapped
from iommufd_py.results.validity import figure_limits

# Short words, so that four results stand side by side.
_WORDS = {
    Verdict.SLOWER: "slower",
    Verdict.FASTER: "faster",
    Verdict.EQUIVALENT: "equal",
    Verdict.INCONCLUSIVE: "open",
    Verdict.TOO_FEW: "",
    Verdict.TOO_SHORT: "too short",
}


def cover_letter(
    results: Sequence[BenchResult],
    comparisons: Sequence[Comparison],
    precision: float = finding.PRECISION,
) -> str:
    """Return the text: conditions, one block for each size with all results side by side, finding, doubts.

    Args:
        results: the baseline, then the others.
        comparisons: comparisons of each other result with the baseline, in the same order.
        precision: width of an interval that counts as precise, 0.05 for 5 %.
    """
    text = [line for fact in conditions(results) for line in wrapped(fact, MAIL_WIDTH)]
    text.append("")
    for point in _blocks(comparisons):
        text += wrapped(row_name(point), MAIL_WIDTH)
        for part in fold(_block(point, results, comparisons), MAIL_WIDTH - 2):
            text += lines(part, "  ")
        text.append("")
    for paragraph in (
        _explanations(comparisons),
        finding.time_sentences(results, comparisons, precision),
        doubts(results, comparisons),
    ):
        for line in paragraph:
            text += wrapped(line, MAIL_WIDTH)
        text.append("")
    return "\n".join(text[:-1]).rstrip()


def conditions(results: Sequence[BenchResult]) -> list[str]:
    """Return the machine, the kernels, the domains, the floor and the command that repeats it, one line each."""
    clock, ioctl = floors_of(results)
    return [
        *machine_lines(results),
        *(f"{one.label}: {one.target.evidence}; {amount(one)}" for one in results),
        f"floor: an ioctl that does nothing takes {ioctl}, of which two reads of the clock take {clock}",
        *of_each(results, lambda one: f"clock: {one.floor.clock}"),
        *of_each(results, lambda one: f"command: {one.repeat_command}"),
    ]


def amount(result: BenchResult) -> str:
    """Return the number of processes and boots behind the samples, as text."""
    boots, processes = result.boot_count, result.process_count
    on = counted(processes, "process", "processes")
    return f"{on} on {boots} boots" if boots > 1 else f"{on} on one boot"


def _blocks(comparisons: Sequence[Comparison]) -> list[Point]:
    """Return a point for each block, regardless of the workload."""
    points = [replace(change.point, workload=Workload.MAP) for one in comparisons for change in one.changes]
    return list(dict.fromkeys(points))


def _block(point: Point, results: Sequence[BenchResult], comparisons: Sequence[Comparison]) -> Table:
    found = [
        {
            (change.point.workload, change.operation): change
            for change in one.changes
            if replace(change.point, workload=Workload.MAP) == point
        }
        for one in comparisons
    ]
    rows: list[tuple[str, ...]] = []
    names = [heading_lines(one.label) for one in results]
    for line in range(1, max(map(len, names))):
        rows.append(("", *(name[line] if line < len(name) else "" for name in names)))
    for key in dict.fromkeys(key for one in found for key in one):
        changes = [one.get(key) for one in found]
        rows += _operation(key[1], changes)
    return Table(("", *(name[0] for name in names)), tuple(rows))


def _operation(name: str, changes: Sequence[Change | None]) -> list[tuple[str, ...]]:
    before = next(change.before_ns for change in changes if change is not None)
    shown = [change for change in changes if change is not None]
    rows: list[tuple[str, ...]] = [
        (name, format_ns(before), *(format_ns(one.after_ns) if one else "" for one in changes)),
        ("", "", *(_ratio(one) if one else "" for one in changes)),
    ]
    if any(one.low is not None for one in shown):
        rows.append(("", "", *(interval_text(one.low, one.high) if one else "" for one in changes)))
    nets = [(net_text(one), net_interval(one)) if one else ("", "") for one in changes]
    flushes = [flush_multiple(one) if one else ("", "") for one in changes]
    for name_of_figure, figures in (("  net", nets), ("  F", flushes)):
        for label, texts in zip((name_of_figure, ""), zip(*figures, strict=True), strict=True):
            if any(texts):
                rows.append((label, "", *texts))
    least = next(change.before_min_ns for change in shown)
    rows.append(("  min", format_ns(least), *(format_ns(one.after_min_ns) if one else "" for one in changes)))
    return rows


def _ratio(change: Change) -> str:
    return f"{ratio_text(change)} {_WORDS[change.verdict]}".removeprefix("- ").rstrip()


def _explanations(comparisons: Sequence[Comparison]) -> list[str]:
    changes = [change for one in comparisons for change in one.changes]
    verdicts = {change.verdict for change in changes}
    found = [
        "Times are geometric means over boots (or processes) of their medians; x: ratio to the first column, the "
        "quotient of the two times"
        + (f", with its {CONFIDENCE:.0%} confidence interval below." if any(one.low for one in changes) else ".")
    ]
    found.append("min: the shortest samples.")
    if verdicts & {Verdict.SLOWER, Verdict.FASTER}:
        found.append("slower, faster: changed, at a level that holds for all rows of a column together.")
    if Verdict.EQUIVALENT in verdicts:
        found.append(
            f"equal: the whole interval lies within {format_percent(max(one.margin for one in changes))} of 1."
        )
    if Verdict.INCONCLUSIVE in verdicts:
        found.append("open: the samples show neither a change nor equality.")
    if Verdict.TOO_SHORT in verdicts:
        found.append("too short: a median is 0 ns, because the clock is too coarse.")
    found += [f"{line}." for line in floor_legend(changes)]
    if any(flush_multiple(one)[0] for one in changes):
        found.append("F: the added time, in units of CLFLUSHOPT over the same buffer from user space.")
    return found


def doubts(results: Sequence[BenchResult], comparisons: Sequence[Comparison] = ()) -> list[str]:
    """Return every limit of the figures, one line each. A limit of some results only has their labels."""
    concerned: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for one in figure_limits(result):
            concerned.setdefault((one.code, one.text), []).append(f"{result.label}{concerned_rows(result, one)}")
    found = []
    for (code, text), labels in concerned.items():
        about = "" if labels == [result.label for result in results] else f" [{', '.join(labels)}]"
        found.append(f"{code}{about}: {text}")
    cautions = dict.fromkeys(caution for one in comparisons for caution in one.cautions)
    return [*found, *(line for one in comparisons for line in hump_lines(one)), *(f"note: {one}" for one in cautions)]
