# SPDX-License-Identifier: MIT
"""Choose the kernel to boot: one of the lab's kernels by its name, built if necessary, or any image by its path.

A kernel of the lab has a variant (stock, patched or patched-refined), a series, and a configuration that includes the
architecture.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from iommufd_py.base.files import cannot_read
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
        LabError: the variant or architecture needs patches, and there are none for this series.
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
    # The patches that every User-Mode Linux needs come first, those that only the flush series needs come last.
    return [_PATCHES / "um" / series / name for name in (("stock", "patched") if flushes else ("stock",))]


def _patches_in(directories: Sequence[Path], series: str, arch: Arch) -> list[Path]:
    for directory in directories:
        if not directory.is_dir():
            place, native = (_PATCHES / "um", " as User-Mode Linux") if arch == "um" else (_PATCHES, "")
            others = " or ".join(one for one in SERIES if (place / one).is_dir())
            raise LabError(f"there are no patches for {series}{native}; choose {others} with --series")
    return [patch for directory in directories for patch in sorted(directory.glob("*.patch"))]


def _digest(patches: Sequence[Path]) -> str:
    return cache.patches_digest(*(patch.read_bytes() for patch in patches))


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
        return False  # the project no longer has patches for this series


def cached_kernel(
    variant: Variant, series: str | None = None, configuration: Configuration | None = None
) -> Kernel | None:
    """Return the newest finished kernel of *variant* with the present configuration and patches.

    Its compiler and its release of the source may differ from the present ones: a kernel is built again only if the
    project's part of the recipe changes.
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
    """Return a finished kernel. Build it if the cache has none.

    Args:
        variant: ``stock``, or a variant with the project's patches.
        progress: receives the steps of the build.
        series: kernel series; default: the newest that can be fetched.
        configuration: default: the configuration for the machine with VT-d.
        own: a developer's own tree. It is built without patches, and rebuilt after every change.

    Raises:
        LabError: the source, a compiler, disk space or a patch for the series is missing, or the build fails.
    """
    configuration = configuration or Configuration()
    if variant != "stock" and series is None:
        # A patched kernel is compared with the stock one, so it must be of the same series.
        stock = cached_kernel("stock", None, configuration)
        series = stock.recipe.series if stock else None
    if own is None:
        kernel = cached_kernel(variant, series, configuration)
        if kernel is not None:
            return kernel
        if series is not None:
            patches_for(variant, series, configuration.arch)  # Without patches, refuse before the download.
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


def image(name: str, progress: Progress, configuration: Configuration | None = None, series: str | None = None) -> Path:
    """Return the path of an image: *name* is a variant, of which *series* may choose the series, or the path itself.

    Raises:
        LabError: as for :func:`build_kernel`, or the path is not an image for this architecture.
    """
    configuration = configuration or Configuration()
    for variant in VARIANTS:
        if name == variant:
            return build_kernel(variant, progress, series=series, configuration=configuration).image
    path, arch = Path(name), configuration.arch
    if not path.is_file():
        kind = "a bzImage" if arch == "x86_64" else "a User-Mode Linux"
        raise LabError(f"there is no kernel {name}: give {', '.join(VARIANTS)}, or the path of {kind}")
    try:
        with path.open("rb") as file:
            head = file.read(0x206)
    except OSError as failure:
        # The error of a read names no file.
        raise LabError(f"the kernel {cannot_read(name, failure)}") from None
    # Sources: "The Real-Mode Kernel Header" in Documentation/arch/x86/boot.rst; elf(5).
    if arch == "x86_64" and head[0x202:] != b"HdrS":
        raise LabError(f"{name} is not a bzImage; in a build directory it is arch/x86/boot/bzImage")
    if arch == "um" and not head.startswith(b"\x7fELF"):
        raise LabError(f"{name} is not a User-Mode Linux; in a build directory with ARCH=um it is linux")
    return path.resolve()


def selftests(kernel: Kernel, directory: str, progress: Progress) -> Path:
    """Return the directory of the selftests that belong to *kernel*. Compile them if necessary.

    Args:
        kernel: a finished kernel.
        directory: their directory in tools/testing/selftests: ``iommu`` or ``vfio``.
        progress: receives the steps of the build.

    Raises:
        LabError: this series has no such selftests, or they do not compile.
    """
    recipe = kernel.recipe
    patches = patches_for(recipe.variant, recipe.series, recipe.arch)
    return build.build_selftests(kernel, directory, source.obtain(recipe.series, progress), patches, progress)
