# SPDX-License-Identifier: MIT
"""`iommufd lab kernel prune` and `iommufd lab runs prune`: free disk space."""

from collections.abc import Sequence
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
    help="Remove every kernel, the sources and objects of builds, and interrupted bisections.",
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
    _report([*directories, *builds], dry_run)
    if dry_run:
        return
    space.remove_directories(directories)
    for directory in builds:
        space.remove_build_directory(directory)


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
    from iommufd_py.lab import space

    directories = space.old_runs(keep)
    _report(directories, dry_run)
    if not dry_run:
        space.remove_runs(directories)


def _report(directories: Sequence[Path], dry_run: bool) -> None:
    for directory in directories:
        click.echo(directory)
    note(f"{'to be removed' if dry_run else 'removed'}: {counted(len(directories), 'directory', 'directories')}")
