# SPDX-License-Identifier: MIT
"""The options for a guest's machine and kernel, and their conversion to values."""

import os
from pathlib import Path
from typing import Any, get_args

import click

from iommufd_py.base.shown import shown
from iommufd_py.base.units import format_size
from iommufd_py.lab.cache import VARIANTS
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.machine import IommuModel, Machine, NativeMachine
from iommufd_py.lab.source import SERIES

from .files import Directory
from .types import SIZE, Whole, is_given, options_together, refuse_ignored

# QEMU takes 32-bit numbers, and its q35 machine has at most 255 CPUs.
_MOST_NUMBER, _MOST_CPUS = (1 << 31) - 1, 255
_KERNEL = "|".join((*VARIANTS, "PATH"))
DIRECTORY = Directory(exists=True)
DEBUG = click.option(
    "--debug", is_flag=True, help="Use the configuration with lockdep and KASAN, which is slow and finds faults."
)
SERIES_OPTION = click.option(
    "--series", type=click.Choice(SERIES), help="Kernel series.  [default: the newest that can be fetched]"
)
NATIVE = click.option(
    "--native",
    is_flag=True,
    help="Use User-Mode Linux: a process at native speed, without root, with mock devices only.",
)


machine_options = options_together(
    click.option(
        "--iommu", type=click.Choice(get_args(IommuModel)), default="vtd", help="The IOMMU that QEMU emulates."
    ),
    click.option("--coherent/--non-coherent", default=False, help="Whether the IOMMU can enforce snooping (ECAP.SC)."),
    click.option("--scalable", is_flag=True, help="VT-d scalable mode."),
    click.option(
        "--incoherent", is_flag=True, help="Model CPU caches; DMA snoops them only if the domain enforces it."
    ),
    click.option(
        "--evict",
        type=Whole(1, _MOST_NUMBER),
        metavar="N",
        help="With --incoherent: also evict a random line at every N-th flush.",
    ),
    click.option("--evict-seed", type=Whole(0, _MOST_NUMBER), default=0, help="Seed for the choice of these lines."),
    click.option(
        "--kernel",
        default="stock",
        metavar=_KERNEL,
        help="Kernel to boot: a name, built if necessary, or the path of an image.",
    ),
    SERIES_OPTION,
    DEBUG,
    click.option("--memory", type=SIZE, default="2G", help="Memory of the guest."),
    click.option("--cpus", type=Whole(1, _MOST_CPUS), default=2, help="CPUs of the guest."),
    click.option(
        "--device",
        "devices",
        multiple=True,
        metavar="QEMU-DEVICE",
        help="One more device, in the syntax of QEMU's -device.",
    ),
    click.option(
        "--append",
        "options",
        multiple=True,
        metavar="WORDS",
        help="More words for the kernel's command line.",
    ),
    click.option("--rw", type=DIRECTORY, multiple=True, help="Also share this directory read-write."),
)
"""Adds the options of a machine to a command."""


def machine_and_kernel(
    kernel: str, series: str | None, debug: bool, native: bool, memory: int, **properties: Any
) -> tuple[Machine | NativeMachine, Path, str]:
    """Return the machine that the options of a command describe, the kernel's image, and its name for the guest.

    Build the kernel and the emulator if necessary. Builds take minutes, so refuse first what no guest can run.
    """
    from iommufd_py.lab.emulators import build_emulator, cached_emulator
    from iommufd_py.lab.kernel import image
    from iommufd_py.lab.qemu import require_qemu

    from .lab_progress import show_lab_progress

    configuration = Configuration("um" if native else "x86_64", debug)
    _check_kernel(kernel, configuration, series)
    machine = _native_machine(memory) if native else _virtual_machine(memory, **properties)
    Path.cwd()  # The guest shares it. It raises an error if the directory does not exist any more.
    if isinstance(machine, Machine):
        emulator = cached_emulator() if machine.incoherent else None
        require_qemu(machine, emulator.program if emulator else None)
    with show_lab_progress() as progress:
        file = image(kernel, progress, configuration, series)
        if isinstance(machine, Machine) and machine.incoherent:
            build_emulator(progress)
    return machine, file, configuration.label(kernel) if kernel in VARIANTS else kernel


def _virtual_machine(
    memory: int, evict: int | None, evict_seed: int, options: tuple[str, ...], **properties: Any
) -> Machine:
    """Return the virtual machine that the options describe."""
    refuse_ignored(click.get_current_context(), "evict_seed", evict is None, "it needs --evict")
    _check_memory(memory)
    if not all(option.split() for option in options):
        raise click.UsageError("--append has no word: leave it out, or give words for the kernel's command line")
    words = tuple(word for option in options for word in option.split())
    try:
        return Machine(memory_bytes=memory, evict=evict or 0, seed=evict_seed, options=words, **properties)
    except ValueError as failure:
        raise click.UsageError(str(failure)) from None


def _native_machine(memory: int) -> NativeMachine:
    context = click.get_current_context()
    others = {"iommu", "coherent", "scalable", "incoherent", "evict", "evict_seed", "cpus", "devices", "options"}
    given = [one for one in context.command.params if one.name in others and is_given(context, one.name)]
    if given:
        names = ", ".join("/".join((*one.opts, *one.secondary_opts)) for one in given)
        raise click.UsageError(f"--native has one CPU, no QEMU, and only the mock driver's IOMMU: leave out {names}")
    _check_memory(memory)
    try:
        return NativeMachine(memory_bytes=memory)
    except ValueError as failure:
        raise click.UsageError(str(failure)) from None


def _check_memory(memory: int) -> None:
    """Refuse more memory than this machine has: the kernel would kill QEMU when the guest uses the memory.

    Raises:
        click.UsageError: *memory* is more than this machine has.
    """
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if memory > total:
        raise click.UsageError(f"--memory {format_size(memory)} is more than this machine has, {total >> 20}M")


def check_kernel_name(name: str) -> None:
    """Refuse a text that is neither the name of a kernel nor a path.

    Raises:
        click.UsageError: *name* is a word that names no kernel, or is empty.
    """
    if name not in VARIANTS and "/" not in name and not (name and Path(name).exists()):
        raise click.UsageError(f"there is no kernel {shown(name)}: give {', '.join(VARIANTS)}, or the path of an image")


def _check_kernel(name: str, configuration: Configuration, series: str | None) -> None:
    check_kernel_name(name)
    for option, given in (("--debug", configuration.debug), ("--series", series is not None)):
        if given and name not in VARIANTS:
            raise click.UsageError(
                f"{option} works with {', '.join(VARIANTS)} only; an image that is given by its path is already built"
            )
