# SPDX-License-Identifier: MIT
"""Which kernel to boot: by name from the cache, built when it is not there yet, or any image by path.

A kernel of the lab is a variant (stock, patched or patched-refined) of a series in a configuration, which says the
architecture, too.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from iommufd_py.lab import build, cache, source
from iommufd_py.lab.cache import VARIANTS, Kernel, Recipe, Variant
from iommufd_py.lab.config import Arch, Configuration
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.progress import Progress
from iommufd_py.lab.source import SERIES

_PATCHES = Path(str(resources.files("iommufd_py.lab") / "patches"))


def patches_for(variant: Variant, series: str, arch: Arch = "x86_64") -> list[Path]:
    """Return the project's patches for a kernel, in order.

    Raises:
        LabError: there are none for this series, and the kernel cannot be without.
    """
    directories = []
    if variant != "stock":
        directories += [_PATCHES / series / "fixes", _PATCHES / series]
    if variant == "patched-refined":
        directories.append(_PATCHES / series / "refined")
    if arch == "um":
        first, *others = _native_directories(series, flushes=variant != "stock")
        directories = [first, *directories, *others]
    return _patches_in(directories, series, arch)


def native_patches(series: str, *, flushes: bool) -> list[Path]:
    """Return the patches that User-Mode Linux needs beside the project's, in order.

    Args:
        series: kernel series.
        flushes: whether the kernel has a flush for an architecture to implement.

    Raises:
        LabError: there are none for this series.
    """
    return _patches_in(_native_directories(series, flushes=flushes), series, "um")


def _native_directories(series: str, *, flushes: bool) -> list[Path]:
    # What makes it boot under all, and what the series needs there besides.
    return [_PATCHES / "um" / series / name for name in (("stock", "patched") if flushes else ("stock",))]


def _patches_in(directories: Sequence[Path], series: str, arch: Arch) -> list[Path]:
    for directory in directories:
        if not directory.is_dir():
            native = " as User-Mode Linux" if arch == "um" else ""
            raise LabError(f"there are no patches for {series}{native}; choose a series that has some with --series")
    return [patch for directory in directories for patch in sorted(directory.glob("*.patch"))]


def _digest(patches: Sequence[Path]) -> str:
    return cache.digest(*(patch.read_bytes() for patch in patches)) if patches else ""


def _fits(kernel: Kernel, variant: Variant, series: str | None, configuration: Configuration) -> bool:
    recipe = kernel.recipe
    if (recipe.variant, recipe.arch, recipe.config) != (
        variant,
        configuration.arch,
        cache.config_digest(configuration),
    ):
        return False
    if recipe.series not in ([series] if series else SERIES) or not recipe.source.startswith("linux-source-"):
        return False
    try:
        return recipe.patches == _digest(patches_for(variant, recipe.series, recipe.arch))
    except LabError:
        return False  # the project no longer has a series for it


def cached_kernel(
    variant: Variant, series: str | None = None, configuration: Configuration | None = None
) -> Kernel | None:
    """Return the newest finished kernel of *variant* that the present configuration and patches give.

    The compiler and the release of the source do not matter here: what was built once serves until the
    project's own part of the recipe changes.
    """
    configuration = configuration or Configuration()
    fitting = [kernel for kernel in cache.kernels() if _fits(kernel, variant, series, configuration)]
    return min(fitting, key=lambda kernel: SERIES.index(kernel.recipe.series), default=None)


def build_kernel(
    variant: Variant,
    progress: Progress,
    *,
    series: str | None = None,
    configuration: Configuration | None = None,
    own: Path | None = None,
) -> Kernel:
    """Return a finished kernel, built now when there is none.

    Args:
        variant: ``stock``, or with the project's patches.
        progress: told what goes on.
        series: kernel series; the newest that can be had by default.
        configuration: the one for the machine with VT-d by default.
        own: a developer's own tree, built as it is and again after every change.

    Raises:
        LabError: there is no source, no compiler, no space, no patch for the series, or it does not build.
    """
    configuration = configuration or Configuration()
    if variant != "stock" and series is None:
        # A patched one is for comparing with stock: of the same series.
        stock = cached_kernel("stock", None, configuration)
        series = stock.recipe.series if stock else None
    if own is None:
        kernel = cached_kernel(variant, series, configuration)
        if kernel is not None:
            return kernel
    compiler = build.compiler()
    tree = source.own_tree(own.resolve()) if own else source.obtain(series, progress)
    patches = [] if tree.own else patches_for(variant, tree.series, configuration.arch)
    recipe = Recipe(
        variant=variant,
        series=tree.series,
        source=tree.identity,
        config=cache.config_digest(configuration),
        patches=_digest(patches),
        compiler=compiler,
        arch=configuration.arch,
    )
    return build.build(recipe, tree, patches, progress)


def build_changed(
    change: Path, progress: Progress, series: str | None = None, configuration: Configuration | None = None
) -> Kernel:
    """Return the patched kernel with the patch *change* on top. It is in the cache until the caller removes it.

    Raises:
        LabError: as for :func:`build_kernel`, or the change does not apply.
    """
    base = build_kernel("patched", progress, series=series, configuration=configuration).recipe
    tree = source.obtain(base.series, progress)
    return build.compile_changed(base, tree, patches_for("patched", base.series, base.arch), change, progress)


def image(name: str, progress: Progress, configuration: Configuration | None = None) -> Path:
    """Return the image that *name* stands for: that of a variant, or the path of one."""
    configuration = configuration or Configuration()
    for variant in VARIANTS:
        if name == variant:
            return build_kernel(variant, progress, configuration=configuration).image
    path, arch = Path(name), configuration.arch
    if not path.is_file():
        kind = "a bzImage" if arch == "x86_64" else "a User-Mode Linux"
        raise LabError(f"there is no kernel {name}: give {', '.join(VARIANTS)}, or the path of {kind}")
    with path.open("rb") as file:
        head = file.read(0x206)
    # Sources: "The Real-Mode Kernel Header" in Documentation/arch/x86/boot.rst; elf(5).
    if arch == "x86_64" and head[0x202:] != b"HdrS":
        raise LabError(f"{name} is not a bzImage; of a kernel build directory give arch/x86/boot/bzImage")
    if arch == "um" and not head.startswith(b"\x7fELF"):
        raise LabError(f"{name} is not a User-Mode Linux; of a build directory with ARCH=um give linux")
    return path.resolve()


def selftests(kernel: Kernel, progress: Progress) -> Path:
    """Return the directory of the iommu selftests that belong to *kernel*, compiled now when they are not there yet.

    Raises:
        LabError: they do not compile.
    """
    recipe = kernel.recipe
    patches = patches_for(recipe.variant, recipe.series, recipe.arch)
    return build.build_selftests(kernel, source.obtain(recipe.series, progress), patches, progress)
