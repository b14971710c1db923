# SPDX-License-Identifier: MIT
"""`iommufd bench show|compare|export`: read the results that `bench run` wrote."""

import sys
from pathlib import Path

import click

from iommufd_py.base.errors import SkipError
from iommufd_py.results import compare as comparing
from iommufd_py.results import (
    compare_text,
    cover_letter,
    dialects,
    document,
    finding,
    kcidb,
    model,
    pyperf,
    report,
    tables,
)

from ..commands import command
from ..files import RESULT_FILE, refuse_second_stdin
from ..output import emit_json, note
from ..types import FiniteFloat, chosen_format, refuse_ignored
from .page import emit_folded, emit_lines, page_width

# The largest threshold. With one that no comparison reaches, a CI gate would pass everything.
_MOST_PERCENT = 10_000
_FORMATS = ("table", "markdown", "cover-letter", "iommupt", "vfio-tests", "kcidb", "json")
_WITHOUT_VERDICTS = {"iommupt": dialects.iommupt, "vfio-tests": dialects.vfio_tests}


@command()
@click.argument("file", type=RESULT_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def show(file: Path, as_json: bool) -> None:
    """Show a result: the machine, the times, and the limits of the figures.

    FILE can be -, the standard input. The commands compare, plot and export also accept -.
    """
    result = document.load_result(file)
    if as_json:
        emit_json(report.summary_document(result))
    else:
        show_result(result)


def show_result(result: model.BenchResult) -> None:
    """Print a result and the limits of its figures on stdout, so that a copy of the table includes the limits."""
    for name, value in report.facts(result):
        for line in tables.wrapped(f"{name + ':':11}{value}", page_width(), " " * 11):
            click.echo(line)
    if not any(row.operations for row in result.rows):
        click.echo("\nno row has samples, so there are no times")
        return
    shown = report.times_table(result), report.buffers(result)
    for table in shown:
        click.echo()
        emit_folded(table)
    emit_lines(report.notes(result))
    emit_lines(tables.explained([heading for table in shown for heading in table.headings], page_width()))


@command()
@click.argument("baseline", type=RESULT_FILE)
@click.argument("others", nargs=-1, required=True, type=RESULT_FILE)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="table",
    help="cover-letter: for the mail of a patch series. iommupt: like generic_pt's KUnit benchmark. "
    "vfio-tests: like vfio-pci-mem-dma-map. kcidb: a KCIDB report.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as `--format json`.")
@click.option(
    "--threshold",
    type=FiniteFloat(0, _MOST_PERCENT),
    metavar="PERCENT",
    help="Exit with 1 if the whole interval of a row is slower by more than this.",
)
@click.option(
    "--margin",
    type=FiniteFloat(min=0, max=50, min_open=True),
    default=comparing.MARGIN * 100,
    metavar="PERCENT",
    help="A row is equivalent if its whole interval is within this distance of 1.",
)
@click.option("--force", is_flag=True, help="Compare although the machines differ.")
def compare(
    baseline: Path,
    others: tuple[Path, ...],
    form: str,
    as_json: bool,
    threshold: float | None,
    margin: float,
    force: bool,
) -> None:
    """Compare results with the first one, row by row: ratio, confidence interval, verdict.

    The verdict is slower or faster (at a level that holds for all rows together), equivalent (the whole interval lies
    within the margin), or inconclusive. The exit status is 1 if a row is slower by more than the threshold, and 4 if no
    row has an interval, so that the threshold cannot decide.

    \b
    Examples:
      iommufd bench compare stock.json patched.json
      iommufd bench compare stock.json patched.json --format cover-letter
    """
    form = chosen_format(as_json, form)
    refuse_ignored(click.get_current_context(), "margin", form in _WITHOUT_VERDICTS, f"--format {form} has no verdicts")
    refuse_second_stdin([baseline, *others])
    results = document.load_all([baseline, *others])
    comparisons = [comparing.compare(results[0], after, force=force, margin=margin / 100) for after in results[1:]]
    if form == "json":
        emit_json(comparing.comparison_document(comparisons, cover_letter.doubts(results, comparisons)))
    elif form == "kcidb":
        emit_json(kcidb.bench_kcidb(results, comparisons))
    elif form == "cover-letter":
        click.echo(cover_letter.cover_letter(results, comparisons))
    else:
        for number, (after, comparison) in enumerate(zip(results[1:], comparisons, strict=True)):
            if number:
                click.echo()
            _show_comparison(results[0], after, comparison, form)
    if threshold is None:
        return
    if any(one.slower_than(threshold / 100) for one in comparisons):
        sys.exit(1)
    if all(change.low is None for one in comparisons for change in one.changes):
        raise SkipError(
            "no row has an interval, so the threshold decides nothing: an interval needs three boots or processes on "
            "each side (bench run --processes 3), and times above 0"
        )


def _show_comparison(
    before: model.BenchResult, after: model.BenchResult, comparison: comparing.Comparison, form: str
) -> None:
    if form in _WITHOUT_VERDICTS:
        click.echo(_WITHOUT_VERDICTS[form](before, after, comparison))
        return
    if form == "markdown":
        more = [*cover_letter.conditions([before, after]), *finding.time_sentences([before, after], [comparison])]
        click.echo(compare_text.markdown(comparison, [*more, *cover_letter.doubts([before, after], [comparison])]))
        return
    facts = [
        f"{name}: {result.label}; {result.target.evidence}, kernel {result.environment.kernel_release}, "
        f"{cover_letter.amount(result)}"
        for name, result in (("before", before), ("after", after))
    ]
    for fact in facts:
        for line in tables.wrapped(fact, page_width()):
            click.echo(line)
    click.echo()
    show_changes(before, after, comparison)


def show_changes(before: model.BenchResult, after: model.BenchResult, comparison: comparing.Comparison) -> None:
    """Print the table of a comparison, the finding, the meaning of the columns, and the limits of the figures."""
    table = compare_text.comparison_table(comparison)
    emit_folded(table)
    emit_lines(finding.time_sentences([before, after], [comparison]))
    emit_lines([*compare_text.verdict_lines(comparison), *tables.explained(table.headings, page_width())])
    emit_lines(cover_letter.doubts([before, after], [comparison]))


@command()
@click.argument("file", type=RESULT_FILE)
def export(file: Path) -> None:
    """Print a result in pyperf's file format.

    pyperf then judges the same figures as 'bench compare': the median of each boot, or of each process if there are
    fewer than three boots. pyperf has no margin and no level for a whole table, so it can call a row changed that
    'bench compare' does not.

    \b
    Examples:
      iommufd bench export run.json > pyperf.json
    """
    result = document.load_result(file)
    emit_json(pyperf.to_pyperf(result))
    for text in pyperf.left_out(result):
        note(text)
