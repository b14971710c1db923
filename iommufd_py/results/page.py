# SPDX-License-Identifier: MIT
"""The parts of an HTML page that loads nothing else: its frame, tables, notes and pictures."""

from collections.abc import Sequence
from html import escape

from iommufd_py.results.tables import Table

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


def html_page(title: str, body: Sequence[str]) -> str:
    """Return the page with *title*; *body* is HTML, the title is text."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def html_table(content: Table) -> str:
    """Return a table. A wide table gets its own scroll bar."""

    def row(tag: str, texts: Sequence[str]) -> str:
        cells = (
            f"<{tag}{' class=key' if at < content.keys else ''}>{escape(text)}</{tag}>" for at, text in enumerate(texts)
        )
        return f"<tr>{''.join(cells)}</tr>"

    rows = "".join(row("td", texts) for texts in content.rows)
    return f'<div class="wide"><table><thead>{row("th", content.headings)}</thead><tbody>{rows}</tbody></table></div>'


def html_note(text: str) -> str:
    """Return a highlighted paragraph."""
    return f'<p class="note">{escape(text)}</p>'


def svg(picture: bytes) -> str:
    """Return the picture without the XML prologue, which HTML does not allow."""
    text = picture.decode()
    return text[text.index("<svg") :]
