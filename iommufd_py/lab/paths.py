# SPDX-License-Identifier: MIT
"""The directories of the lab. All lie below one directory of the user's cache. They can be deleted at any time."""

import os
import shlex
import stat
from pathlib import Path

from iommufd_py.base.errors import reason_of
from iommufd_py.lab.errors import LabError

ANOTHER_PLACE = "set XDG_CACHE_HOME to a directory of your own"
"""The remedy for a cache that cannot be used."""


def cache_root() -> Path:
    """Return ``$XDG_CACHE_HOME/iommufd-py``, or ``~/.cache/iommufd-py``.

    Raises:
        LabError: the user has no home directory.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    if os.path.isabs(base):
        return Path(base, "iommufd-py")
    try:
        return Path.home() / ".cache/iommufd-py"
    except RuntimeError:  # HOME is not set, and the user has no entry in the password file.
        raise LabError("this user has no home directory: set HOME, or XDG_CACHE_HOME") from None


def _below(name: str) -> Path:
    root = cache_root()
    _check_trusted(root)
    # Other users cannot get below a root that only its owner may enter.
    if root.exists() and root.stat().st_mode & stat.S_IXOTH:
        _check_trusted(root / name)
    _check_readable(root / name)
    return root / name


def _check_trusted(directory: Path) -> None:
    """Refuse a cache that another user can change, because its kernels and emulators run with our rights."""
    try:
        found = directory.stat()
    except OSError:
        return  # The directory does not exist yet. If it cannot be created, make() raises the error.
    # chown -R would change the owner of a link, and nothing behind it.
    name = shlex.quote(str(directory.resolve()))
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
        sudo = "sudo " if os.geteuid() else ""
        raise LabError(
            f"{directory} is not trusted, because another user can change it and the lab runs programs in it: "
            f"{ANOTHER_PLACE}, or take it over with '{sudo}chown -R {os.geteuid()} {name}; {sudo}chmod -R go-w {name}'"
        )


def _check_readable(directory: Path) -> None:
    """Refuse a directory that cannot be listed: glob() finds nothing there, so it would look empty."""
    try:
        with os.scandir(directory):
            os.stat(os.path.join(directory, "."))  # Without the right to search, no file of it can be read.
    except FileNotFoundError:
        return  # The directory does not exist yet.
    except OSError as failure:
        raise LabError(f"{directory} cannot be read: {reason_of(failure, ANOTHER_PLACE)}") from None


def make(directory: Path) -> None:
    """Create a directory of the cache and its parents, unless it exists.

    Only the owner may enter a new cache: with a umask of 000, everybody could change the files below.

    Raises:
        LabError: the directory cannot be created.
    """
    root = cache_root()
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise LabError(f"{directory} cannot be created: {reason_of(failure, ANOTHER_PLACE)}") from None


def not_writable() -> Path | None:
    """Return a directory in which this user cannot make files of the cache, for example one that sudo left; else
    None."""
    root = cache_root()
    existing = next(path for path in (root, *root.parents) if path.exists())
    below = [path for path in existing.iterdir() if path.is_dir()] if existing == root else []
    mode = os.W_OK | os.X_OK
    return next((path for path in (existing, *below) if not os.access(path, mode, effective_ids=True)), None)


def kernels_dir() -> Path:
    """Finished kernels, one directory per key. Every kernel here is complete."""
    return _below("kernels")


def emulators_dir() -> Path:
    """Finished emulators, one directory per key. Every emulator here is complete."""
    return _below("emulators")


def sources_dir() -> Path:
    """Unpacked kernel sources, never written to after they were unpacked."""
    return _below("sources")


def work_dir() -> Path:
    """Object directories, patched trees and downloads, all of which may be incomplete."""
    return _below("work")


def mutants_dir() -> Path:
    """Results of the mutants of a kernel, one directory for each state of the tool. Old ones are removed."""
    return work_dir() / "mutants"


def runs_dir() -> Path:
    """One directory per run of a guest, with its kernel log. Old ones are removed."""
    return _below("runs")


def guests_dir() -> Path:
    """One directory per warm guest, removed with the guest."""
    return _below("guests")
