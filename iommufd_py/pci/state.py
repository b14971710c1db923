# SPDX-License-Identifier: MIT
"""What a device was bound to before this tool took it; outlives the process, even one that is killed."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

# Outlives a crash of this process, not a reboot: as long as a binding lasts.
_DIRECTORY = Path("/run/iommufd-py")
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Remembered:
    """Where a device is to go back to.

    Attributes:
        driver: what it was bound to, empty for nothing.
        driver_override: what its driver_override was, empty for none.
    """

    driver: str
    driver_override: str


def _file(address: str) -> Path:
    return _DIRECTORY / f"{address}{_SUFFIX}"


def remember(address: str, before: Remembered) -> None:
    """Write down *before*, wholly or not at all."""
    unfinished = _DIRECTORY / f"{address}.new"
    unfinished.write_text(json.dumps(asdict(before)) + "\n")
    unfinished.rename(_file(address))


def recall(address: str) -> Remembered | None:
    """Return what is remembered of a device, None for nothing."""
    try:
        return Remembered(**json.loads(_file(address).read_text()))
    except FileNotFoundError:
        return None


def forget(address: str) -> None:
    """Drop what is remembered of a device."""
    _file(address).unlink()


def remembered() -> tuple[str, ...]:
    """Return the addresses of all devices that something is remembered of."""
    return tuple(sorted(file.name.removesuffix(_SUFFIX) for file in _DIRECTORY.glob(f"*{_SUFFIX}")))


@contextlib.contextmanager
def state_lock() -> Iterator[None]:
    """Keep other processes of this tool from changing bindings meanwhile."""
    _DIRECTORY.mkdir(parents=True, exist_ok=True)
    directory = os.open(_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
