# SPDX-License-Identifier: MIT
"""A comparison as a table, as text or as Markdown."""

import re
from collections.abc import Sequence
from typing import Protocol

from iommufd_py.base.units import format_ns, format_percent, format_ratio
from iommufd_py.results.compare import FAMILY_LEVEL, Change, Comparison, Verdict
from iommufd_py.results.estimate import CONFIDENCE, Estimate
from iommufd_py.results.report import PARTED, axes, axis_headings, axis_values, row_name
from iommufd_py.results.tables import Table

# Characters with a meaning in Markdown. An underscore inside a word has none, nor has a sign inside a line.
_MARKUP = re.compile(r"[\\`*<>|\[\]&~]|(?<!\w)_|_(?!\w)|^[#+-]")


def comparison_table(comparison: Comparison) -> Table:
    """Return a row for each operation: both times, their ratio with its interval, the verdict, and the minima.

    The columns for the interval, the ratio without the floor and the cost in flushes exist if a row has the figure.
    """
    names = axes([change.point for change in comparison.changes])
    intervals = any(change.low is not None for change in comparison.changes)
    net = any(change.on_floor for change in comparison.changes)
    flushes = any(flush_multiple(change)[0] for change in comparison.changes)
    rows = [
        (
            *axis_values(change.point, names),
            change.operation,
            format_ns(change.before_ns),
            format_ns(change.after_ns),
            ratio_text(change),
            *([interval_text(change.low, change.high) or "-"] if intervals else []),
            str(change.verdict),
            *([_with_interval(net_text(change), net_interval(change))] if net else []),
            *([_with_interval(*flush_multiple(change))] if flushes else []),
            f"{format_ns(change.before_min_ns)}, {format_ns(change.after_min_ns)}",
        )
        for change in comparison.changes
    ]
    headings = ("operation", "before", "after", "ratio", *(["interval"] if intervals else []), "verdict")
    more = (*(["net"] if net else []), *(["F"] if flushes else []), "minima")
    return Table((*axis_headings(names), *headings, *more), tuple(rows), len(names) + 1)


class RatioOnFloor(Protocol):
    """A ratio that can have the mark of the floor: a change between two results, or one in a history."""

    @property
    def ratio(self) -> float | None:
        """The ratio; None without one."""

    @property
    def on_floor(self) -> bool:
        """Whether the floor is more than a tenth of a time."""

    @property
    def net(self) -> Estimate | None:
        """The ratio without the floor; None if a time is not longer than the floor."""


def ratio_text(change: RatioOnFloor) -> str:
    """Return the ratio: ``x1.18``; with an asterisk if the floor is over 10 %."""
    return "-" if change.ratio is None else f"x{format_ratio(change.ratio)}{'*' if change.on_floor else ''}"


def interval_text(low: float | None, high: float | None) -> str:
    """Return an interval: ``1.16-1.21``; with negative ends ``-4.1 to -3.9``; empty without one."""
    if low is None or high is None:
        return ""
    return f"{format_ratio(low)}{' to ' if low < 0 else '-'}{format_ratio(high)}"


def net_text(change: RatioOnFloor) -> str:
    """Return the ratio without the floor, if the floor is over 10 % of a time; else nothing."""
    if not change.on_floor:
        return ""
    return "?" if change.net is None else f"x{format_ratio(change.net.value)}"


def net_interval(change: Change) -> str:
    """Return the interval of the ratio that :func:`net_text` returns; empty without one."""
    return interval_text(change.net.low, change.net.high) if change.on_floor and change.net is not None else ""


def net_words(change: Change) -> str:
    """Return the ratio without the floor for a sentence."""
    if change.net is None:
        return "no ratio without the floor, which is as long as a time"
    interval = net_interval(change)
    return f"{net_text(change)}{f' ({interval})' if interval else ''} without the floor"


def floor_legend(changes: Sequence[RatioOnFloor]) -> list[str]:
    """Return the explanation of the marks of the floor, if there are any."""
    marked = [change for change in changes if change.on_floor]
    if not marked:
        return []
    text = "*: the floor, an ioctl that does nothing, is over 10 % of a time; net: the ratio without the floor"
    return [f"{text}; ?: the floor is as long as a time" if any(one.net is None for one in marked) else text]


def flush_multiple(change: Change) -> tuple[str, str]:
    """Return the difference in user-space flushes and its interval, if the time changed; else nothing."""
    if change.flushes is None or not change.changed:
        return "", ""
    return format_ratio(change.flushes.value), interval_text(change.flushes.low, change.flushes.high)


def _with_interval(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value or "-"


def verdict_lines(comparison: Comparison) -> list[str]:
    """Return a line of explanation for each verdict that the comparison gives."""
    margin = max((change.margin for change in comparison.changes), default=0.0)
    texts = {
        Verdict.SLOWER: f"the ratio is above 1; without a change, {FAMILY_LEVEL:.1%} of such tables would show this",
        Verdict.FASTER: f"the ratio is below 1; without a change, {FAMILY_LEVEL:.1%} of such tables would show this",
        Verdict.EQUIVALENT: f"the whole interval lies within {format_percent(margin)} of 1",
        Verdict.INCONCLUSIVE: "the samples show neither a change nor equivalence: take more boots or processes",
        Verdict.TOO_FEW: "an interval needs three boots or processes on each side",
        Verdict.TOO_SHORT: "a median is 0: the clock is too coarse",
    }
    given = dict.fromkeys(change.verdict for change in comparison.changes)
    found = [f"{verdict}: {texts[verdict]}" for verdict in Verdict if verdict in given]
    return [*found, *floor_legend(comparison.changes)]


def floor_lines(comparison: Comparison) -> list[str]:
    """Return a sentence for each operation of which the floor is over 10 % of a time: the ratio with the floor and the
    ratio without it."""
    return [
        f"{change.operation}, {row_name(change.point)}: the floor is over 10 % of a time; the ratio of the medians is "
        f"{ratio_text(change)}, and {net_words(change)}"
        if change.ratio is not None
        else f"{change.operation}, {row_name(change.point)}: too short to time, so there is no ratio"
        for change in comparison.changes
        if change.on_floor
    ]


def hump_lines(comparison: Comparison) -> list[str]:
    """Return a line with the number of operations whose samples form two groups.

    A further line describes each of these operations if the ratio of its means differs from that of its medians.
    """
    jumping = [change for change in comparison.changes if change.humps]
    if not jumping:
        return []
    against = f"{comparison.after} against {comparison.before}"
    parted = [f"{against}, {_means(change)}" for change in jumping if _parted(change)]
    means = f"in {len(parted)} of them the ratio of the means differs from that of the medians by over {PARTED:.0%}"
    wide = "the intervals contain the ratio of the means; " if any(one.low is not None for one in jumping) else ""
    return [
        f"{against}: in {len(jumping)} of {len(comparison.changes)} operations the samples of a boot or process form "
        f"two groups, so its median can jump between them; {wide}{means}",
        *parted,
    ]


def _parted(change: Change) -> bool:
    """Return whether the ratio of the means differs by over 5 % from the ratio of the medians."""
    if change.ratio is None or change.mean_ratio is None:
        return False
    return abs(change.mean_ratio / change.ratio - 1) > PARTED


def _means(change: Change) -> str:
    mean = "-" if change.mean_ratio is None else f"x{format_ratio(change.mean_ratio)}"
    return (
        f"{change.operation}, {row_name(change.point)}: the ratio of the means is {mean} "
        f"({format_ns(change.before_mean_ns)} and {format_ns(change.after_mean_ns)}), the ratio of the medians is "
        f"{ratio_text(change)}; two groups: {'; '.join(change.humps)}"
    )


def markdown(comparison: Comparison, more: Sequence[str]) -> str:
    """Return the table as Markdown, with the explanations and *more* lines below it."""
    shown = comparison_table(comparison)
    lines = ["| " + " | ".join(row) + " |" for row in (shown.headings, *shown.rows)]
    lines.insert(1, "|" + " --- |" * len(shown.headings))
    below = [
        f"before: {comparison.before}; after: {comparison.after}"
        + (f"; interval: {CONFIDENCE:.0%} confidence" if "interval" in shown.headings else ""),
        *verdict_lines(comparison),
        *more,
    ]
    return "\n".join([*lines, "", *(f"- {_escaped(line)}" for line in below)])


def _escaped(text: str) -> str:
    """Return *text* as Markdown that shows it. A label can have any character."""
    return _MARKUP.sub(r"\\\g<0>", text)
