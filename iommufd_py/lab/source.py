# SPDX-License-Identifier: MIT
"""Kernel source trees: Debian's, fetched through apt and unpacked once, or a tree of the developer."""

import hashlib
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from iommufd_py.lab import paths
from iommufd_py.lab.apt import Archive, PrivateApt, mirror, system_archives
from iommufd_py.lab.errors import LabError, NoSourceError
from iommufd_py.lab.process import SPACE_REMEDY, locked, run_tool
from iommufd_py.lab.progress import Progress

SERIES = ("7.3", "7.2", "6.12")
"""Kernel series the project supports, newest first. 6.12 is in Debian 12 and 13 itself."""

UNPACK_BYTES = 2200 << 20
"""Disk space for the package and the unpacked tree."""

# The suites where newer series appear, smallest download first. The machine's own sources come last.
_SUITES = ("trixie-backports", "forky", "sid")


@dataclass(frozen=True, slots=True)
class SourceTree:
    """An unpacked kernel source.

    Attributes:
        path: the tree. It is never written to.
        series: e.g. ``7.3``.
        identity: unique name of this source: package and version, or a digest of a developer's own tree.
        own: whether it is a developer's own tree.
    """

    path: Path
    series: str
    identity: str
    own: bool = False


def unpacked_trees() -> list[SourceTree]:
    """Return the unpacked sources, newest first."""
    trees = []
    for path in paths.sources_dir().glob("linux-source-*_*"):
        package, _, version = path.name.partition("_")
        series = package.removeprefix("linux-source-")
        if series in SERIES:
            trees.append(SourceTree(path, series, f"{package} {version}"))
    return sorted(trees, key=lambda tree: (-SERIES.index(tree.series), _natural(tree.path.name)), reverse=True)


def own_tree(path: Path) -> SourceTree:
    """Return the developer's tree at *path*. Its identity changes with any file in it.

    Raises:
        LabError: *path* is not a kernel source, or was built in.
    """
    try:
        makefile = (path / "Makefile").read_text(encoding="utf-8", errors="replace")
    except OSError:
        makefile = ""
    version = dict(re.findall(r"^(VERSION|PATCHLEVEL) *= *(\d+)$", makefile, re.MULTILINE))
    if len(version) != 2 or not (path / "Kbuild").exists():
        raise LabError(f"{path} is not a kernel source tree: give the directory with the kernel's top Makefile")
    if (path / ".config").exists() or (path / "include/config").exists():
        raise LabError(
            f"{path} was built in and cannot be built from outside; run: make -C {shlex.quote(str(path))} mrproper"
        )
    digest = hashlib.sha256()
    for line in _inventory(str(path), ""):
        digest.update(line.encode(errors="surrogateescape"))
    return SourceTree(
        path, f"{version['VERSION']}.{version['PATCHLEVEL']}", f"{path} {digest.hexdigest()[:16]}", own=True
    )


def _inventory(top: str, relative: str) -> Iterator[str]:
    """Yield name, size and modification time of every file. make compares the same facts. 90000 files take a second."""
    with os.scandir(os.path.join(top, relative)) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name != ".git":
                    yield from _inventory(top, name)
            else:
                facts = entry.stat(follow_symlinks=False)
                yield f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n"


def obtain(series: str | None, progress: Progress) -> SourceTree:
    """Return an unpacked source of *series*, or of the newest series that an archive has. Fetch it if it is not
    unpacked yet.

    Raises:
        NoSourceError: *series* is not unpacked here, and no reachable archive has it.
        LabError: no source of any series is unpacked here, and none can be fetched.
    """
    with locked(paths.sources_dir() / "lock", lambda: progress.step("waiting for another download")):
        here = [tree for tree in unpacked_trees() if series in (None, tree.series)]
        if here and here[0].series == (series or SERIES[0]):
            return here[0]
        for stale in paths.sources_dir().glob(".unpack-*"):
            shutil.rmtree(stale)
        try:
            return _fetch((series,) if series else SERIES, progress)
        except LabError as error:
            if not here:
                raise
            progress.note(f"{error}; using the source on this machine, {here[0].identity}")
            return here[0]


class _Offer(NamedTuple):
    """A kernel source that an archive has."""

    series: str
    version: str
    apt: PrivateApt


def _fetch(wanted: tuple[str, ...], progress: Progress) -> SourceTree:
    """Fetch the newest source that an archive has. *wanted* holds the possible series, the newest first."""
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise LabError(f"there is no {tool} here; give a kernel source of your own with --source DIR")
    problems: list[str] = []
    best = _best_offer(wanted, progress, problems)
    if best is None:
        why = problems[-1] if problems else "no suite has one"
        names = " or ".join(f"linux-source-{series}" for series in wanted)
        # The archives may have dropped one series. Without any series, the lab cannot work.
        raise (NoSourceError if len(wanted) == 1 else LabError)(
            f"{names} cannot be fetched: {why}; check the network and the apt sources, or give a kernel source of your "
            "own with --source DIR"
        )
    if best.series != wanted[0]:
        for problem in problems:
            progress.note(problem)
        progress.note(f"the newest kernel source that can be fetched is linux-source-{best.series}")
    return _unpack(best.apt, best.series, best.version, progress)


def _best_offer(wanted: tuple[str, ...], progress: Progress, problems: list[str]) -> _Offer | None:
    """Ask the archives until one has the newest series. Return the best offer; None if no archive has a source.

    A sentence for each archive that cannot be used is added to *problems*.
    """
    best: _Offer | None = None
    better = wanted
    for index, (name, archives) in enumerate(_archives()):
        progress.step(f"looking for a kernel source in {name}")
        apt = PrivateApt(paths.work_dir() / "apt" / str(index), archives)
        try:
            apt.update()
        except LabError as error:
            problems.append(f"{name} cannot be used ({error})")
            if re.search(r"resolving|connect|unreachable", str(error)):
                break
            continue
        for series in better:
            version = apt.newest(f"linux-source-{series}")
            if version is not None:
                best, better = _Offer(series, version, apt), wanted[: wanted.index(series)]
                break
        if not better:
            break
    return best


def _archives() -> list[tuple[str, list[Archive]]]:
    """Return the archives that can have a kernel source, in the order of the search, each with a name for messages."""
    own = system_archives()
    if not own:
        raise LabError(
            "no Debian archive in /etc/apt/sources.list*; give a kernel source of your own with --source DIR"
        )
    extra = [(suite, mirror(own, suite)) for suite in _SUITES]
    found = [(suite, [archive]) for suite, archive in extra if archive is not None]
    return [*found, ("this machine's own apt sources", own)]


def _unpack(apt: PrivateApt, series: str, version: str, progress: Progress) -> SourceTree:
    package = f"linux-source-{series}"
    parent = paths.sources_dir()
    require_space(parent, UNPACK_BYTES, f"unpack {package}")
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=parent) as name:
        staging = Path(name)
        progress.step(f"downloading {package} {version}", 100)
        (archive,) = apt.download({package: version}, staging, progress)
        progress.step(f"unpacking {package}")
        tree = staging / "tree"
        tree.mkdir()
        pipeline = 'dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" | tar -xJ --strip-components=1 -C "$3"'
        member = f"./usr/src/{package}.tar.xz"
        run_tool(
            ["bash", "-c", f"set -o pipefail; {pipeline}", "unpack", str(archive), member, str(tree)],
            f"cannot unpack {package}",
        )
        final = parent / f"{package}_{version}"
        tree.rename(final)
    return SourceTree(final, series, f"{package} {version}")


def require_space(directory: Path, size_bytes: int, purpose: str) -> None:
    """Raise a :class:`LabError` unless the disk of *directory* has *size_bytes* free."""
    paths.make(directory)
    free, gib = shutil.disk_usage(directory).free, 1 << 30
    if free < size_bytes:
        raise LabError(
            f"{directory} has {free / gib:.1f} GiB free and {size_bytes / gib:.1f} GiB are needed to {purpose}; "
            f"{SPACE_REMEDY}"
        )


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(number or 0), other) for number, other in re.findall(r"(\d+)|(\D+)", text)]
