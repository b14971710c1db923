# SPDX-License-Identifier: MIT
"""Format results as one HTML file: finding, machine, verdicts, limits, pictures, all times. It loads no other file."""

from collections.abc import Sequence
from html import escape

from iommufd_py.results import compare_text, finding, plot, report
from iommufd_py.results import page as parts
from iommufd_py.results.breakdown import Breakdown
from iommufd_py.results.compare import Comparison
from iommufd_py.results.cover_letter import doubts
from iommufd_py.results.model import BenchResult
from iommufd_py.results.tables import EXPLANATIONS, Table


def page(
    results: Sequence[BenchResult],
    comparisons: Sequence[Comparison] = (),
    breakdowns: Sequence[Breakdown] = (),
    sentences: Sequence[str] = (),
) -> str:
    """Return the report with *results*, the comparisons of the others with the first one, and the traced shares.

    Args:
        sentences: the finding, which another text of the same run has, too; empty: that of the comparisons.
    """
    body = ["<h1>DMA map and unmap times</h1>"]
    if comparisons:
        shown = sentences or finding.time_sentences(results, comparisons)
        body += ["<h2>Finding</h2>", *(f"<p>{escape(line)}</p>" for line in shown)]
    body += ["<h2>Machine</h2>", *(part for result in results for part in _machine(result))]
    for comparison in comparisons:
        table = compare_text.comparison_table(comparison)
        body += [
            f"<h2>{escape(comparison.after)} against {escape(comparison.before)}</h2>",
            f"<p>before: {escape(comparison.before)}; after: {escape(comparison.after)}</p>",
            parts.html_table(table),
            _glossary(table, compare_text.verdict_lines(comparison)),
        ]
    limits = doubts(results, comparisons)
    if limits:
        body += ["<h2>Limits of these figures</h2>", *map(parts.html_note, limits)]
    for comparison in comparisons:
        body += [f"<h2>Change: {escape(comparison.after)} against {escape(comparison.before)}</h2>"]
        if comparison.has_ratios:
            body.append(parts.svg(plot.render(plot.change_figure(comparison, results), "svg")))
        else:
            body.append(parts.html_note("No picture: no operation has a ratio, all are too short to time."))
    body += [
        "<h2>Time for each 4K page</h2>",
        parts.svg(plot.render(plot.page_figure(results), "svg")),
        "<h2>Distribution of the times</h2>",
        parts.svg(plot.render(plot.distribution_figure(results), "svg")),
    ]
    if breakdowns:
        body += [
            "<h2>Shares of the kernel's time</h2>",
            parts.html_note(
                "Traced in a separate pass. Probes cost time in each call, so parts with many calls look larger."
            ),
            parts.svg(plot.render(plot.share_figure(breakdowns), "svg")),
        ]
    for result in results:
        body += _times(result)
    return parts.html_page(" / ".join(result.label for result in results), body)


def _machine(result: BenchResult) -> list[str]:
    facts = [*report.facts(result), ("started", result.started), ("command", result.repeat_command)]
    return [
        f"<h3>{escape(result.label)}</h3>",
        "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts) + "</dl>",
    ]


def _times(result: BenchResult) -> list[str]:
    tables = report.times_table(result), report.buffers(result)
    return [
        f"<h2>All times of {escape(result.label)}</h2>",
        *(part for table in tables for part in (parts.html_table(table), _glossary(table, ()))),
    ]


def _glossary(table: Table, more: Sequence[str]) -> str:
    """Return the meaning of each column. A browser shows it after a click."""
    lines = [f"{name}: {EXPLANATIONS[name]}" for name in table.headings if name in EXPLANATIONS]
    items = "".join(f"<li>{escape(line)}</li>" for line in (*lines, *more))
    return f"<details><summary>Meaning of the columns</summary><ul>{items}</ul></details>"
