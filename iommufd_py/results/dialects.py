# SPDX-License-Identifier: MIT
"""Format comparisons like other kernel benchmarks, so that readers can compare them with earlier mails."""

from collections.abc import Sequence

from iommufd_py.base.errors import ToolError
from iommufd_py.base.units import counted, format_size
from iommufd_py.results.compare import Change, Comparison
from iommufd_py.results.compare_text import floor_lines
from iommufd_py.results.cover_letter import amount, doubts
from iommufd_py.results.finding import time_sentences
from iommufd_py.results.model import BenchResult, Point
from iommufd_py.results.report import but_size, floors_of, machine_lines, of_each, row_name
from iommufd_py.results.tables import MAIL_WIDTH, wrapped

_IOCTLS = {
    "map": "IOMMU_IOAS_MAP",
    "unmap": "IOMMU_IOAS_UNMAP",
    "map-file": "IOMMU_IOAS_MAP_FILE",
    "unmap-file": "IOMMU_IOAS_UNMAP",
    "copy": "IOMMU_IOAS_COPY",
    "unmap-copy": "IOMMU_IOAS_UNMAP",
    "attach": "IOMMU_HWPT_ALLOC",
    "first-attach": "IOMMU_HWPT_ALLOC",
    "detach": "IOMMU_DESTROY",
    "teardown": "IOMMU_DESTROY",
}
_BACKINGS = {"4k": "MAP_POPULATE", "thp": "MADV_HUGEPAGE", "hugetlb-2m": "HUGETLBFS", "hugetlb-1g": "HUGETLBFS 1G"}
_SECONDS = 1e9


def iommupt(before: BenchResult, after: BenchResult, comparison: Comparison) -> str:
    """Return the tables of the generic_pt KUnit benchmark: new before old, in ns, the gain of the minimum in percent.

    Source: J. Gunthorpe, cover letter of "Consolidate iommu page table implementations".
    """
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in comparison.changes:
        groups.setdefault((change.operation, but_size(change.point)), []).append(change)
    text = []
    for (operation, conditions), changes in groups.items():
        text += wrapped(f"{operation} ({_IOCTLS.get(operation, operation)}), {conditions}:", MAIL_WIDTH)
        text += ["   pgsz  ,avg new,old ns, min new,old ns  , min % (+ve is better)"]
        for change in sorted(changes, key=lambda one: one.point.size_bytes):
            average = f"{change.after_mean_ns:>7.0f},{change.before_mean_ns:<6.0f}"
            minimum = f"{change.after_min_ns:>8},{change.before_min_ns:<8}"
            gain = (
                f"{(change.before_min_ns - change.after_min_ns) / change.before_min_ns:.2%}".rstrip("%")
                if change.before_min_ns
                else "-"
            )
            text.append(f"{_power(change.point):>9},{average},{minimum},{gain:>7}")
        text.append("")
    return "\n".join([*text, *_footer(before, after, comparison)])


def _power(point: Point) -> str:
    """Return a size as the table writes it: ``2^12``, or ``256*2^12`` for 256 ioctls of 4K."""
    bits = (point.ioctl_bytes & -point.ioctl_bytes).bit_length() - 1
    factor = point.ioctls * (point.ioctl_bytes >> bits)
    return f"2^{bits}" if factor == 1 else f"{factor}*2^{bits}"


def vfio_tests(before: BenchResult, after: BenchResult, comparison: Comparison) -> str:
    """Return the blocks of vfio-pci-mem-dma-map: seconds and GB/s for each kind of memory, the baseline first.

    Source: https://github.com/awilliam/tests. A GB is 2^30 bytes there.

    Raises:
        ToolError: there is no map and no unmap to show.
    """
    blocks: dict[Point, list[Change]] = {}
    for change in comparison.changes:
        if change.operation in ("map", "unmap"):
            blocks.setdefault(change.point, []).append(change)
    if not blocks:
        raise ToolError(
            f"{after.label} has no map or unmap to compare with {before.label}, and vfio-tests shows nothing else: "
            "choose another format"
        )
    others = len(comparison.changes) - sum(map(len, blocks.values()))
    left_out = [f"Left out: {counted(others, 'operation')} other than map and unmap."] if others else []
    text = []
    kernels = [(one.environment.kernel_release, one.environment.kernel_variant) for one in (before, after)]
    other = "With this patchset:" if kernels[0] != kernels[1] else f"{after.label}:"
    for name, side in ((f"Base({before.environment.kernel_release}):", 0), (other, 1)):
        text += wrapped(name, MAIL_WIDTH)
        for point, changes in blocks.items():
            more = ", ".join(row_name(point).split(", ")[2:])
            text.append(f"------- AVERAGE ({_BACKINGS.get(point.backing, point.backing)}) --------")
            text += wrapped(f"{format_size(point.size_bytes)}{', with ' + more if more else ''}", MAIL_WIDTH)
            for change in changes:
                ns = (change.before_mean_ns, change.after_mean_ns)[side]
                rate = f"{point.size_bytes / (1 << 30) / ns * _SECONDS:.1f}" if ns else "-"
                text.append(f"VFIO {change.operation.upper()} DMA in {_seconds(ns)} s ({rate} GB/s)")
        text.append("")
    return "\n".join([*text, "A GB is 2^30 bytes.", *left_out, *_footer(before, after, comparison)])


def _seconds(ns: float) -> str:
    return f"{ns / _SECONDS:.3f}" if ns >= _SECONDS / 100 else f"{ns / _SECONDS:.9f}".rstrip("0").rstrip(".")


def _footer(before: BenchResult, after: BenchResult, comparison: Comparison) -> Sequence[str]:
    both = [before, after]
    facts = [
        f"old: {before.label}; new: {after.label}",
        *machine_lines(both),
        f"floor: an ioctl that does nothing takes {floors_of(both)[1]}",
        *of_each(both, lambda one: f"avg: mean of {amount(one)}"),
        *of_each(both, lambda one: f"command: {one.repeat_command}"),
        *floor_lines(comparison),
        *time_sentences(both, [comparison]),
        *doubts(both, [comparison]),
    ]
    return [line for fact in facts for line in wrapped(fact, MAIL_WIDTH)]
