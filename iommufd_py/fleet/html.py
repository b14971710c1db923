# SPDX-License-Identifier: MIT
"""Format the verdict on all machines as one HTML file that loads no other file."""

from html import escape

from iommufd_py.base.units import counted
from iommufd_py.fleet.combined_times import forest
from iommufd_py.fleet.formats import check_rows, ratio_rows, verdict_sentence
from iommufd_py.fleet.verdict import Report
from iommufd_py.results import page
from iommufd_py.results.tables import Table

CHECK_HEADINGS = ("kernel", "check", "worst", "machines", "named", "why")
RATIO_HEADINGS = ("kernel", "operation", "mean ratio", "interval", "I2", "machines", "from ... to")
EXPLANATIONS = (
    "mean ratio: the random-effects mean of the ratios of all machines; the times of two machines are never compared",
    "I2: the share of the spread between machines that the noise of each machine does not explain",
)
# Each picture makes the page longer. The tables hold every row.
_MOST_PICTURES = 24


def page_of(report: Report) -> str:
    """Return the page."""
    body = [
        "<h1>iommufd fleet</h1>",
        f"<p><b>{escape(verdict_sentence(report))}</b></p>",
        page.html_table(Table(CHECK_HEADINGS, tuple(check_rows(report)), keys=2)),
    ]
    if report.rows:
        body += [
            f"<h2>Times relative to {escape(str(report.baseline))}</h2>",
            page.html_table(Table(RATIO_HEADINGS, tuple(ratio_rows(report.rows)), keys=2)),
            *(f"<p>{escape(one)}</p>" for one in EXPLANATIONS),
        ]
    body += [page.html_note(f"{text} ({counted(len(names), 'machine')})") for text, names in report.cautions.items()]
    if report.rows:
        drawn = [row for row in report.rows if row.mean]
        body += [page.svg(forest(row)) for row in drawn[:_MOST_PICTURES]]
        if len(drawn) > _MOST_PICTURES:
            body.append(page.html_note(f"{counted(len(drawn) - _MOST_PICTURES, 'more row')} without a picture here"))
    body += ["<h2>Machines</h2>", page.html_table(_machines(report))]
    return page.html_page("iommufd fleet", body)


def _machines(report: Report) -> Table:
    rows = tuple(
        (
            one.name,
            str(one.state),
            " ".join(f"{key}={value}" for key, value in one.tags.items()),
            ", ".join(f"{kernel.name}: {kernel.release}, iommufd {kernel.tool_version}" for kernel in one.kernels),
            "; ".join(
                f"{check.kernel} {check.name} {check.outcome}".strip() for check in one.checks if not check.is_good
            ),
        )
        for one in report.runners
    )
    return Table(("machine", "state", "tags", "kernels", "not good"), rows)
