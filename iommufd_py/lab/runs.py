# SPDX-License-Identifier: MIT
"""The parts that every run of a guest has: a directory, shares, an environment and a result."""

import compileall
import fcntl
import os
import re
import shutil
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from iommufd_py.host.kernel_log import Splat
from iommufd_py.lab import paths
from iommufd_py.lab.config import needed_for_root
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.guest import forwarded_environment
from iommufd_py.lab.machine import TEST_DEVICES, Accel
from iommufd_py.lab.process import space_note

KEPT_RUNS = 20

# A file in the directory, because NFS locks no directory for other machines.
_LOCK = "lock"
# Descriptors of the locks of the last directories that this process made.
_locked: deque[int] = deque()

# The name of the directory of a run: date, time, microseconds, and the id of its process.
_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9]{6}-[0-9]+")

_NO_ROOT = "VFS: Unable to mount root fs"
_NOT_BUILT_IN = (
    "with modules in lib/modules/VERSION of a directory above the image, it needs BLK_DEV_INITRD; without, it needs "
    "these options built in (=y) to mount its root: "
    f"{' '.join(sorted(name.removeprefix('CONFIG_') for name in needed_for_root()))}; 'iommufd lab kernel build "
    "--source DIR' configures a tree like that"
)
# oom_kill_process() in mm/oom_kill.c
_OUT_OF_MEMORY = re.compile(r"(?:Out of memory|Memory cgroup out of memory): Killed process \d+ \(([^)\n]*)\)")


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of one run.

    Attributes:
        status: exit status of the command, None if the guest ended before the command did.
        accel: accelerator of the guest: ``kvm``, ``tcg``, or ``uml`` for User-Mode Linux.
        seconds: wall time of the guest.
        timed_out: whether the guest was stopped at its timeout.
        failure: the guest's message about a failed set-up; None if the set-up succeeded.
        splats: reports of the guest's kernel: warnings, oopses, panics.
        kernel_log: file with the whole log of the guest's kernel.
        remark: the reason why the guest's kernel killed the command, with the remedy; None if it did not kill it.
    """

    status: int | None
    accel: Accel | Literal["uml"]
    seconds: float
    timed_out: bool
    failure: str | None
    splats: tuple[Splat, ...]
    kernel_log: Path
    remark: str | None = None

    @property
    def problem(self) -> str | None:
        """The reason why the exit status of the command does not count; None if it counts."""
        log = f"the guest's kernel log is {self.kernel_log}"
        if self.splats:
            more = f" (and {len(self.splats) - 1} more)" if len(self.splats) > 1 else ""
            why = f" ({_NOT_BUILT_IN})" if _NO_ROOT in self.splats[0].title else ""
            return f"the guest's kernel reported: {self.splats[0].title}{more}{why}; {log}"
        if self.failure is not None:
            return f"the set-up of the guest failed: {self.failure}; {log}"
        if self.timed_out:
            return (
                f"the guest was stopped after {self.seconds:.0f} s; if it needs longer, give a larger --timeout; {log}"
            )
        if self.status is None:
            return f"the guest ended before the command did{space_note(self.kernel_log.parent)}; {log}"
        return None

    def log_excerpt(self) -> str:
        """Return the part of the kernel log that explains :attr:`problem`."""
        if self.splats:
            return "\n\n".join(splat.text for splat in self.splats[:3])
        return "\n".join(self.kernel_log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:])


def memory_remark(log: str) -> str | None:
    """Return a remark if the guest's kernel killed a process for lack of memory, by its log; else None."""
    killed = _OUT_OF_MEMORY.search(log)
    return f"the guest ran out of memory and killed {killed[1]}: give it more with --memory" if killed else None


def new_run_directory() -> Path:
    """Make the directory of a new run, and remove the oldest ones beyond :data:`KEPT_RUNS`.

    The directory keeps the guest's command line, its scripts and its kernel log for inspection.
    """
    parent = paths.runs_dir()
    directory = parent / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{os.getpid()}"
    paths.make(parent)
    directory.mkdir(mode=0o700)
    _lock(directory)
    finished = finished_runs()
    for old in finished[: max(0, len(finished) - KEPT_RUNS)]:
        # Another process may be removing the same directory.
        shutil.rmtree(old, ignore_errors=True)
    return directory


def _lock(directory: Path) -> None:
    """Lock the directory of a run, so that no other process takes the run for a finished one."""
    _locked.append(os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    fcntl.flock(_locked[-1], fcntl.LOCK_EX)
    if len(_locked) > KEPT_RUNS:
        os.close(_locked.popleft())


def _is_locked(directory: Path) -> bool:
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):  # Another process has removed it, or it has none.
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def finished_runs() -> list[Path]:
    """Return the directories of the runs whose processes have ended, the oldest first.

    The id of the process ends the name. It means nothing here if the run is one of a container, or of another machine
    with the same home directory; then its lock tells. Other files there are not ours.
    """
    parent = paths.runs_dir()
    found = [path for path in sorted(parent.iterdir()) if _NAME.fullmatch(path.name)] if parent.exists() else []
    ended = (path for path in found if not Path("/proc", path.name.rpartition("-")[2]).exists())
    return [path for path in ended if not _is_locked(path)]


def shared_directories(directories: Sequence[Path]) -> list[Path]:
    """Return the directories to share: absolute, each once, outermost first, without the root of the file system.

    Raises:
        LabError: an element of *directories* is not a directory.
    """
    for directory in directories:
        if not directory.is_dir():
            raise LabError(f"{directory} is not a directory and cannot be shared with the guest")
    shares: list[Path] = []
    for directory in sorted({directory.resolve() for directory in directories}):
        if directory != Path("/") and not any(directory.is_relative_to(outer) for outer in shares):
            shares.append(directory)
    return shares


def compile_package() -> None:
    """Compile the modules of this package, unless they are compiled.

    A checkout has no compiled modules where PYTHONDONTWRITEBYTECODE is set. Each program in a guest would then compile
    its imports. On an emulated CPU this takes ten times as long as the rest of the program's start.
    """
    packages = [find_spec(name) for name in ("iommufd_py", "iommufd_py.cli")]
    for directory in {directory for one in packages if one for directory in one.submodule_search_locations or ()}:
        # A package that only its owner may write is compiled already.
        compileall.compile_dir(directory, quiet=2)


def guest_environment(accel: str, machine: str, kernel_name: str) -> dict[str, str]:
    """Return the environment of a command in a guest: a part of the present one, and a description of the guest."""
    search = [f"{sys.prefix}/bin", *os.get_exec_path(), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    devices = {} if accel == "uml" else {"IOMMUFD_BDFS": " ".join(TEST_DEVICES)}
    return {
        **devices,
        **forwarded_environment(os.environ),
        "PATH": os.pathsep.join(dict.fromkeys(search)),
        "VIRTUAL_ENV": sys.prefix,
        "IOMMUFD_LAB_ACCEL": accel,
        "IOMMUFD_LAB_MACHINE": machine,
        "IOMMUFD_LAB_KERNEL": kernel_name,
    }
