# SPDX-License-Identifier: MIT
"""Check everything that the lab needs, and give the command that fixes each problem."""

import importlib.metadata
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from iommufd_py.base.installation import command_for_extra
from iommufd_py.lab import paths, space
from iommufd_py.lab.build import BUILD_BYTES, TOOLS
from iommufd_py.lab.cache import Kernel
from iommufd_py.lab.emulators import cached_emulator, missing_tools
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.kernel import cached_kernel
from iommufd_py.lab.kvm import kvm_problem
from iommufd_py.lab.machine import Machine
from iommufd_py.lab.process import SPACE_REMEDY, run_tool
from iommufd_py.lab.qemu import QEMU, UDEVD, lacking_for_modules
from iommufd_py.lab.source import UNPACK_BYTES, unpacked_trees

State = Literal["ok", "note", "missing"]

_VIRTME = "virtme-ng"
_OLDEST_VIRTME = (1, 42)
# The sources and objects of all series need less space.
_LARGE_BYTES = 20_000_000_000


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that the lab needs or can use.

    Attributes:
        subject: the thing that was checked.
        state: ``ok``; ``note`` when the lab does without; ``missing`` when it cannot run.
        text: the state of the subject in words.
        remedy: the command that fixes the problem; empty if there is none.
    """

    subject: str
    state: State
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """This diagnosis as a JSON object."""
        return asdict(self)


def examine() -> list[Diagnosis]:
    """Check everything that the lab needs. This changes nothing and fetches nothing."""
    stock = cached_kernel("stock")
    return [*_boot(), *_build(needed=stock is None), *_kernels(stock), *_emulator(), *_space()]


def _boot() -> Iterator[Diagnosis]:
    try:
        version = importlib.metadata.version(_VIRTME)
    except importlib.metadata.PackageNotFoundError:
        yield Diagnosis(_VIRTME, "missing", "not in this Python environment", command_for_extra("lab"))
    else:
        new_enough = tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= _OLDEST_VIRTME
        remedy = "" if new_enough else command_for_extra("lab")
        yield Diagnosis(_VIRTME, "ok" if new_enough else "missing", version, remedy)
    yield _qemu()
    if not any(Path(path).exists() for path in UDEVD):
        yield Diagnosis("udev", "missing", "without it a guest loses its output", "sudo apt-get install udev")
    if lacking := lacking_for_modules():
        text = f"not installed: {', '.join(lacking)}; kernels with modules need them"
        yield Diagnosis("initramfs", "note", text, f"sudo apt-get install {' '.join(lacking)}")
    if shutil.which("setpriv") is None:
        yield Diagnosis("setpriv", "missing", "no guest starts without it", "sudo apt-get install util-linux")
    problem = kvm_problem()
    yield Diagnosis(
        "KVM", "note" if problem else "ok", f"{problem}: guests run on an emulated CPU" if problem else "usable"
    )
    wanted, available = Machine().memory_bytes, _available_memory()
    text = f"{available >> 20} MiB available, a guest takes up to {wanted >> 20} MiB"
    yield Diagnosis("memory", "ok" if available > wanted else "note", text)


def _qemu() -> Diagnosis:
    if shutil.which(QEMU) is None:
        return Diagnosis("QEMU", "missing", f"no {QEMU}", "sudo apt-get install qemu-system-x86")
    try:
        return Diagnosis("QEMU", "ok", run_tool([QEMU, "--version"], "cannot run QEMU").splitlines()[0])
    except LabError as failure:
        return Diagnosis("QEMU", "missing", str(failure), "sudo apt-get install --reinstall qemu-system-x86")


def _build(*, needed: bool) -> Iterator[Diagnosis]:
    absent: State = "missing" if needed else "note"
    packages = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if not Path("/usr/include/libelf.h").exists():
        packages.append("libelf-dev")
    if packages:
        yield Diagnosis(
            "build tools", absent, f"not installed: {', '.join(packages)}", f"sudo apt-get install {' '.join(packages)}"
        )
    else:
        yield Diagnosis("build tools", "ok", "all installed")
    root = paths.cache_root()
    existing = next(path for path in (root, *root.parents) if path.exists())
    free, gib = shutil.disk_usage(existing).free, 1 << 30
    wanted = (BUILD_BYTES if unpacked_trees() else BUILD_BYTES + UNPACK_BYTES) if needed else BUILD_BYTES
    text = f"{free / gib:.1f} GiB free for {root}, a kernel takes {wanted / gib:.1f} GiB"
    enough = free >= wanted
    yield Diagnosis("disk", "ok" if enough else absent, text, "" if enough else SPACE_REMEDY)


def _kernels(stock: Kernel | None) -> Iterator[Diagnosis]:
    series = stock.recipe.series if stock else None
    for variant, kernel in (("stock", stock), ("patched", cached_kernel("patched", series))):
        if kernel is None:
            command = f"iommufd lab kernel build {variant}"
            yield Diagnosis(f"{variant} kernel", "note", "not built yet; the first run builds it", command)
        else:
            yield Diagnosis(f"{variant} kernel", "ok", f"{kernel.release} from {kernel.recipe.source}")


def _emulator() -> Iterator[Diagnosis]:
    subject, emulator = "emulator with CPU caches", cached_emulator()
    missing = missing_tools()
    if emulator is not None:
        yield Diagnosis(subject, "ok", f"built from {emulator.recipe.source}")
    elif missing:
        remedy = f"sudo apt-get install {' '.join(missing)}"
        yield Diagnosis(subject, "note", f"not built yet, and its build needs {', '.join(missing)}", remedy)
    else:
        text = "not built yet; the first run with --incoherent builds it"
        yield Diagnosis(subject, "note", text, "iommufd lab emulator build")


def _space() -> Iterator[Diagnosis]:
    """Report the disk space of the lab. A cache that is larger than the lab ever needs gets a remedy."""
    refused = paths.not_writable()
    if refused is not None:
        yield Diagnosis("cache", "missing", f"this user cannot write to {refused}", paths.ANOTHER_PLACE)
        return
    try:
        found = space.used()
    except LabError as failure:
        yield Diagnosis("cache", "note", str(failure))
        return
    total = sum(one.disk_bytes for one in found)
    parts = ", ".join(f"{one.kind} {one.disk_bytes / 1e9:.1f} GB" for one in found if one.disk_bytes >= 5e7)
    remedy = "iommufd lab kernel prune --all" if total > _LARGE_BYTES else ""
    text = f"{total / 1e9:.1f} GB in {paths.cache_root()}{f': {parts}' if parts else ''}"
    yield Diagnosis("cache", "note" if remedy else "ok", text, remedy)


def _available_memory() -> int:
    match = re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    return int(match[1]) << 10 if match else 0
