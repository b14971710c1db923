# SPDX-License-Identifier: MIT
"""`iommufd lab kernel prune` and `iommufd lab runs prune`: free disk space."""

from collections.abc import Iterable
from pathlib import Path

import click

from iommufd_py.base.units import counted

from .commands import command, group
from .output import note
from .types import Whole, refuse_ignored

_MOST_KEPT = 1_000_000
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the names of the files to remove, and remove nothing.")


@command("prune")
@click.option("--keep", type=Whole(1, _MOST_KEPT), default=1, help="Number of the newest kernels of each kind to keep.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Remove every kernel, the sources and objects of builds, interrupted bisections, and results of mutants.",
)
@_DRY_RUN
@click.pass_context
def prune_kernels(context: click.Context, keep: int, everything: bool, dry_run: bool) -> None:
    """Remove old kernels, for which newer ones of the same variant, series and configuration exist.

    A kernel that a warm guest runs stays. After --all, the next build fetches the source and compiles everything.

    \b
    Examples:
      iommufd lab kernel prune --dry-run
      iommufd lab kernel prune
    """
    from iommufd_py.lab import cache, space

    refuse_ignored(context, "keep", everything, "--all keeps none")
    kernels = space.superseded_kernels(0 if everything else keep)
    builds = space.build_directories() if everything else []
    unusable = cache.unusable() if everything else []
    directories = [*(kernel.directory for kernel in kernels), *unusable]
    if dry_run:
        _report([*directories, *builds], "to be removed")
        return
    doomed = [(one, cache.remove) for one in directories] + [(one, space.remove_build_directory) for one in builds]
    _report(space.remove_all(doomed), "removed")


@group()
def runs() -> None:
    """Remove the files of finished runs: kernel logs, command lines, scripts."""


@runs.command("prune")
@click.option("--keep", type=Whole(0, _MOST_KEPT), default=0, help="Number of the newest runs to keep.")
@_DRY_RUN
def prune_runs(keep: int, dry_run: bool) -> None:
    """Remove the files of finished runs.

    \b
    Examples:
      iommufd lab runs prune --keep 5
    """
    from iommufd_py.lab import cache, space

    directories = space.old_runs(keep)
    if dry_run:
        _report(directories, "to be removed")
    else:
        _report(space.remove_all((one, cache.remove_tree) for one in directories), "removed")


def _report(directories: Iterable[Path], verb: str) -> None:
    """Print each directory, and at the end their number, also if one of them cannot be removed."""
    number = 0
    try:
        for number, directory in enumerate(directories, 1):  # noqa: B007 - used after the loop
            click.echo(directory)
    finally:
        note(f"{verb}: {counted(number, 'directory', 'directories')}")
