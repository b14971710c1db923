# SPDX-License-Identifier: MIT
"""The warm guests of this user: a record of each, in a directory under the lab's cache."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from iommufd_py.base.sysfs import attribute_text, entries, start_ticks
from iommufd_py.lab import paths
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.records import read_object, record_of

_RECORD = "guest.json"
# The commands of a guest take turns by another file, see jobs.py.
_LOCK = "keeper.lock"
# The name of the directory of a guest: the name of its kernel, and a number.
_NAME = re.compile(r".+-[0-9]+")
KEEPER_PROGRAM = "from iommufd_py.lab.warm.keeper import main; main()"
"""The Python program of a keeper. Its argument is the directory of the guest."""
_DOWN_SECONDS = 20


@dataclass(frozen=True, slots=True)
class WarmGuest:
    """A guest that stays up.

    Attributes:
        name: name of the guest.
        kernel: path of its kernel's image.
        kernel_name: the name of the kernel for readers: ``stock``, ``patched-um``, ...
        machine: repr() of the machine. Guests with equal values have equal machines.
        machine_name: the machine for readers.
        accel: ``kvm``, ``tcg`` or ``uml``.
        shares: directories that the guest may write to.
        python: prefix of the Python environment.
        keeper: process that holds the guest.
        keeper_start: start of that process in clock ticks since the boot of this machine. Another process may get the
            same number later; the start tells them apart.
        owner: process whose end also ends the guest; 0 for a guest that stays.
    """

    name: str
    kernel: str
    kernel_name: str
    machine: str
    machine_name: str
    accel: str
    shares: tuple[str, ...]
    python: str
    keeper: int
    keeper_start: int
    owner: int

    @property
    def directory(self) -> Path:
        """Directory of the record and the files of the guest."""
        return paths.guests_dir() / self.name

    @property
    def spool(self) -> Path:
        """The directory for files between host and guest; see :mod:`iommufd_py.lab.warm`."""
        return self.directory / "spool"

    @property
    def kernel_log(self) -> Path:
        """The file with the log of the guest's kernel."""
        return self.directory / "kernel.log"

    @property
    def alive(self) -> bool:
        """Whether the keeper still runs."""
        return start_ticks(self.keeper) == self.keeper_start

    @property
    def ready(self) -> bool:
        """Whether the guest accepts jobs."""
        return self.alive and (self.spool / "ready").exists()

    def save(self) -> None:
        """Write the record."""
        unfinished = self.directory / f"{_RECORD}.unfinished"
        unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        unfinished.rename(self.directory / _RECORD)

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """Read the record in *directory*; None if it is damaged."""
        found = record_of(read_object(directory / _RECORD), cls)
        return found if found is not None and found.name == directory.name else None

    def fits(self, kernel: Path, machine: str, python: str, directories: list[Path]) -> bool:
        """Return whether this guest has this kernel, machine and Python, and lets a command write to *directories*."""
        return (self.kernel, self.machine, self.python) == (str(kernel), machine, python) and all(
            any(one.is_relative_to(share) for share in self.shares) for one in directories
        )

    def end(self) -> None:
        """End the guest and remove its files.

        Raises:
            LabError: the keeper does not end.
        """
        deadline = time.monotonic() + _DOWN_SECONDS
        if self.alive:
            with contextlib.suppress(ProcessLookupError):  # It ended since.
                os.kill(self.keeper, signal.SIGTERM)
        while self.alive:
            if time.monotonic() > deadline:
                raise LabError(f"the keeper of guest {self.name}, process {self.keeper}, does not end; kill it")
            time.sleep(0.05)
        _remove_unused(self.directory)


def hold_directory(directory: Path) -> int | None:
    """Return a descriptor that holds the directory of a guest; None if another process holds it, or removed it.

    The process that starts a guest holds its directory. The keeper inherits the descriptor.
    """
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _remove_unused(directory: Path) -> None:
    """Remove the directory of a guest, unless a process holds it: another guest can have its name by now."""
    descriptor = None
    with contextlib.suppress(OSError):  # The file system is read-only, for example.
        descriptor = hold_directory(directory)
    if descriptor is not None:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def warm_guests() -> list[WarmGuest]:
    """Return the running guests, oldest first, and remove the files of dead ones."""
    found = []
    for directory in sorted(path for path in paths.guests_dir().glob("*") if path.is_dir()):
        guest = WarmGuest.load(directory)
        if guest is not None and guest.alive:
            found.append(guest)
        elif guest is not None or _is_without_guest(directory):
            _remove_unused(directory)
    return found


def _is_without_guest(directory: Path) -> bool:
    """Return whether a directory was left before its guest had a record. With a damaged record, a guest may run."""
    left = _NAME.fullmatch(directory.name) and not (directory / _RECORD).exists()
    return bool(left) and keeper_of(directory) is None


def damaged_records() -> list[Path]:
    """Return the directories of guests whose record is damaged, so that nobody knows whether they run."""
    found = sorted(record.parent for record in paths.guests_dir().glob(f"*/{_RECORD}"))
    return [directory for directory in found if WarmGuest.load(directory) is None]


def keeper_of(directory: Path) -> int | None:
    """Return the process that holds the guest of *directory*, by its command line; None if there is none here."""
    for file in entries(Path("/proc"), "[0-9]*/cmdline"):
        if attribute_text(file).rstrip("\0").split("\0")[-2:] == [KEEPER_PROGRAM, str(directory)]:
            return int(file.parent.name)
    return None
