# SPDX-License-Identifier: MIT
"""`iommufd lab`: build the kernels of the lab, and run commands and tests on them in guests."""

import os
import sys
from pathlib import Path
from typing import Any, get_args

import click

from iommufd_py.lab.cache import VARIANTS
from iommufd_py.lab.config import Arch, Configuration
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.machine import NativeMachine

from .commands import group
from .lab_guests import down, list_guests, run_fresh, run_warm, up
from .lab_machine import DEBUG, DIRECTORY, NATIVE, SERIES_OPTION, machine_and_kernel, machine_options
from .lab_selftest import selftest
from .lab_space import prune_kernels, runs
from .output import emit_json, emit_table, note
from .types import JSON_OPTION, MOST_SECONDS, FiniteFloat

_OTHERS_WRITE = 0o022


@group()
def lab() -> None:
    """Build the kernels of the lab, and run commands and tests on them in guests."""
    # The lab later executes its files. Whatever the umask is, only the user may change them.
    os.umask(os.umask(_OTHERS_WRITE) | _OTHERS_WRITE)


for command in (up, down, list_guests, runs, selftest):
    lab.add_command(command)


@lab.command()
@JSON_OPTION
def doctor(as_json: bool) -> None:
    """Check everything that the lab needs, and print the command that fixes each problem.

    Exit status: 0 the lab can run, 1 a part that it needs is missing.
    """
    from iommufd_py.lab.doctor import examine

    diagnoses = examine()
    if as_json:
        emit_json({"schema": "iommufd-lab-doctor/1", "findings": [one.as_dict() for one in diagnoses]})
    else:
        rows = [(one.subject, one.state, one.text) for one in diagnoses]
        emit_table(("subject", "state", "what"), rows)
        for remedy in dict.fromkeys(one.remedy for one in diagnoses if one.remedy):
            click.echo(f"to fix: {remedy}")
    sys.exit(any(one.state == "missing" for one in diagnoses))


@lab.group()
def kernel() -> None:
    """Build the lab's kernels, list them, and remove old ones."""


kernel.add_command(prune_kernels)


@kernel.command("build")
@click.argument("variant", type=click.Choice(VARIANTS), default="stock")
@SERIES_OPTION
@click.option(
    "--arch",
    type=click.Choice(get_args(Arch)),
    default="x86_64",
    help="x86_64 is for the machine with VT-d, um is User-Mode Linux for `lab run --native`.",
)
@DEBUG
@click.option(
    "--source", type=DIRECTORY, help="Build this tree instead, without patches, and rebuild it after every change."
)
def build_kernel(variant: Any, series: str | None, arch: Any, debug: bool, source: Path | None) -> None:
    """Build a kernel unless it is in the cache, and print the path of its image.

    `stock` is the kernel source of the distribution with the lab's configuration. `patched` adds the project's fixes
    and its series. `patched-refined` also adds the refinement of the series.
    """
    from iommufd_py.lab import kernel

    from .lab_progress import show_lab_progress

    if source is not None and (variant != "stock" or series is not None):
        raise click.UsageError("--source builds a tree without patches: apply them yourself, and give no series")
    configuration = Configuration(arch, debug)
    with show_lab_progress() as progress:
        built = kernel.build_kernel(variant, progress, series=series, configuration=configuration, own=source)
    click.echo(built.image)


@kernel.command("list")
@JSON_OPTION
def list_kernels(as_json: bool) -> None:
    """List the kernels in the cache."""
    from iommufd_py.lab.cache import kernels, unusable

    found = kernels()
    for directory in unusable():
        note(f"{directory} holds no kernel of this version of the tool; 'iommufd lab kernel prune --all' removes it")
    if as_json:
        emit_json({"schema": "iommufd-lab-kernels/1", "kernels": [one.as_dict() for one in found]})
        return
    rows = [(one.recipe.key, one.name, one.release, one.recipe.source, one.built_at) for one in found]
    emit_table(("key", "kernel", "release", "source", "built"), rows)


@lab.group()
def emulator() -> None:
    """Build the emulator of the machine whose DMA can bypass the CPU caches."""


@emulator.command("build")
def build_emulator() -> None:
    """Build QEMU with the lab's patches unless it is in the cache, and print the path of the program.

    The command fetches Debian's source and the build dependencies with apt, and unpacks them for the build. It installs
    nothing and needs no root.
    """
    from iommufd_py.lab.emulators import build_emulator as build

    from .lab_progress import show_lab_progress

    with show_lab_progress() as progress:
        built = build(progress)
    click.echo(built.program)


@lab.command(context_settings={"allow_interspersed_args": False})
@machine_options
@NATIVE
@click.option(
    "--timeout", type=FiniteFloat(1, MOST_SECONDS), default=600.0, help="Seconds after which the command is stopped."
)
@click.option("--fresh", is_flag=True, help="Boot a guest for this command, even if a warm one fits.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    kernel: str,
    series: str | None,
    debug: bool,
    rw: tuple[Path, ...],
    native: bool,
    timeout: float,
    fresh: bool,
    command: tuple[str, ...],
    **properties: Any,
) -> None:
    """Run COMMAND on a kernel of the lab, in this directory and this Python environment.

    A warm guest (`iommufd lab up`) with the same kernel and machine runs COMMAND at once. Otherwise a new guest boots.

    The guest sees this machine's files. The current directory is shared read-write. Writes to /etc, /tmp and /var are
    lost with the guest. Everything else is read-only. The exit status is that of COMMAND, or 1 if the guest's kernel
    panicked, warned or hung.
    """
    machine, image, name = machine_and_kernel(kernel, series, debug, native, **properties)
    result = (None if fresh else run_warm(image, machine, command, rw=rw, timeout=timeout)) or run_fresh(
        image, machine, command, kernel_name=name, rw=rw, timeout=timeout
    )
    if result.problem is not None:
        note(result.log_excerpt())
        raise LabError(result.problem)
    if result.remark is not None:
        note(result.remark)
    if sys.stderr.isatty():
        on = {"kvm": " on KVM", "tcg": " on an emulated CPU (TCG)", "uml": ""}[result.accel]
        note(f"{machine}{on}, {result.seconds:.1f} s")
    sys.exit(result.status)


@lab.command()
@machine_options
@NATIVE
def shell(kernel: str, series: str | None, debug: bool, rw: tuple[Path, ...], native: bool, **properties: Any) -> None:
    """Boot a kernel and run a root shell in the guest, in this directory. Ctrl-D ends it."""
    from iommufd_py.lab.native import run_shell_natively
    from iommufd_py.lab.vm import run_shell

    if not sys.stdin.isatty():
        raise LabError("a shell needs a terminal; run a command with: iommufd lab run -- COMMAND")
    machine, image, name = machine_and_kernel(kernel, series, debug, native, **properties)
    if isinstance(machine, NativeMachine):
        sys.exit(run_shell_natively(image, machine, kernel_name=name, rw=rw))
    sys.exit(run_shell(image, machine, kernel_name=name, rw=rw))
