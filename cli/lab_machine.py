# SPDX-License-Identifier: MIT
"""The options for a guest's machine and kernel, and their conversion to values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from iommufd_py.lab.cache import VARIANTS
from iommufd_py.lab.config import Configuration
from iommufd_py.lab.machine import IommuModel, Machine, NativeMachine

from .types import SIZE

_KERNEL = "|".join((*VARIANTS, "PATH"))
DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
DEBUG = click.option("--debug", is_flag=True, help="The configuration with lockdep and KASAN: slow, finds faults.")
NATIVE = click.option(
    "--native", is_flag=True, help="User-Mode Linux: a process at native speed, with mock devices only, without root."
)


def machine_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a machine to a command."""
    for option in reversed(
        (
            click.option(
                "--iommu", type=click.Choice(get_args(IommuModel)), default="vtd", help="The IOMMU that QEMU emulates."
            ),
            click.option(
                "--coherent/--non-coherent", default=False, help="Whether the IOMMU can enforce snooping (ECAP.SC)."
            ),
            click.option("--scalable", is_flag=True, help="VT-d scalable mode."),
            click.option(
                "--incoherent", is_flag=True, help="Model CPU caches that DMA snoops only if the domain enforces it."
            ),
            click.option(
                "--evict",
                type=click.IntRange(min=1),
                metavar="N",
                help="With --incoherent: also evict a random line at every N-th flush.",
            ),
            click.option(
                "--evict-seed", type=click.IntRange(min=0), default=0, help="Seed of the choice of these lines."
            ),
            click.option(
                "--kernel",
                default="stock",
                metavar=_KERNEL,
                help="Kernel to boot: a name, built if necessary, or the path of an image.",
            ),
            DEBUG,
            click.option("--memory", type=SIZE, default="2G", help="Memory of the guest."),
            click.option("--cpus", type=click.IntRange(min=1), default=2, help="CPUs of the guest."),
            click.option(
                "--device",
                "devices",
                multiple=True,
                metavar="QEMU-DEVICE",
                help="One more device, as QEMU's -device takes it.",
            ),
            click.option(
                "--append",
                "options",
                multiple=True,
                metavar="WORDS",
                help="Further words of the kernel's command line.",
            ),
            click.option("--rw", type=DIRECTORY, multiple=True, help="Also share this directory read-write."),
        )
    ):
        function = option(function)
    return function


def machine_of(native: bool, memory: int, **properties: Any) -> Machine | NativeMachine:
    """Return the machine that the options of a command describe; build its emulator if it needs one."""
    return _native_machine(memory) if native else virtual_machine(memory, **properties)


def virtual_machine(
    memory: int, evict: int | None, evict_seed: int, options: tuple[str, ...], **properties: Any
) -> Machine:
    """Return the virtual machine that the options describe; build its emulator if it needs one."""
    words = tuple(word for option in options for word in option.split())
    try:
        machine = Machine(memory_bytes=memory, evict=evict or 0, seed=evict_seed, options=words, **properties)
    except ValueError as failure:
        raise click.UsageError(str(failure)) from None
    if machine.incoherent:
        from iommufd_py.lab.emulators import build_emulator

        from .lab_progress import shown_progress

        with shown_progress() as progress:
            build_emulator(progress)
    return machine


def _native_machine(memory: int) -> NativeMachine:
    given = click.get_current_context().get_parameter_source
    for option in ("iommu", "coherent", "scalable", "incoherent", "evict", "evict_seed", "cpus", "devices", "options"):
        if given(option) is not ParameterSource.DEFAULT:
            raise click.UsageError(
                "--native has one CPU, no QEMU, and no IOMMU but that of the mock driver: leave out the options that "
                "describe a virtual machine"
            )
    try:
        return NativeMachine(memory_bytes=memory)
    except ValueError as failure:
        raise click.UsageError(str(failure)) from None


def image_of(name: str, configuration: Configuration) -> tuple[Path, str]:
    """Return the image of a kernel, and its name for the guest."""
    from iommufd_py.lab.kernel import image

    from .lab_progress import shown_progress

    named = name in VARIANTS
    if configuration.debug and not named:
        raise click.UsageError(
            f"--debug is for {', '.join(VARIANTS)}; the configuration of a kernel given by its path is fixed"
        )
    with shown_progress() as progress:
        return image(name, progress, configuration), configuration.label(name) if named else name
