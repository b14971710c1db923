# SPDX-License-Identifier: MIT
"""Finished kernels, found by a digest of everything that they were built from. A kernel is complete or absent."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from iommufd_py.base.errors import reason_of
from iommufd_py.lab import paths
from iommufd_py.lab.config import ADDITIONS, Arch, Configuration, parse_config
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.records import is_text, read_object, record_of

Variant = Literal["stock", "patched", "patched-refined"]

VARIANTS: tuple[Variant, ...] = get_args(Variant)
"""The names of kernels; each contains the changes of the one before it."""

IMAGES: dict[Arch, Path] = {"x86_64": Path("arch/x86/boot/bzImage"), "um": Path("linux")}
"""Path of the bootable file in a build directory. The last part is its name in the cache."""

_SCHEMA = "iommufd-lab-kernel/1"


def config_digest(configuration: Configuration) -> str:
    """Return the name of *configuration* in a recipe. It covers the symbols only, so a changed comment rebuilds
    nothing.
    """
    symbols = repr(sorted(parse_config(configuration.fragment).items()))
    return "-".join((*configuration.additions, digest(symbols.encode())))


def patches_digest(*patches: bytes) -> str:
    """Return the name of *patches* in a recipe, empty without any.

    It covers the changes of files only, so a changed message rebuilds nothing. A changed comment in a file causes a new
    build.
    """
    return digest(*(_changes(patch) for patch in patches)) if patches else ""


def _changes(patch: bytes) -> bytes:
    # The message and the diffstat come before the first file. In a hunk no line begins with "index", as each line
    # there begins with a blank, + or -.
    lines = patch.splitlines(keepends=True)
    first = next((number for number, line in enumerate(lines) if line.startswith((b"diff ", b"--- "))), len(lines))
    return b"".join(line for line in lines[first:] if not line.startswith(b"index "))


def digest(*contents: bytes) -> str:
    """Return a short name for *contents*."""
    together = hashlib.sha256()
    for content in contents:
        together.update(hashlib.sha256(content).digest())
    return together.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a kernel is made from.

    Attributes:
        variant: ``stock``; ``patched`` with the fixes and the series; ``patched-refined`` also with the refinement.
        series: kernel series, e.g. ``7.3``.
        source: identity of the source tree.
        config: digest of the configuration's symbols, after the name of each addition, as in ``debug-``.
        patches: digest of the changes that the patches make to files, empty without patches.
        compiler: first line of the compiler's version.
        arch: machine of the kernel.
    """

    variant: Variant
    series: str
    source: str
    config: str
    patches: str
    compiler: str
    arch: Arch = "x86_64"

    @property
    def key(self) -> str:
        """Name of the kernel in the cache."""
        return digest(json.dumps(asdict(self), sort_keys=True).encode())

    @property
    def configuration(self) -> Configuration:
        """The lab's configuration that the recipe uses."""
        return Configuration(self.arch, **dict.fromkeys(self.additions, True))

    @property
    def additions(self) -> tuple[str, ...]:
        """The names of the configuration's additions. A newer version of this tool may know more of them."""
        return tuple(self.config.split("-")[:-1])


@dataclass(frozen=True, slots=True)
class Kernel:
    """A finished kernel in the cache."""

    directory: Path
    recipe: Recipe
    release: str
    built_at: str

    @property
    def image(self) -> Path:
        """The file to boot: a bzImage, or the program of a User-Mode Linux."""
        return self.directory / IMAGES[self.recipe.arch].name

    @property
    def name(self) -> str:
        """The name for readers: ``stock``, ``patched-debug``, ``patched-um``, ..."""
        return self.recipe.configuration.label(self.recipe.variant)

    def as_dict(self) -> dict[str, object]:
        """This kernel as a JSON object."""
        facts = {"key": self.recipe.key, "release": self.release, "built_at": self.built_at, "image": str(self.image)}
        return facts | asdict(self.recipe)

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """Return the kernel in *directory*; None if another version of this tool wrote it, or if it is damaged."""
        meta = read_object(directory / "meta.json")
        recipe = record_of(meta.get("recipe"), Recipe)
        release, built_at = meta.get("release"), meta.get("built_at")
        if meta.get("schema") != _SCHEMA or recipe is None or not is_text(release) or not is_text(built_at):
            return None
        if not set(recipe.additions) <= set(ADDITIONS):
            return None
        return cls(directory, recipe, str(release), str(built_at))


def kernels() -> list[Kernel]:
    """Return the finished kernels, the last built first."""
    found = [Kernel.load(path.parent) for path in paths.kernels_dir().glob("[!.]*/meta.json")]
    return sorted((kernel for kernel in found if kernel is not None), key=lambda kernel: kernel.built_at, reverse=True)


def unusable() -> list[Path]:
    """Return the directories without a kernel of this version of the tool; a new build of the kernel replaces one."""
    found = sorted(path for path in paths.kernels_dir().glob("[!.]*") if path.is_dir())
    return [directory for directory in found if Kernel.load(directory) is None]


def find(recipe: Recipe) -> Kernel | None:
    """Return the kernel made by *recipe*."""
    directory = paths.kernels_dir() / recipe.key
    return Kernel.load(directory) if directory.exists() else None


def publish(recipe: Recipe, files: Mapping[str, Path], *, release: str, built_at: str) -> Kernel:
    """Put a kernel into the cache. *files* maps the names in the cache to the files. The kernel appears complete or not
    at all.
    """
    parent = paths.kernels_dir()
    paths.make(parent)
    final = parent / recipe.key
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=parent) as name:
        staging = Path(name, "kernel")
        staging.mkdir()
        for target, source in files.items():
            # The mode is copied too, as a User-Mode Linux is a program.
            shutil.copy(source, staging / target)
        meta = {"schema": _SCHEMA, "recipe": asdict(recipe), "release": release, "built_at": built_at}
        (staging / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        # Another process made it at the same time, or another version of this tool made it.
        remove(final)
        staging.rename(final)
    return Kernel(final, recipe, release, built_at)


@contextmanager
def staging(kernel: Kernel) -> Iterator[Path]:
    """Lend a directory on the disk of *kernel*. A complete file can be renamed from it into the cache."""
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=kernel.directory.parent) as name:
        yield Path(name)


def prune(which: Callable[[Kernel], bool], *, keep: int) -> None:
    """Remove kernels for which *which* is true, but keep the *keep* that were built last."""
    for kernel in [kernel for kernel in kernels() if which(kernel)][keep:]:
        remove(kernel.directory)


def remove(directory: Path) -> None:
    """Remove the directory of a kernel, unless another process removes it.

    It gets another name first: a part of it is no kernel, and :func:`remove_stale` finds what a killed process leaves.
    """
    doomed = directory.with_name(f".publish-{directory.name}-{os.getpid()}")
    try:
        directory.rename(doomed)
    except FileNotFoundError:
        return
    remove_tree(doomed)


def remove_stale() -> None:
    """Remove the files of a publisher that was killed. The caller holds the lock of the builds."""
    for path in paths.kernels_dir().glob(".publish-*"):
        remove_tree(path)


def remove_tree(directory: Path) -> None:
    """Remove a directory and its files. Another process may be removing it.

    Raises:
        LabError: a file of it cannot be removed.
    """
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except FileNotFoundError:
            pass  # Another process removes it, too.
        except OSError as failure:
            raise cannot_remove(directory, failure) from None


def cannot_remove(directory: Path, failure: OSError) -> LabError:
    """Return the error for a directory of the cache."""
    # Python names the file within the directory, and not its path.
    file = f" ({os.fsdecode(failure.filename)})" if failure.filename else ""
    return LabError(f"{directory} cannot be removed: {reason_of(failure)}{file}; remove it by other means")
