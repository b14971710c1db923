# SPDX-License-Identifier: MIT
"""`iommufd lab selftest`: the kernel's own tests, and the check of the flushes of the IOMMU's tables."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, get_args

import click

from iommufd_py.lab.cache import VARIANTS, Kernel
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.tap import TapReport

from .commands import command
from .lab_machine import DEBUG, SERIES_OPTION
from .output import emit_json, emit_table, note
from .types import JSON_OPTION, refuse_ignored

_Suite = Literal["iommu", "vfio", "pt-kunit"]
_SUITES: tuple[_Suite, ...] = get_args(_Suite)


@command()
@click.option("--kernel", type=click.Choice(VARIANTS), default="stock", help="Kernel to boot; built if necessary.")
@SERIES_OPTION
@DEBUG
@click.option(
    "--suite",
    type=click.Choice([*_SUITES, "all"]),
    default="iommu",
    help="iommu and vfio are the programs in tools/testing/selftests; pt-kunit is the test of the IOMMU's page tables, "
    "in a native guest. vfio also boots the lab's emulator, built if necessary.",
)
@click.option(
    "--tables", is_flag=True, help="Check the flushes of the IOMMU's tables instead, on the incoherent machine."
)
@JSON_OPTION
@click.pass_context
def selftest(
    context: click.Context, kernel: Any, series: str | None, debug: bool, suite: Any, tables: bool, as_json: bool
) -> None:
    """Run the kernel's own tests of iommufd, VFIO or the IOMMU's page tables in a guest, and count the cases.

    The exit status is 1 if a case failed or did not report, or if the guest's kernel reported a fault.

    With --tables, the kernel boots on a machine where the page walks of VT-d do not snoop the CPU caches, in legacy and
    in scalable mode, and devices do DMA. The exit status is 1 if the IOMMU stopped DMA that must pass, or passed DMA
    that it must stop.
    """
    if tables:
        refuse_ignored(context, "suite", True, "--tables runs another check")
        sys.exit(_check_tables(kernel, series, Configuration(debug=debug), as_json))
    results = [_run_suite(one, kernel, series, debug) for one in (_SUITES if suite == "all" else [suite])]
    if as_json:
        suites = [
            {"suite": name, "kernel": built.as_dict(), "programs": _as_dicts(found)} for name, built, found in results
        ]
        emit_json({"schema": "iommufd-lab-selftest/2", "suites": suites})
    else:
        for name, built, reports in results:
            _emit_reports(name, built, reports)
    sys.exit(not all(one.good for _, _, reports in results for one in reports.values()))


def _run_suite(
    suite: _Suite, variant: Any, series: str | None, debug: bool
) -> tuple[_Suite, Kernel, Mapping[str, TapReport]]:
    """Run one suite on a kernel, built if necessary."""
    from iommufd_py.lab.emulators import build_emulator
    from iommufd_py.lab.kernel import build_kernel, selftests
    from iommufd_py.lab.selftest import run_iommu_suite, run_kunit_suite, run_vfio_suite

    from .lab_progress import show_lab_progress

    native = suite == "pt-kunit"
    configuration = Configuration("um" if native else "x86_64", debug=debug, kunit=native)
    with show_lab_progress() as progress:
        built = build_kernel(variant, progress, series=series, configuration=configuration)
        programs = None if native else selftests(built, suite, progress)
        if suite == "vfio":
            build_emulator(progress)
    if programs is None:
        return suite, built, run_kunit_suite(built.image, built.name)
    run = run_vfio_suite if suite == "vfio" else run_iommu_suite
    return suite, built, run(built.image, programs, built.name)


def _emit_reports(suite: _Suite, built: Kernel, reports: Mapping[str, TapReport]) -> None:
    """Print a table of the reports of one suite, and the failed and the skipped cases."""
    rows = [
        (name, *map(str, (one.planned, len(one.passed), len(one.failed), len(one.skipped), one.lost)))
        for name, one in reports.items()
    ]
    click.echo(f"{suite}: {built.release} {built.name}, {built.recipe.source}")
    emit_table(("program", "cases", "passed", "failed", "skipped", "lost"), rows)
    for name, one in reports.items():
        for case in one.failed:
            note(f"failed: {name}: {case}")
        for case, reason in one.skipped:
            note(f"skipped: {name}: {case}: {reason}")
        if one.remark:
            note(f"incomplete: {name}: {one.remark}")


def _as_dicts(reports: Mapping[str, TapReport]) -> dict[str, Any]:
    return {name: asdict(one) | {"lost": one.lost, "good": one.good} for name, one in reports.items()}


def _check_tables(kernel: Any, series: str | None, configuration: Configuration, as_json: bool) -> bool:
    """Print the faults in the tables of a kernel. Return whether a fault was found."""
    from iommufd_py.lab.emulators import build_emulator
    from iommufd_py.lab.kernel import build_kernel
    from iommufd_py.lab.tables import check_tables

    from .lab_progress import show_lab_progress

    with show_lab_progress() as progress:
        build_emulator(progress)
        built = build_kernel(kernel, progress, series=series, configuration=configuration)
    results = check_tables(built.image, built.name)
    if as_json:
        machines = [asdict(one) for one in results]
        emit_json({"schema": "iommufd-lab-selftest-tables/1", "kernel": built.as_dict(), "machines": machines})
    else:
        click.echo(f"{built.release} {built.name}, {built.recipe.source}")
        rows = [(one.machine, "; ".join(one.problems) or "nothing is wrong") for one in results]
        emit_table(("machine", "faults in the IOMMU's tables"), rows)
    return any(one.problems for one in results)
