# SPDX-License-Identifier: MIT
"""Configure and compile a kernel outside its source tree, and compile again only the changed files."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from iommufd_py.lab import cache, paths
from iommufd_py.lab.cache import IMAGES, Kernel, Recipe
from iommufd_py.lab.config import CONFIGS, Arch, check_config
from iommufd_py.lab.errors import BuildError, LabError
from iommufd_py.lab.process import SPACE_REMEDY, locked, out_of_space, run_tool, space_explained, start, stop
from iommufd_py.lab.progress import Progress
from iommufd_py.lab.source import SourceTree, require_space

TOOLS = {"gcc": "gcc", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "patch": "patch"}
"""Programs that a build needs, with the Debian packages they are in."""

BUILD_BYTES = 600 << 20
"""Disk space for the objects of one kernel."""

_KEPT_OWN = 5  # kept kernels of one developer's tree; each edit makes a new one

_FULL_BUILD_STEPS = 1790  # lines of CC, AS, LD and AR in a full build of 7.3, for the progress bar
_STEP = re.compile(rb"  (?:CC|AS|LD|AR) ")


def compiler() -> str:
    """Return the first line of the compiler's version.

    Raises:
        LabError: a program that a build needs is not installed.
    """
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise LabError(
            f"a kernel cannot be built without {', '.join(missing)}; run: sudo apt-get install {' '.join(missing)}"
        )
    return run_tool(["gcc", "--version"], "cannot run the compiler").splitlines()[0]


def build(recipe: Recipe, tree: SourceTree, patches: Sequence[Path], progress: Progress) -> Kernel:
    """Return the kernel of *recipe*, built from *tree* with *patches* unless it is in the cache.

    Raises:
        LabError: the kernel does not build. The text names the log.
    """
    with _locked(tree, progress):
        kernel = cache.find(recipe)
        if kernel is None:
            with _build_directory(recipe, tree, patches, progress) as place:
                kernel = _make(recipe, place, progress)
            if tree.own:
                cache.prune(lambda other: other.recipe.source.startswith(f"{tree.path} "), keep=_KEPT_OWN)
        return kernel


def compile_changed(
    base: Recipe, tree: SourceTree, patches: Sequence[Path], change: Path, progress: Progress
) -> Kernel:
    """Return the kernel of *base*, which is *tree* with *patches*, with the patch *change* on top.

    Changes are built one after the other in one copy of the base's objects. So make compiles only the files that a
    change touches.

    Raises:
        LabError: the change does not apply, or does not build.
    """
    recipe = replace(base, patches=cache.patches_digest(*(patch.read_bytes() for patch in (*patches, change))))
    with (
        _locked(tree, progress),
        _build_directory(base, tree, patches, progress, changed=True) as place,
        _patched(place.tree, change),
    ):
        return _make(recipe, place, progress)


def build_selftests(
    kernel: Kernel, directory: str, tree: SourceTree, patches: Sequence[Path], progress: Progress
) -> Path:
    """Return the directory of the compiled selftests that belong to *kernel*, from the kernel's own source.

    Args:
        kernel: a finished kernel.
        directory: their directory in tools/testing/selftests: ``iommu`` or ``vfio``.
        tree: the source of the kernel.
        patches: the patches of the kernel.
        progress: receives the steps of the build.

    Raises:
        LabError: this series has no such selftests, or they do not compile.
    """
    # Older caches hold only the iommu selftests, under this name.
    kept = "selftests" if directory == "iommu" else f"selftests-{directory}"
    programs = kernel.directory / kept
    if programs.exists():
        return programs
    with _locked(tree, progress):
        # Another process may have compiled them while this one waited.
        if not programs.exists():
            _compile_selftests(kernel, directory, programs, tree, patches, progress)
    return programs


def _compile_selftests(
    kernel: Kernel, directory: str, programs: Path, tree: SourceTree, patches: Sequence[Path], progress: Progress
) -> None:
    """Compile the selftests into the new directory *programs*. The caller holds the lock."""
    with (
        _build_directory(kernel.recipe, tree, patches, progress) as place,
        place.log.open("wb", buffering=0) as output,
    ):
        progress.step(f"compiling the {directory} selftests")
        sources = place.tree / "tools/testing/selftests"
        if not (sources / directory).is_dir():
            raise LabError(f"{kernel.recipe.source} has no {directory} selftests; choose a newer series with --series")
        suite = ["-C", str(sources / directory)]
        suite.append(f"KHDR_INCLUDES=-isystem {place.objects / 'usr/include'}")
        included = [CONFIGS / f"selftest-{kernel.recipe.series}.h"]
        if kernel.recipe.configuration.debug:
            included.append(CONFIGS / "selftest-timeout.h")
        flags = [f"-include {file}" for file in included if file.exists()]
        suite.append(f"USERCFLAGS=-I{sources} {' '.join(flags)}")
        with tempfile.TemporaryDirectory(prefix="selftests-", dir=place.objects.parent) as compiled:
            for arguments in ([*place.make, "headers"], ["make", *suite, f"OUTPUT={compiled}"]):
                if not run_build(arguments, _environment(), output, lambda line: None):
                    reason = explain_failure(place.log)
                    raise LabError(f"the {directory} selftests of {kernel.recipe.source} do not compile: {reason}")
            with cache.staging(kernel) as staged:
                shutil.copytree(compiled, staged / programs.name)
                (staged / programs.name).rename(programs)


@dataclass(frozen=True, slots=True)
class _BuildDirectory:
    """The directory of one build: its source, its objects and its log."""

    label: str
    arch: Arch
    tree: Path
    objects: Path
    log: Path

    @property
    def make(self) -> list[str]:
        """The make command without its target."""
        jobs = f"-j{len(os.sched_getaffinity(0))}"
        make = ["make", "--no-print-directory", "-C", str(self.tree), f"O={self.objects}", f"ARCH={self.arch}", jobs]
        # An empty LOCALVERSION keeps the state of a git tree out of the version, which would relink the kernel.
        return [*make, "LOCALVERSION=", "KBUILD_BUILD_USER=iommufd", "KBUILD_BUILD_HOST=lab"]


def _base(tree: Path) -> Path:
    """Return the directory of all builds from the source at *tree*."""
    return paths.work_dir() / "build" / hashlib.sha256(str(tree).encode()).hexdigest()[:16]


def _locked(tree: SourceTree, progress: Progress) -> AbstractContextManager[None]:
    """Hold the lock of the directory :func:`_base`."""
    return locked(_base(tree.path) / "lock", lambda: progress.step("waiting for another build"))


@contextmanager
def _build_directory(
    recipe: Recipe, tree: SourceTree, patches: Sequence[Path], progress: Progress, *, changed: bool = False
) -> Iterator[_BuildDirectory]:
    """Lend the directory of the builds of *recipe*. The caller holds the lock."""
    base = _base(tree.path)
    require_space(base, BUILD_BYTES, "build a kernel")
    with space_explained(base):
        # The configuration comes first, so that no name is a prefix of a name of another configuration.
        prefix = recipe.configuration.name and f"{recipe.configuration.name}-"
        if tree.own:
            name = f"{prefix}own"
            with _workspace(base, name, lambda path: (path / "obj").mkdir()) as own:
                yield _BuildDirectory(str(tree.path), recipe.arch, tree.path, own / "obj", base / f"{name}.log")
            return
        kind = "changed" if changed else recipe.variant
        suffix = f"-{recipe.patches}" if recipe.patches else ""
        name = f"{prefix}{kind}{suffix}"
        for old in base.glob(f"{prefix}{kind}-*/"):
            # A digest follows the variant. Without this check, patched-refined-... would look like an old patched-...
            if old.name != name and "-" not in old.name.removeprefix(f"{prefix}{kind}-"):
                _discard(old)
        unchanged = base / f"{prefix}{recipe.variant}{suffix}"

        def create(path: Path) -> None:
            if changed and unchanged.exists():
                # The dates of the files stay. With new dates on headers, make would compile most of the kernel again.
                _clone(unchanged, path, unchanged / "obj", [], progress)
            else:
                _clone(tree.path, path, next(base.glob(f"{prefix}stock*/obj"), None), patches, progress)

        with _workspace(base, name, create) as copy:
            label = f"{recipe.series} {recipe.configuration.label(recipe.variant)}"
            yield _BuildDirectory(label, recipe.arch, copy, copy / "obj", base / f"{name}.log")


@contextmanager
def _workspace(base: Path, name: str, create: Callable[[Path], object]) -> Iterator[Path]:
    """Lend the directory *name* of *base* under the name ``current``. With *create*, make it if it does not exist.

    Kbuild records absolute paths. Every variant is built under the same path, so a copy of the objects of one variant
    serves another. If ``current`` exists already, a killed process left it: an object in it may be incomplete and have
    a fresh date, and make would keep it. So that directory is removed.
    """
    parked, current, staging = base / name, base / "current", base / "staging"
    for leftover in (current, staging):
        if leftover.exists():
            _discard(leftover)
    if not parked.exists():
        staging.mkdir()
        create(staging)
        staging.rename(parked)
    parked.rename(current)
    try:
        yield current
    finally:
        current.rename(parked)


def _discard(directory: Path) -> None:
    # A compiler that survived a kill may still write into the directory. Rename it before removing it.
    doomed = directory.with_name(f"{directory.name}.old")
    if doomed.exists():
        shutil.rmtree(doomed)
    directory.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _clone(source: Path, target: Path, objects: Path | None, patches: Sequence[Path], progress: Progress) -> None:
    """Make *target* a copy of *source* by hard links, apply the patches, and start from *objects* of a similar build.

    ``patch`` writes new files and renames them, so the source stays unchanged. A build overwrites its objects, so these
    are real copies. Objects inside the source are left out.
    """
    progress.step("preparing the source")
    run_tool(["cp", "-al", f"{source}/.", str(target)], "cannot copy the kernel source")
    if (target / "obj").exists():
        shutil.rmtree(target / "obj")
    for patch in patches:
        apply_patch(patch, target, "--forward", to=source.name)
    if objects is not None:
        run_tool(["cp", "-a", str(objects), str(target)], "cannot copy the objects of the base build")
    else:
        (target / "obj").mkdir()


def apply_patch(patch: Path, target: Path, *options: str, to: str) -> None:
    """Apply *patch* to *target*. An error names the target *to*.

    Raises:
        LabError: the patch does not apply.
    """
    run_tool(
        ["patch", "--batch", "--fuzz=0", "-p1", "-d", str(target), "-i", str(patch), *options],
        f"{patch.name} does not apply to {to}",
    )


@contextmanager
def _patched(tree: Path, change: Path) -> Iterator[None]:
    """Apply a patch to *tree* while the block runs."""
    # If one file does not take the patch, no other file may change.
    apply_patch(change, tree, "--forward", "--dry-run", to="the patched kernel")
    try:
        apply_patch(change, tree, "--forward", to="the patched kernel")
        yield
    finally:
        apply_patch(change, tree, "--reverse", to="the patched kernel")


def _environment() -> dict[str, str]:
    """Return the environment for make, without the variables of a make that may have started this program."""
    mine = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "KBUILD_OUTPUT")
    }
    return mine | {"LC_ALL": "C"}


def _make(recipe: Recipe, place: _BuildDirectory, progress: Progress) -> Kernel:
    configuration, objects, log = recipe.configuration, place.objects, place.log
    incremental = (objects / "vmlinux").exists()
    fragment = objects / "lab.config"
    fragment.write_text(configuration.fragment, encoding="utf-8")
    environment = _environment() | {"KCONFIG_ALLCONFIG": str(fragment), "KCONFIG_WARN_UNKNOWN_SYMBOLS": "1"}
    with log.open("wb", buffering=0) as output:
        progress.step(f"configuring {place.label}")
        if not run_build([*place.make, "allnoconfig"], environment, output, lambda line: None):
            raise _not_built("the kernel cannot be configured", log)
        got = (objects / ".config").read_text(encoding="utf-8")
        check = check_config(configuration.fragment, got, log.read_text(encoding="utf-8", errors="replace"))
        missing = check.missing(configuration.required)
        if missing:
            raise BuildError(
                f"the source {recipe.source} cannot be configured for the lab: it has no {', '.join(missing)}"
            )
        if check.dropped:
            progress.note(f"not in effect in {recipe.series}: {', '.join(check.dropped)}")
        progress.step(f"compiling {place.label}", None if incremental else _FULL_BUILD_STEPS)
        done = 0

        def count(line: bytes) -> None:
            nonlocal done
            if _STEP.match(line):
                done += 1
                progress.advance(min(done, _FULL_BUILD_STEPS))

        image = IMAGES[recipe.arch]
        if not run_build([*place.make, image.name], environment, output, count):
            raise _not_built("the kernel does not build", log)
    files = {
        image.name: objects / image,
        "System.map": objects / "System.map",
        "config": objects / ".config",
        "build.log": log,
    }
    release = (objects / "include/config/kernel.release").read_text(encoding="utf-8").strip()
    cache.remove_stale()
    return cache.publish(recipe, files, release=release, built_at=time.strftime("%Y-%m-%dT%H:%M:%S%z"))


def _not_built(what: str, log: Path) -> LabError:
    """Return the error of a failed build: the fault of the source, unless the disk is full."""
    full = out_of_space(log.read_text(encoding="utf-8", errors="replace"))
    return (LabError if full else BuildError)(f"{what}: {explain_failure(log)}")


def discard_own(tree: Path) -> None:
    """Remove the kernels and the objects that were built from a developer's tree."""
    cache.prune(lambda kernel: kernel.recipe.source.startswith(f"{tree} "), keep=0)
    shutil.rmtree(_base(tree), ignore_errors=True)


def run_build(
    argv: Sequence[str],
    environment: Mapping[str, str],
    log: IO[bytes],
    line_seen: Callable[[bytes], None],
    *,
    cwd: Path | None = None,
) -> bool:
    """Run a program of a build and write its output to *log*. Return whether it succeeded."""
    child = start(
        argv, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert child.stdout is not None
    try:
        for line in child.stdout:
            log.write(line)
            line_seen(line)
        return child.wait() == 0
    finally:
        # On SIGTERM, make deletes its unfinished targets.
        stop(child, grace=20)


def explain_failure(log: Path) -> str:
    """Return the lines of a build log that explain the failure, and the path of the log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if out_of_space(text):
        return f"no space left on the disk; {SPACE_REMEDY}"
    lines = text.splitlines()
    errors = [line for line in lines if re.search(r"\b(?:error|ERROR|undefined reference)\b|^\*\*\*", line)]
    shown = errors[:5] or deque(lines, 5)
    return "\n  ".join(["", *shown, f"the whole log is {log}"])
