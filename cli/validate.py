# SPDX-License-Identifier: MIT
"""`iommufd validate`: check the running kernel against the three flush rules."""

import contextlib
import platform
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from uuid import UUID

import click

from iommufd_py import pci
from iommufd_py.base.coherency import FLUSH_RULES
from iommufd_py.base.pci_address import MOCK
from iommufd_py.base.shown import shown
from iommufd_py.base.units import counted
from iommufd_py.host.kmsg import KernelLog
from iommufd_py.validate import report
from iommufd_py.validate.catalogue import matching_scenarios, run_scenarios
from iommufd_py.validate.driver import Driver, MockDriver, VfioDriver
from iommufd_py.validate.observer import Observer
from iommufd_py.validate.runner import WORST_FIRST, RuleOutcome, ScenarioResult, Validation, run_scenario
from iommufd_py.validate.scenario import Scenario
from iommufd_py.validate.space.walk import STEPS_OF_A_WALK, WalkStep, draw, shorten, walk_scenario

from .commands import command
from .exit_status import FAILED, NOT_OBSERVED
from .output import emit_json, emit_table, note
from .types import BDF, BIND_OPTION, JSON_OPTION, VF_TOKEN_OPTION, Name, Whole, device_option, is_given, refuse_for_mock

_STATUS = {RuleOutcome.NOT_OBSERVED: NOT_OBSERVED, RuleOutcome.COUNTS_AGREE: NOT_OBSERVED}
_MOST_SEED = (1 << 32) - 1
_MOST_STEPS = 1_000_000
_FORMS = ("as_json", "ktap", "junit")
# Options that apply only if scenarios run.
_OF_A_RUN = (
    "device",
    "second_device",
    "bind",
    "flush_symbol",
    "rule_set",
    "counts_suffice",
    "steps",
    "seed",
    "ktap",
    "junit",
    "brief",
)


@command()
@device_option(default=MOCK)
@click.option(
    "--second-device",
    type=BDF,
    metavar="BDF",
    help="One more PCI device, for the scenario with two devices in a container; with --bind it is bound, too.",
)
@BIND_OPTION
@VF_TOKEN_OPTION
@click.option("--only", metavar="PATTERN", default="*", help="Only scenarios whose name matches, for example 'map-*'.")
@click.option("--full", is_flag=True, help="Test all triples of values of the scenario space instead of all pairs.")
@click.option(
    "--random",
    "steps",
    type=Whole(1, _MOST_STEPS),
    metavar="STEPS",
    help="Run random walks with this number of steps instead. Shorten a walk that shows a violation.",
)
@click.option("--seed", type=Whole(0, _MOST_SEED), metavar="N", help="Seed of the walks.  [default: random]")
@click.option(
    "--rules",
    "rule_set",
    type=click.Choice(["seed", "refined"]),
    default="seed",
    help="seed: the three rules; refined: no second flush while another non-coherent domain maps the page.",
)
@click.option(
    "--counts-suffice",
    is_flag=True,
    help="Also exit with 0 if only the kernel's counters could be checked, and they agree.",
)
@click.option(
    "--flush-symbol",
    type=Name(),
    metavar="NAME",
    help="Kernel function that flushes (phys, length), if its name is unknown to the tool.",
)
@click.option("--list", "list_only", is_flag=True, help="List the scenarios; run nothing.")
@click.option("--explain", metavar="SCENARIO", help="Explain a scenario and its purpose; run nothing.")
@JSON_OPTION
@click.option("--ktap", is_flag=True, help="Print in the format of the kernel's own tests.")
@click.option("--junit", is_flag=True, help="Print JUnit XML for CI systems.")
@click.option("--brief", is_flag=True, help="Print the three rules only.")
@click.option("--history", is_flag=True, help="Print every violation, each with the history of its page.")
@click.pass_context
def validate(
    context: click.Context,
    device: str,
    second_device: str | None,
    bind: bool,
    vf_token: UUID | None,
    only: str,
    full: bool,
    steps: int | None,
    seed: int | None,
    rule_set: str,
    counts_suffice: bool,
    flush_symbol: str | None,
    list_only: bool,
    explain: str | None,
    as_json: bool,
    ktap: bool,
    junit: bool,
    brief: bool,
    history: bool,
) -> None:
    """Run scenarios on the running kernel and check each page's history against the three flush rules.

    A device in a non-coherent domain bypasses the CPU caches. The kernel must therefore flush the caches before a page
    enters such a domain, and before it unpins the page. Probes on kernel functions show the order of map, flush, unmap
    and unpin for each page. Without probes the command can only check the kernel's own counters, which do not show the
    order.

    Some scenarios have names and a purpose. The others combine these dimensions: memory, length, place of the ends,
    access, the account that is charged, domains, the time when they join, the call by which the first one joins, HWPT
    flags, sharing, pins, leaves, and the end. Together they contain every possible pair of values, and with --full
    every triple. If some values are impossible (for example coherent domains, behind an IOMMU that makes none), the
    command combines the other values again. --list lists all scenarios, --explain describes one.

    --device adds scenarios of type1 containers, which combine mode, memory, length, access, the account that is
    charged, the time when the device joins, pins of an emulated device, changes of the user addresses, and the end.
    Pins need the sample driver mtty with the lab's patch. Memory above 4 GiB needs a machine with more than 4 GiB.

    If the loop inside the flush function cannot be probed, the tool assumes that the function flushes its whole range,
    and the output says so.

    Exit status: 0 every rule is kept, 1 a rule is violated or the kernel log has a report, 4 the rules cannot be
    observed here, or only the counts agree.

    \b
    Examples:
      iommufd validate
      iommufd validate --only 'map-*' --history
      iommufd validate --random 2000 --seed 7
    """
    _refuse_contradictions(context)
    pattern = only if explain is None else explain
    chosen = matching_scenarios(pattern, full=full)
    if not chosen and steps is None:
        raise click.UsageError(f"no scenario matches {shown(pattern)}; --list shows all of them")
    if explain is not None:
        _explain(chosen)
    elif list_only:
        _list(chosen, as_json)
    else:
        driver: Driver = MockDriver() if device == MOCK else VfioDriver(device, vf_token, second_device)
        taken = [bdf for bdf in (device, second_device) if bind and bdf is not None]
        with _observed(driver, taken, flush_symbol, rule_set) as (observer, log):
            if steps is None:
                results = run_scenarios(chosen, lambda one: run_scenario(one, driver, observer, log), full=full)
            else:
                results = _walk(steps, seed, driver, observer, log)
            result = Validation(
                driver.name,
                platform.release(),
                observer.flush_symbols,
                observer.not_observed,
                tuple(results),
                rule_set,
                _doubts(observer, log),
                counts_suffice,
            )
        _show(result, as_json=as_json, ktap=ktap, junit=junit, brief=brief, history=history)
        sys.exit(0 if result.is_good else _STATUS.get(result.outcome, FAILED))


def _refuse_contradictions(context: click.Context) -> None:
    given = {name for name in context.params if is_given(context, name)}
    names = {
        parameter.name: parameter.opts[0] for parameter in context.command.params if isinstance(parameter, click.Option)
    }

    def refuse(first: str, others: Sequence[str]) -> None:
        for other in others:
            if {first, other} <= given and first != other:
                raise click.UsageError(f"{names[first]} and {names[other]} cannot be used together")

    refuse("explain", ("list_only", "only", "as_json", "history", *_OF_A_RUN))
    refuse("list_only", ("history", *_OF_A_RUN))
    for form in _FORMS:
        refuse(form, (*_FORMS, "brief", "history"))
    refuse("brief", ("history",))
    refuse("steps", ("only", "full"))
    if "seed" in given and "steps" not in given:
        raise click.UsageError("--seed needs --random")
    refuse_for_mock(*(context.params[name] for name in ("device", "bind", "vf_token")))
    second = context.params["second_device"]
    if second is not None and context.params["device"] in (MOCK, second):
        raise click.UsageError("--second-device needs another PCI device: give the address of that one with --device")


@contextlib.contextmanager
def _observed(
    driver: Driver, taken: Sequence[str], flush_symbol: str | None, rule_set: str
) -> Iterator[tuple[Observer, KernelLog | None]]:
    """Take the devices, and observe the kernel: by probes, and by its log, which other users may not read."""
    with contextlib.ExitStack() as stack:
        for bdf in taken:
            stack.enter_context(pci.vfio_bound(bdf))
        observer = stack.enter_context(Observer(driver, flush_symbol, refined=rule_set == "refined"))
        log = None
        with contextlib.suppress(OSError):  # The doubts mention it.
            log = stack.enter_context(KernelLog())
        yield observer, log


def _doubts(observer: Observer, log: KernelLog | None) -> tuple[str, ...]:
    found = []
    if observer.probes is not None:
        if observer.flush_symbols and not observer.inside_seen:
            names = ", ".join(observer.flush_symbols)
            found.append(f"assumed, not observed: {names} flushes every line of its range")
        if not observer.sees_sync:
            found.append(
                "not observed: the IOTLB invalidation; the tool assumes that an unmap is complete when it is called"
            )
    if log is None:
        found.append("not observed: the kernel log, which this process has no permission to read")
    elif log.lost:
        found.append(
            f"not observed: {counted(log.lost, 'message')} of the kernel log, which the kernel overwrote before they "
            "were read; make the log larger (log_buf_len=4M)"
        )
    return tuple(found)


def _walk(
    steps: int, seed: int | None, driver: Driver, observer: Observer, log: KernelLog | None
) -> list[ScenarioResult]:
    """Run walks until one shows a violation, and shorten that walk."""
    seed = random.randrange(_MOST_SEED) if seed is None else seed
    results: list[ScenarioResult] = []
    for number, first in enumerate(range(0, steps, STEPS_OF_A_WALK)):
        length = min(STEPS_OF_A_WALK, steps - first)
        walk = draw(seed + number, length)
        name = f"random-{seed + number}-{length}"
        result = run_scenario(walk_scenario(name, walk), driver, observer, log)
        if result.outcome in WORST_FIRST:
            note(f"the walk with --seed {seed + number} shows a violation; shortening it")
            return [*results, _shortest(name, walk, result, driver, observer, log)]
        results.append(result)
    return results


def _shortest(
    name: str,
    walk: Sequence[WalkStep],
    result: ScenarioResult,
    driver: Driver,
    observer: Observer,
    log: KernelLog | None,
) -> ScenarioResult:
    best = [result]

    def still_fails(steps: Sequence[WalkStep]) -> bool:
        again = run_scenario(walk_scenario(f"{name}-shortened", steps), driver, observer, log)
        if again.outcome is result.outcome:
            best[0] = again
        return again.outcome is result.outcome

    shorten(walk, still_fails)
    return best[0]


def _explain(scenarios: Sequence[Scenario]) -> None:
    for one in scenarios:
        click.echo(f"{one.name}\n\n{one.what}\n\n{one.why}\n")
        for number in one.rules:
            click.echo(f"rule {number}: {FLUSH_RULES[number]}")
        click.echo(f"kernel functions: {', '.join(f'{name}()' for name in one.functions)}")


def _list(scenarios: Sequence[Scenario], as_json: bool) -> None:
    if as_json:
        emit_json(report.list_document(scenarios))
        return
    emit_table(
        ("scenario", "rules", "what"), [(one.name, " ".join(map(str, one.rules)), one.what) for one in scenarios]
    )


def _show(result: Validation, *, as_json: bool, ktap: bool, junit: bool, brief: bool, history: bool) -> None:
    if as_json:
        emit_json(report.validation_document(result))
    elif ktap:
        click.echo(report.validation_ktap(result))
    elif junit:
        click.echo(report.validation_junit(result))
    else:
        _show_rules(result)
        if not brief:
            _show_scenarios(result, history)
    for doubt in (f"not observed: {result.not_observed}" if result.not_observed else "", *result.doubts):
        if doubt:
            note(doubt)


def _show_rules(result: Validation) -> None:
    rows = [(str(number), str(result.rule(number)), text) for number, text in FLUSH_RULES.items()]
    emit_table(("rule", "outcome", "requirement in non-coherent domains"), rows)


def _show_scenarios(result: Validation, history: bool) -> None:
    flushes = f"flushes by {', '.join(result.flush_symbols)}" if result.flush_symbols else "has no known flush function"
    click.echo(f"\nkernel {result.kernel} {flushes}; device {result.device}; {result.rule_set} rules")
    counts = Counter(one.outcome for one in result.scenarios)
    outcomes = ", ".join(f"{counts[one]} {one}" for one in RuleOutcome if counts[one])
    click.echo(f"{counted(len(result.scenarios), 'scenario')}: {outcomes}")
    for one in result.scenarios:
        if one.outcome not in WORST_FIRST:
            continue
        click.echo(f"{one.outcome}: {one.scenario.name}: {report.headline(one)}")
        if history:
            for line in report.details(one):
                click.echo(f"    {line}")
        elif one.scenario.is_walk and one.steps:
            click.echo(f"    {report.steps_line(one)}")
    unseen = Counter(one.reason for one in result.scenarios if one.outcome is RuleOutcome.NOT_OBSERVED)
    for reason, count in unseen.items():
        click.echo(f"{RuleOutcome.NOT_OBSERVED}: {counted(count, 'scenario')}: {reason}")
