# SPDX-License-Identifier: MIT
"""Which kernel to boot: by name from the cache, built when it is not there yet, or any bzImage by path."""

from importlib import resources
from pathlib import Path

from iommufd_py.lab import build, cache, source
from iommufd_py.lab.cache import Kernel, Recipe, Variant
from iommufd_py.lab.config import fragment
from iommufd_py.lab.errors import LabError
from iommufd_py.lab.progress import Progress
from iommufd_py.lab.source import SERIES

__all__ = ["build_kernel", "cached_kernel", "image", "patches_for", "selftests"]


def patches_for(series: str) -> list[Path]:
    """Return the project's patches for a kernel series, in order; none when it has no series for it."""
    return sorted(Path(str(resources.files("iommufd_py.lab") / "patches" / series)).glob("*.patch"))


def _patches_digest(variant: Variant, series: str) -> str:
    if variant == "stock":
        return ""
    return cache.digest(*(patch.read_bytes() for patch in patches_for(series)))


def cached_kernel(variant: Variant, series: str | None = None) -> Kernel | None:
    """Return the newest finished kernel of *variant* that the present configuration and patches give.

    The compiler and the release of the source do not matter here: what was built once serves until the
    project's own part of the recipe changes.
    """
    config = cache.digest(fragment().read_bytes())
    fitting = [
        kernel
        for kernel in cache.kernels()
        if kernel.recipe.variant == variant
        and kernel.recipe.series in ([series] if series else SERIES)
        and kernel.recipe.source.startswith("linux-source-")
        and kernel.recipe.config == config
        and kernel.recipe.patches == _patches_digest(variant, kernel.recipe.series)
    ]
    return min(fitting, key=lambda kernel: SERIES.index(kernel.recipe.series), default=None)


def build_kernel(variant: Variant, progress: Progress, *, series: str | None = None, own: Path | None = None) -> Kernel:
    """Return a finished kernel, built now when there is none.

    Args:
        variant: ``stock``, or ``patched`` with the project's patches.
        progress: told what goes on.
        series: kernel series; the newest that can be had by default.
        own: a developer's own tree, built as it is and again after every change.

    Raises:
        LabError: there is no source, no compiler, no space, no patch for the series, or it does not build.
    """
    if variant == "patched" and series is None:
        # Patched is for comparing with stock: of the same series.
        stock = cached_kernel("stock")
        series = stock.recipe.series if stock else None
    if own is None:
        kernel = cached_kernel(variant, series)
        if kernel is not None:
            return kernel
    compiler = build.compiler()
    tree = source.own_tree(own.resolve()) if own else source.obtain(series, progress)
    patches = patches_for(tree.series) if variant == "patched" else []
    if variant == "patched" and not patches:
        raise LabError(f"there are no patches for {tree.series}; choose a series that has some with --series")
    recipe = Recipe(
        variant=variant,
        series=tree.series,
        source=tree.identity,
        config=cache.digest(fragment().read_bytes()),
        patches=_patches_digest(variant, tree.series),
        compiler=compiler,
    )
    return build.build(recipe, tree, patches, progress)


def image(name: str, progress: Progress) -> Path:
    """Return the bzImage that *name* stands for: ``stock``, ``patched``, or the path of one."""
    if name == "stock":
        return build_kernel("stock", progress).image
    if name == "patched":
        return build_kernel("patched", progress).image
    path = Path(name)
    if not path.is_file():
        raise LabError(f"there is no kernel {name}: give stock, patched, or the path of a bzImage")
    with path.open("rb") as file:
        # Source: "The Real-Mode Kernel Header" in Documentation/arch/x86/boot.rst.
        file.seek(0x202)
        if file.read(4) != b"HdrS":
            raise LabError(f"{name} is not a bzImage; of a kernel build directory give arch/x86/boot/bzImage")
    return path.resolve()


def selftests(kernel: Kernel, progress: Progress) -> Path:
    """Return the directory of the iommu selftests that belong to *kernel*, compiled now when they are not there yet.

    Raises:
        LabError: they do not compile.
    """
    series = kernel.recipe.series
    patches = patches_for(series) if kernel.recipe.variant == "patched" else []
    return build.selftests(kernel, source.obtain(series, progress), patches, progress)
