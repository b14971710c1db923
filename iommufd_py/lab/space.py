# SPDX-License-Identifier: MIT
"""Measure the disk space of the lab, and remove old kernels, build directories and runs."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from iommufd_py.base.units import counted
from iommufd_py.lab import cache, paths, runs
from iommufd_py.lab.cache import Kernel
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.process import run_tool
from iommufd_py.lab.warm.guests import warm_guests

_KINDS = {
    "kernels": paths.kernels_dir,
    "emulators": paths.emulators_dir,
    "sources": paths.sources_dir,
    "builds": paths.work_dir,
    "runs": paths.runs_dir,
    "warm guests": paths.guests_dir,
}


@dataclass(frozen=True, slots=True)
class CachedDirectory:
    """A directory of the cache with its size on the disk.

    Attributes:
        kind: the kind of its contents; :func:`used` has the kinds.
        directory: its path.
        disk_bytes: bytes on the disk; a file with several hard links counts in the first directory that has it.
    """

    kind: str
    directory: Path
    disk_bytes: int


def used() -> list[CachedDirectory]:
    """Return the directories of the cache that exist, with their sizes by du(1).

    Raises:
        LabError: du is not installed.
    """
    found = {kind: directory() for kind, directory in _KINDS.items() if directory().exists()}
    if not found:
        return []
    names = [str(directory) for directory in found.values()]
    # A build makes and removes files all the time.
    output = run_tool(
        ["du", "--summarize", "--block-size=1", "--", *names],
        "cannot measure the cache",
        env=os.environ | {"LC_ALL": "C"},
        harmless=": No such file or directory",
    )
    sizes = {path: int(size) for size, _, path in (line.partition("\t") for line in output.splitlines())}
    return [CachedDirectory(kind, directory, sizes.get(str(directory), 0)) for kind, directory in found.items()]


def superseded_kernels(keep: int) -> list[Kernel]:
    """Return the kernels with at least *keep* newer kernels of the same variant, series and configuration.

    A kernel that a warm guest runs is not among them.
    """
    running = {guest.kernel for guest in warm_guests()}
    newest_first = sorted(cache.kernels(), key=_line)  # sorted() keeps the order of equal ones: the last built first
    old = [kernel for _, line in groupby(newest_first, key=_line) for kernel in list(line)[keep:]]
    return [kernel for kernel in old if str(kernel.image) not in running]


def _line(kernel: Kernel) -> tuple[str, ...]:
    own_tree = kernel.recipe.source.partition(" ")[0] if kernel.recipe.source.startswith("/") else ""
    return kernel.name, kernel.recipe.series, own_tree


def build_directories() -> list[Path]:
    """Return the directories that make builds faster, and those of builds and bisections that did not end: objects,
    patched trees, clones, unpacked sources, apt's lists of packages, results of mutants.
    """
    work = paths.work_dir()
    builds = [path for path in work.glob("build/*") if path.is_dir()]
    places = (*work.glob("bisect/*"), work / "apt", paths.mutants_dir())
    others = [path for path in places if path.is_dir() and any(path.iterdir())]
    return [*builds, *others, *filter(Path.exists, (work / "emulator", paths.sources_dir()))]


def remove_build_directory(directory: Path) -> None:
    """Remove one of :func:`build_directories`.

    Raises:
        LabError: a build is using it.
    """
    with _unused(directory):
        for path in directory.iterdir():
            if path.name == "lock":
                continue  # Another process may wait for this lock.
            if path.is_dir() and not path.is_symlink():
                cache.remove_tree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def _unused(directory: Path) -> Iterator[None]:
    with contextlib.ExitStack() as locks:
        for file in _locks_of(directory):
            lock = locks.enter_context(file.open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError(f"{directory} is in use by a build: wait for its end, and try again") from None
        yield


def _locks_of(directory: Path) -> list[Path]:
    work = paths.work_dir()
    if directory == paths.mutants_dir():
        return []  # A run that loses its results makes them again.
    if directory.parent == work / "bisect":
        # It is beside the directory, which the bisection removes at its end.
        return [directory.with_suffix(".lock")]
    # A kernel source and the source of the emulator are fetched with apt's files under these locks.
    users = [paths.sources_dir(), work / "emulator"] if directory == work / "apt" else [directory]
    return [user / "lock" for user in users if user.exists()]


def old_runs(keep: int) -> list[Path]:
    """Return the directories of finished runs, except the last *keep*."""
    finished = runs.finished_runs()
    return finished[: len(finished) - keep] if keep else finished


def remove_all(doomed: Iterable[tuple[Path, Callable[[Path], None]]]) -> Iterator[Path]:
    """Remove each directory with its function, and yield it when it is gone.

    Raises:
        LabError: one cannot be removed. The others are gone then.
    """
    failures: list[str] = []
    for directory, remove in doomed:
        try:
            remove(directory)
        except OSError as failure:
            failures.append(str(cache.cannot_remove(directory, failure)))
        except LabError as failure:
            failures.append(str(failure))
        else:
            yield directory
    if failures:
        more = f" (and {counted(len(failures) - 1, 'more directory', 'more directories')})" if failures[1:] else ""
        raise LabError(f"{failures[0]}{more}")
