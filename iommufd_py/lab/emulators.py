# SPDX-License-Identifier: MIT
"""The emulator with CPU caches: QEMU from Debian's source package with the lab's patch, built once.

It needs no root: missing build dependencies are unpacked beside the source.
"""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import IO, Self

from iommufd_py.lab import build, cache, paths
from iommufd_py.lab.apt import Archive, PrivateApt, mirror, system_archives
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.process import locked, run_tool, space_explained
from iommufd_py.lab.progress import Progress
from iommufd_py.lab.records import is_text, read_object, record_of
from iommufd_py.lab.source import require_space

FIRMWARE = ("/usr/share/seabios", "/usr/share/qemu")
"""Directories of the firmware, which comes from the machine's own QEMU packages. The source package has none."""

OWN_DEVICES = frozenset({"dsa"})
"""Devices that the lab's patches add: no packaged QEMU has them."""

_DATA = Path(str(resources.files("iommufd_py.lab") / "emulator"))
_BINARY = "qemu-system-x86_64"
_SCHEMA = "iommufd-lab-emulator/1"

# The version is the same on every Debian, because the patches apply to this version only.
_SUITE, _PACKAGE, _UPSTREAM = "bookworm", "qemu", "7.2"

_TOOLS = {"gcc": "gcc", "patch": "patch", "xz": "xz-utils", "apt-get": "apt", "dpkg-deb": "dpkg"}
_NEEDS = (
    "bzip2",
    "libattr1-dev",
    "libcap-ng-dev",
    "libfdt-dev",
    "libglib2.0-dev",
    "libpixman-1-dev",
    "meson",
    "ninja-build",
    "pkg-config",
)
_CONFIGURE = (
    "--with-git-submodules=ignore",
    "--target-list=x86_64-softmmu",
    "--without-default-features",
    "--without-default-devices",
    "--with-devices-x86_64=lab",
    "--enable-system",
    "--enable-tcg",
    "--enable-virtfs",
    "--enable-attr",
    "--enable-cap-ng",
    "--enable-fdt=system",
    "--disable-debug-info",
    "--disable-stack-protector",
    "--disable-werror",
)
_BUILD_BYTES = 700 << 20
_SYSTEM_LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
_STEP = re.compile(rb"\[(\d+)/(\d+)\]")


@dataclass(frozen=True, slots=True)
class EmulatorRecipe:
    """Everything that an emulator is made from.

    Attributes:
        source: package and version.
        patches: digest of the lab's patches.
        devices: digest of the list of devices.
        options: digest of the configure options.
        compiler: first line of the compiler's version.
    """

    source: str
    patches: str
    devices: str
    options: str
    compiler: str

    @property
    def key(self) -> str:
        """Name of the emulator in the cache."""
        return cache.digest(json.dumps(asdict(self), sort_keys=True).encode())


@dataclass(frozen=True, slots=True)
class Emulator:
    """A finished emulator in the cache."""

    directory: Path
    recipe: EmulatorRecipe
    built_at: str

    @property
    def program(self) -> Path:
        """The program that replaces the machine's own QEMU. It finds its firmware in :data:`FIRMWARE`."""
        return self.directory / _BINARY

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """Return the emulator in *directory*. None if another version of this tool wrote it, or if it is damaged."""
        meta = read_object(directory / "meta.json")
        recipe = record_of(meta.get("recipe"), EmulatorRecipe)
        if meta.get("schema") != _SCHEMA or recipe is None or not is_text(meta.get("built_at")):
            return None
        return cls(directory, recipe, meta["built_at"])


def _patches() -> list[Path]:
    return sorted(_DATA.glob("*.patch"))


def _recipe(source: str, compiler: str) -> EmulatorRecipe:
    return EmulatorRecipe(
        source=source,
        patches=cache.digest(*(patch.read_bytes() for patch in _patches())),
        devices=cache.digest((_DATA / "lab.mak").read_bytes()),
        options=cache.digest("\0".join(_CONFIGURE).encode()),
        compiler=compiler,
    )


def cached_emulator() -> Emulator | None:
    """Return the newest emulator with the present patches, devices and options.

    Its compiler and its release of the source may differ from the present ones, as with a kernel.
    """
    found = [Emulator.load(path.parent) for path in paths.emulators_dir().glob("[!.]*/meta.json")]
    fitting = [
        one for one in found if one is not None and one.recipe == _recipe(one.recipe.source, one.recipe.compiler)
    ]
    return max(fitting, key=lambda one: one.built_at, default=None)


def missing_tools() -> list[str]:
    """Return the packages that a build needs and that are not installed."""
    return [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]


def build_emulator(progress: Progress) -> Emulator:
    """Return the emulator. Build it if the cache has none.

    Raises:
        LabError: the source cannot be fetched, or the emulator does not build. The text names the log.
    """
    emulator = cached_emulator()
    if emulator is not None:
        return emulator
    missing = missing_tools()
    if missing:
        raise LabError(
            f"the emulator cannot be built without {', '.join(missing)}; run: sudo apt-get install {' '.join(missing)}"
        )
    work = paths.work_dir() / "emulator"
    with locked(work / "lock", lambda: progress.step("waiting for another build")):
        emulator = cached_emulator()
        if emulator is not None:
            return emulator
        for stale in work.glob("build-*"):
            shutil.rmtree(stale)
        require_space(work, _BUILD_BYTES, "build the emulator")
        with space_explained(work), tempfile.TemporaryDirectory(prefix="build-", dir=work) as name:
            return _Build(Path(name), work / "build.log", progress).run()


class _Build:
    """One build, in a directory that is removed at the end."""

    def __init__(self, directory: Path, log: Path, progress: Progress) -> None:
        self._source = directory / "source"
        self._sysroot = directory / "sysroot"
        self._objects = directory / "objects"
        self._downloads = directory / "downloads"
        self._libraries = directory / "libraries"
        for path in (self._source, self._sysroot, self._objects, self._downloads, self._libraries):
            path.mkdir()
        self._log = log
        self._progress = progress

    def run(self) -> Emulator:
        archives = system_archives()
        source = mirror(archives, _SUITE)
        if source is None:
            raise LabError(
                "there is no Debian archive in /etc/apt/sources.list*, so the emulator's source cannot be fetched"
            )
        version = self._fetch_source(replace(source, kind="deb-src"))
        self._unpack_needs(archives)
        compiler = run_tool(["gcc", "--version"], "cannot run the compiler").splitlines()[0]
        with self._log.open("wb", buffering=0) as log:
            self._configure(log)
            self._compile(log)
        return _publish(_recipe(f"{_PACKAGE} {version}", compiler), self._objects / _BINARY, self._log)

    def _fetch_source(self, archive: Archive) -> str:
        """Fetch and unpack the source package, with Debian's patches and the lab's, and return its version."""
        progress = self._progress
        progress.step(f"looking for the source of {_PACKAGE} in {_SUITE}")
        apt = PrivateApt(paths.work_dir() / "apt" / "emulator-source", [archive])
        apt.update()
        version = apt.newest(_PACKAGE)
        if version is None or f"{_UPSTREAM}+" not in version:
            raise LabError(f"{_SUITE} has no source of {_PACKAGE} {_UPSTREAM}, only {version}: the patches do not fit")
        progress.step(f"downloading the source of {_PACKAGE} {version}", 100)
        for file in apt.download_source(_PACKAGE, version, self._downloads, progress):
            # All files of the upstream tarball are in one directory; those of Debian's tarball are not.
            strip = ["--strip-components=1"] if ".orig." in file.name else []
            if file.suffix == ".xz":
                run_tool(["tar", "-xJf", str(file), "-C", str(self._source), *strip], f"cannot unpack {file.name}")
        progress.step("preparing the source")
        debian = self._source / "debian/patches"
        series = (debian / "series").read_text(encoding="utf-8").splitlines()
        names = [line.partition("#")[0].strip() for line in series]
        for patch in (*(debian / name for name in names if name), *_patches()):
            build.apply_patch(patch, self._source, "--forward", "--no-backup-if-mismatch", to=f"{_PACKAGE} {version}")
        shutil.copy(_DATA / "lab.mak", self._source / "configs/devices/x86_64-softmmu/lab.mak")
        return version

    def _unpack_needs(self, archives: list[Archive]) -> None:
        """Unpack the build dependencies that this machine lacks, and make their links and paths fit."""
        self._progress.step("looking for the build dependencies")
        apt = PrivateApt(paths.work_dir() / "apt" / "emulator-needs", archives)
        apt.update()
        lacking = apt.lacking(_NEEDS)
        if lacking:
            self._progress.step(f"downloading {len(lacking)} build dependencies", 100)
            for file in apt.download(lacking, self._downloads, self._progress):
                run_tool(["dpkg-deb", "-x", str(file), str(self._sysroot)], f"cannot unpack {file.name}")
        for link in self._sysroot.rglob("*.so"):
            if link.is_symlink() and not link.exists():
                # A link to a library that is installed on this machine.
                target = _SYSTEM_LIBRARIES / link.readlink().name
                link.unlink()
                link.symlink_to(target)
        for library in self._sysroot.rglob("*.so.*"):
            # The libraries of the unpacked programs. They come last, so that they replace no installed library.
            if not (_SYSTEM_LIBRARIES / library.name).exists():
                (self._libraries / library.name).symlink_to(library)
        for file in self._sysroot.rglob("*.pc"):
            text = file.read_text(encoding="utf-8")
            file.write_text(
                re.sub(r"(?<![\w.])/usr(?=/|$)", f"{self._sysroot}/usr", text, flags=re.M), encoding="utf-8"
            )

    def _environment(self) -> Mapping[str, str]:
        usr = self._sysroot / "usr"
        return os.environ | {
            "LC_ALL": "C",
            # Put the distribution's Python before the Python environment of this tool.
            "PATH": os.pathsep.join([str(usr / "bin"), "/usr/bin", *os.get_exec_path()]),
            "LD_LIBRARY_PATH": str(self._libraries),
            "PKG_CONFIG_PATH": os.pathsep.join(
                map(str, (usr / "lib/x86_64-linux-gnu/pkgconfig", usr / "share/pkgconfig"))
            ),
            # Modules of Meson.
            "PYTHONPATH": str(usr / "lib/python3/dist-packages"),
        }

    def _configure(self, log: IO[bytes]) -> None:
        self._progress.step("configuring the emulator")
        meson = shutil.which("meson", path=self._environment()["PATH"])
        argv = [
            str(self._source / "configure"),
            f"--meson={meson}",
            *_CONFIGURE,
            f"--extra-cflags=-I{self._sysroot}/usr/include",
            f"--extra-ldflags=-L{self._sysroot}/usr/lib/x86_64-linux-gnu",
        ]
        if not build.run_build(argv, self._environment(), log, lambda line: None, cwd=self._objects):
            raise LabError(f"the emulator cannot be configured: {build.explain_failure(self._log)}")

    def _compile(self, log: IO[bytes]) -> None:
        begun = False

        def count(line: bytes) -> None:
            nonlocal begun
            match = _STEP.match(line)
            if match is None:
                return
            if not begun:
                begun = True
                self._progress.step("compiling the emulator", int(match[2]))
            self._progress.advance(int(match[1]))

        jobs = f"-j{len(os.sched_getaffinity(0))}"
        if not build.run_build(["ninja", jobs, _BINARY], self._environment(), log, count, cwd=self._objects):
            raise LabError(f"the emulator does not build: {build.explain_failure(self._log)}")


def _publish(recipe: EmulatorRecipe, program: Path, log: Path) -> Emulator:
    """Put an emulator into the cache, complete or not at all, and remove the emulators that it replaces."""
    parent = paths.emulators_dir()
    paths.make(parent)
    built_at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    for stale in parent.glob(".publish-*"):
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=parent) as name:
        staged = Path(name, "emulator")
        staged.mkdir()
        run_tool(["strip", "-o", str(staged / _BINARY), str(program)], "cannot strip the emulator")
        shutil.copy(log, staged / "build.log")
        meta = {"schema": _SCHEMA, "recipe": asdict(recipe), "built_at": built_at}
        (staged / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        final = parent / recipe.key
        if final.exists():
            shutil.rmtree(final)
        staged.rename(final)
    return Emulator(final, recipe, built_at)
