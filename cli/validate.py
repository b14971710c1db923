# SPDX-License-Identifier: MIT
"""`iommufd validate`: hold the running kernel against the three flush rules."""

import contextlib
import platform
import sys
from fnmatch import fnmatchcase

import click

from iommufd_py import pci
from iommufd_py.base.pci_address import MOCK
from iommufd_py.validate import report
from iommufd_py.validate.driver import Driver, MockDriver, VfioDriver
from iommufd_py.validate.observer import Observer
from iommufd_py.validate.runner import RULES, RuleOutcome, Validation, play
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.scenarios import SCENARIOS

from .output import emit_json, emit_table, note
from .types import BIND_OPTION, device_option

_STATUS = {RuleOutcome.KEPT: 0, RuleOutcome.NOT_OBSERVED: 4}


@click.command()
@device_option(default=MOCK)
@BIND_OPTION
@click.option("--only", metavar="PATTERN", default="*", help="Only scenarios whose name matches, as 'map-*'.")
@click.option(
    "--flush-symbol", metavar="NAME", help="Kernel function that flushes (phys, length), if it has a new name."
)
@click.option("--list", "list_only", is_flag=True, help="List the scenarios and do nothing.")
@click.option("--explain", metavar="SCENARIO", help="Say what a scenario does and why, and do nothing.")
@click.option("--json", "form", flag_value="json", help="Print one JSON document.")
@click.option("--ktap", "form", flag_value="ktap", help="Print as the kernel's own tests do.")
@click.option("--junit", "form", flag_value="junit", help="Print as CI systems read it.")
def validate(
    device: str,
    bind: bool,
    only: str,
    flush_symbol: str | None,
    list_only: bool,
    explain: str | None,
    form: str | None,
) -> None:
    """Play scenarios on the running kernel and hold each page's story against the three flush rules.

    A device in a non-coherent domain goes past the CPU caches, so they must be flushed before a page enters such a
    domain and before it is given back. Probes on the kernel's functions show in which order that is done, page by page.

    Exit status: 0 every rule is kept, 1 one is violated, 4 it cannot be observed here.
    """
    if bind and device == MOCK:
        raise click.UsageError("--bind needs a PCI device: give its address with --device")
    chosen = [one for one in SCENARIOS if fnmatchcase(one.name, explain or only)]
    if not chosen:
        raise click.UsageError(f"no scenario matches {explain or only!r}; --list shows those there are")
    if explain:
        _explain(chosen)
        return
    if list_only:
        _list(chosen, form)
        return
    driver: Driver = MockDriver() if device == MOCK else VfioDriver(device)
    with contextlib.ExitStack() as stack:
        if bind:
            stack.enter_context(pci.vfio_bound(device))
        observer = stack.enter_context(Observer(driver, flush_symbol))
        verdicts = tuple(play(one, driver, observer) for one in chosen)
        result = Validation(driver.name, platform.release(), observer.flush_symbols, observer.not_observed, verdicts)
    _show(result, form)
    sys.exit(_STATUS.get(result.outcome, 1))


def _explain(scenarios: list[Scenario]) -> None:
    for one in scenarios:
        click.echo(f"{one.name}\n\n{one.what}\n\n{one.why}\n")
        for number in one.rules:
            click.echo(f"rule {number}: {RULES[number]}")
        click.echo(f"kernel functions: {', '.join(f'{name}()' for name in one.functions)}")


def _list(scenarios: list[Scenario], form: str | None) -> None:
    if form == "json":
        emit_json(report.list_document(scenarios))
        return
    emit_table(("scenario", "rules", "what"), [(one.name, _numbers(one), one.what) for one in scenarios])


def _numbers(scenario: Scenario) -> str:
    return " ".join(map(str, scenario.rules))


def _show(result: Validation, form: str | None) -> None:
    if form == "json":
        emit_json(report.validation_document(result))
    elif form == "ktap":
        click.echo(report.ktap(result))
    elif form == "junit":
        click.echo(report.junit(result))
    else:
        _show_table(result)


def _show_table(result: Validation) -> None:
    rows = [(one.scenario.name, _numbers(one.scenario), str(one.outcome)) for one in result.verdicts]
    emit_table(("scenario", "rules", "outcome"), rows)
    for one in result.verdicts:
        for index, line in enumerate(report.details(one)):
            click.echo(f"{one.scenario.name}: {line}" if index == 0 else f"  {line}")
    flushes = ", ".join(result.flush_symbols) or "no function that is known"
    click.echo(f"\nkernel {result.kernel}, device {result.device}, flushes by {flushes}")
    if result.not_observed:
        note(f"not observed: {result.not_observed}")
    emit_table(
        ("rule", "outcome", "what"), [(str(number), str(result.rule(number)), RULES[number]) for number in RULES]
    )
