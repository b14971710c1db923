# SPDX-License-Identifier: MIT
"""One HTML file with everything: what was measured, tables, pictures, what limits them. It loads nothing else."""

from collections.abc import Sequence
from html import escape

from iommufd_py.results import compare_text, plot, report
from iommufd_py.results.breakdown import Breakdown
from iommufd_py.results.compare import Comparison
from iommufd_py.results.model import BenchResult
from iommufd_py.results.report import Table

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ccc }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87em }
th, td { padding: .25em .7em; text-align: right; white-space: nowrap; border-bottom: 1px solid #eee }
th { border-bottom: 1px solid #888 } th:first-child, td:first-child { text-align: left }
dl { display: grid; grid-template-columns: max-content auto; gap: .1em 1em } dt { font-weight: 600 } dd { margin: 0 }
.note { background: #fff6e0; padding: .4em .8em; margin: .3em 0; border-left: 3px solid #e69f00 }
svg { max-width: 100%; height: auto } code { font-size: .9em }
"""


def page(
    results: Sequence[BenchResult], comparisons: Sequence[Comparison] = (), breakdowns: Sequence[Breakdown] = ()
) -> str:
    """Return the report of *results*, of the comparisons of the others with the first, and of what was traced."""
    body = ["<h1>DMA map and unmap times</h1>"]
    for comparison in comparisons:
        body += [
            f"<h2>{escape(comparison.after)} against {escape(comparison.before)}</h2>",
            _table(compare_text.comparison_table(comparison)),
            *map(_note, comparison.cautions),
            _svg(plot.render(plot.change_figure(comparison), "svg")),
        ]
    body += [
        "<h2>Time for each 4K page</h2>",
        _svg(plot.render(plot.page_figure(results), "svg")),
        "<h2>How the times are distributed</h2>",
        _svg(plot.render(plot.distribution_figure(results), "svg")),
    ]
    if breakdowns:
        body += [
            "<h2>Where the kernel's time goes</h2>",
            _note("Traced in a pass of its own. Probes cost time in each call, so parts of many calls look larger."),
            _svg(plot.render(plot.share_figure(breakdowns), "svg")),
        ]
    for result in results:
        body += _result(result)
    title = escape(" / ".join(result.label for result in results))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _result(result: BenchResult) -> list[str]:
    facts = [*report.facts(result), ("started", result.started), ("command", " ".join(result.command))]
    return [
        f"<h2>{escape(result.label)}</h2>",
        "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts) + "</dl>",
        *map(_note, report.notes(result)),
        _table(report.table(result)),
        "<p></p>",
        _table(report.buffers(result)),
    ]


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in table.headings)
    rows = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in table.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _svg(picture: bytes) -> str:
    """Return the picture without the XML prologue, which has no place inside HTML."""
    text = picture.decode()
    return text[text.index("<svg") :]
