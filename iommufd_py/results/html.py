# SPDX-License-Identifier: MIT
"""One HTML file: finding, machine, verdicts, limits, pictures, all times. It loads nothing else."""

from collections.abc import Sequence
from html import escape

from iommufd_py.results import compare_text, finding, plot, report
from iommufd_py.results.breakdown import Breakdown
from iommufd_py.results.compare import Comparison
from iommufd_py.results.cover_letter import doubts
from iommufd_py.results.model import BenchResult
from iommufd_py.results.tables import EXPLANATIONS, Table

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ccc }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87em }
th, td { padding: .25em .7em; text-align: right; white-space: nowrap; border-bottom: 1px solid #eee }
th { border-bottom: 1px solid #888 } .key { text-align: left }
dl { display: grid; grid-template-columns: max-content auto; gap: .1em 1em } dt { font-weight: 600 } dd { margin: 0 }
.note { background: #fff6e0; padding: .4em .8em; margin: .3em 0; border-left: 3px solid #e69f00 }
svg { max-width: 100%; height: auto } code { font-size: .9em }
"""


def page(
    results: Sequence[BenchResult], comparisons: Sequence[Comparison] = (), breakdowns: Sequence[Breakdown] = ()
) -> str:
    """Return the report of *results*, of the comparisons of the others with the first, and of the traced shares."""
    body = ["<h1>DMA map and unmap times</h1>"]
    if comparisons:
        body += ["<h2>Finding</h2>", *(f"<p>{escape(line)}</p>" for line in finding.sentences(results, comparisons))]
    body += ["<h2>Machine</h2>", *(part for result in results for part in _machine(result))]
    for comparison in comparisons:
        table = compare_text.comparison_table(comparison)
        body += [
            f"<h2>{escape(comparison.after)} against {escape(comparison.before)}</h2>",
            f"<p>before: {escape(comparison.before)}; after: {escape(comparison.after)}</p>",
            _table(table),
            _glossary(table, compare_text.verdict_lines(comparison)),
        ]
    limits = doubts(results, comparisons)
    if limits:
        body += ["<h2>Limits of these figures</h2>", *map(_note, limits)]
    body += [
        f"<h2>Change: {escape(one.after)} against {escape(one.before)}</h2>"
        + _svg(plot.render(plot.change_figure(one, results), "svg"))
        for one in comparisons
    ]
    body += [
        "<h2>Time for each 4K page</h2>",
        _svg(plot.render(plot.page_figure(results), "svg")),
        "<h2>Distribution of the times</h2>",
        _svg(plot.render(plot.distribution_figure(results), "svg")),
    ]
    if breakdowns:
        body += [
            "<h2>Shares of the kernel's time</h2>",
            _note("Traced in a separate pass. Probes cost time in each call, so parts with many calls look larger."),
            _svg(plot.render(plot.share_figure(breakdowns), "svg")),
        ]
    for result in results:
        body += _times(result)
    title = escape(" / ".join(result.label for result in results))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _machine(result: BenchResult) -> list[str]:
    facts = [*report.facts(result), ("started", result.started), ("command", " ".join(result.command))]
    return [
        f"<h3>{escape(result.label)}</h3>",
        "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts) + "</dl>",
    ]


def _times(result: BenchResult) -> list[str]:
    tables = report.table(result), report.buffers(result)
    return [
        f"<h2>All times of {escape(result.label)}</h2>",
        *(part for table in tables for part in (_table(table), _glossary(table, ()))),
    ]


def _glossary(table: Table, more: Sequence[str]) -> str:
    """Return the meaning of each column, to open by a click."""
    lines = [f"{name}: {EXPLANATIONS[name]}" for name in table.headings if name in EXPLANATIONS]
    items = "".join(f"<li>{escape(line)}</li>" for line in (*lines, *more))
    return f"<details><summary>Meaning of the columns</summary><ul>{items}</ul></details>"


def _table(table: Table) -> str:
    def row(tag: str, texts: Sequence[str]) -> str:
        cells = (
            f"<{tag}{' class=key' if at < table.keys else ''}>{escape(text)}</{tag}>" for at, text in enumerate(texts)
        )
        return f"<tr>{''.join(cells)}</tr>"

    rows = "".join(row("td", texts) for texts in table.rows)
    return f'<div class="wide"><table><thead>{row("th", table.headings)}</thead><tbody>{rows}</tbody></table></div>'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _svg(picture: bytes) -> str:
    """Return the picture without the XML prologue, which HTML does not allow."""
    text = picture.decode()
    return text[text.index("<svg") :]
