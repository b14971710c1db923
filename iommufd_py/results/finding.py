# SPDX-License-Identifier: MIT
"""The finding of a benchmark in three sentences, derived from the numbers."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from iommufd_py.base.coherency import Coherency
from iommufd_py.base.units import format_percent
from iommufd_py.results.compare import Change, Comparison, Verdict
from iommufd_py.results.compare_text import net_words, ratio_text
from iommufd_py.results.model import BenchResult
from iommufd_py.results.report import floors_of, row_name

PRECISION = 0.05
"""Width of an interval that counts as precise."""


def time_sentences(
    results: Sequence[BenchResult], comparisons: Sequence[Comparison], precision: float = PRECISION
) -> list[str]:
    """Return three sentences: the cost, the rows without a cost, and how good the figures are.

    Args:
        results: the baseline, then the others.
        comparisons: comparisons of each other result with the baseline, in the same order.
        precision: width of an interval that counts as precise, 0.05 for 5 %.
    """
    coherent = [
        one
        for one, result in zip(comparisons, results[1:], strict=True)
        if result.target.evidence.coherency is Coherency.COHERENT
    ]
    others = [one for one in comparisons if one not in coherent]
    return [
        "Cost: " + ("; ".join(map(_cost, others or comparisons)) + "."),
        "No cost: " + ("; ".join(map(_no_cost, coherent or comparisons)) + "."),
        "Quality: " + _quality(results, comparisons, precision) + ".",
    ]


def _cost(comparison: Comparison) -> str:
    changed = [one for one in comparison.changes if one.changed and one.ratio is not None]
    total = len(comparison.changes)
    pair = f"{comparison.after} against {comparison.before}"
    if not changed:
        if all(one.low is None for one in comparison.changes):
            return f"{pair} shows nothing, because none of {total} operations has an interval"
        return f"{pair} has no operation of {total} that is surely slower or faster"
    changed.sort(key=lambda one: one.ratio or 0)
    slower = sum(one.verdict is Verdict.SLOWER for one in changed)
    counts = ", ".join(
        f"{count} {word}" for count, word in ((slower, "slower"), (len(changed) - slower, "faster")) if count
    )
    least, most = changed[0], changed[-1]
    extent = _named(most) if least is most else f"from {_named(least)} to {_named(most)}"
    return f"{pair} has {counts} of {total} operations, {extent}"


def _no_cost(comparison: Comparison) -> str:
    counts = Counter(one.verdict for one in comparison.changes)
    pair = f"{comparison.after} against {comparison.before}"
    equal, total = counts[Verdict.EQUIVALENT], len(comparison.changes)
    margin = max(one.margin for one in comparison.changes)
    text = f"{pair} is equivalent within {format_percent(margin)} in {equal} of {total} operations"
    rest = ", ".join(f"{verdict} in {count}" for verdict, count in counts.items() if verdict is not Verdict.EQUIVALENT)
    return f"{text}, {rest}" if rest else text


def _quality(results: Sequence[BenchResult], comparisons: Sequence[Comparison], precision: float) -> str:
    changes = [one for comparison in comparisons for one in comparison.changes]
    wide = [one for comparison in comparisons for one in comparison.wider_than(precision)]
    floored = sum(one.on_floor for one in changes)
    _, floor = floors_of(results)
    text = f"{len(changes) - len(wide)} of {len(changes)} intervals are at most {format_percent(precision)} wide"
    if wide:
        text += f" ({'; '.join(_worst(wide))}); not precise enough: {_short_of(comparisons, precision)}"
    text += f", and the floor of {floor} is over 10 % of a time in {floored} of {len(changes)} ratios"
    return text


def _worst(wide: Sequence[Change]) -> list[str]:
    """Return the widest interval and the number of rows without an interval, of each if there are some."""
    widths = [(one.width, one) for one in wide if one.width is not None]
    found = []
    if widths:
        width, widest = max(widths, key=lambda one: one[0])
        found.append(f"the widest: {widest.operation} {row_name(widest.point)}, {width:.0%} wide")
    if len(wide) > len(widths):
        found.append(f"without an interval: {len(wide) - len(widths)}")
    return found


def _short_of(comparisons: Sequence[Comparison], precision: float) -> str:
    """Return the rows whose interval is wider than *precision*, or the other rows if those are fewer."""
    found = []
    for comparison in comparisons:
        wide = comparison.wider_than(precision)
        good = [one for one in comparison.changes if one not in wide]
        if not wide:
            continue
        rows = _rows(wide) if len(wide) <= len(good) else f"all rows but {_rows(good)}" if good else "all rows"
        found.append(f"{comparison.after}: {rows}")
    return "; ".join(found)


def _rows(changes: Sequence[Change]) -> str:
    """Return the names of rows by operation: ``map 2M, 4k and 64M, 4k; unmap 2M, 4k``."""
    by_operation: defaultdict[str, list[str]] = defaultdict(list)
    for change in changes:
        by_operation[change.operation].append(row_name(change.point))
    return "; ".join(f"{operation} {' and '.join(names)}" for operation, names in by_operation.items())


def _named(change: Change) -> str:
    net = f", {net_words(change)}" if change.on_floor else ""
    return f"{ratio_text(change)} ({change.operation} {row_name(change.point)}{net})"
