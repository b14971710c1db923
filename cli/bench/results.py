# SPDX-License-Identifier: MIT
"""`iommufd bench show|compare|export`: read what `bench run` kept."""

import sys
from pathlib import Path

import click

from iommufd_py.results import compare as comparing
from iommufd_py.results import compare_text, document, pyperf, report
from iommufd_py.results.model import BenchResult

from ..output import emit_json, emit_table

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
def show(file: Path, as_json: bool) -> None:
    """Show a kept run: what it was measured on, the times, and what limits them."""
    result = document.load(file)
    if as_json:
        emit_json(report.summary_document(result))
    else:
        show_result(result)


def show_result(result: BenchResult) -> None:
    """Print a run on stdout with what limits its figures: whoever copies the table copies that too."""
    for name, value in report.facts(result):
        click.echo(f"{name + ':':11}{value}")
    for table in (report.table(result), report.buffers(result)):
        click.echo()
        emit_table(table.headings, table.rows)
    notes = report.notes(result)
    if notes:
        click.echo()
    for line in notes:
        click.echo(line)


@click.command()
@click.argument("baseline", type=_FILE)
@click.argument("others", nargs=-1, required=True, type=_FILE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "cover-letter", "json"]),
    default="table",
    help="How to print it; cover-letter is for a patch series' mail.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--threshold", type=click.FloatRange(min=0), metavar="PERCENT", help="Exit with 1 if one is so much slower."
)
@click.option("--force", is_flag=True, help="Compare although the machines differ in what matters.")
def compare(
    baseline: Path, others: tuple[Path, ...], form: str, as_json: bool, threshold: float | None, force: bool
) -> None:
    """Compare runs with the first one, row by row: ratio, confidence interval, verdict.

    Exit status 1 when a row is slower by more than the threshold.
    """
    before = document.load(baseline)
    afters = [document.load(file) for file in others]
    comparisons = [comparing.compare(before, after, force=force) for after in afters]
    if as_json or form == "json":
        emit_json(comparing.comparison_document(comparisons))
    else:
        for number, (after, comparison) in enumerate(zip(afters, comparisons, strict=True)):
            if number:
                click.echo()
            show_comparison(before, after, comparison, form)
    if threshold is not None and any(one.slower_than(threshold / 100) for one in comparisons):
        sys.exit(1)


def show_comparison(before: BenchResult, after: BenchResult, comparison: comparing.Comparison, form: str) -> None:
    """Print one comparison on stdout."""
    if form == "cover-letter":
        click.echo(compare_text.cover_letter(before, after, comparison))
        return
    if form == "markdown":
        click.echo(compare_text.markdown(comparison))
        return
    for result in (before, after):
        click.echo(f"{result.label}: {result.target.evidence}, kernel {result.environment.kernel_release}")
    click.echo()
    table = compare_text.comparison_table(comparison)
    emit_table(table.headings, table.rows)
    if comparison.cautions:
        click.echo()
    for caution in comparison.cautions:
        click.echo(caution)


@click.command()
@click.argument("file", type=_FILE)
def export(file: Path) -> None:
    """Print a kept run in pyperf's file format: iommufd bench export run.json > pyperf.json."""
    emit_json(pyperf.to_pyperf(document.load(file)))
