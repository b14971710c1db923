# SPDX-License-Identifier: MIT
"""Limits of a result's figures: a code for programs, a sentence with advice for people."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from iommufd_py.base.environment import Environment, Platform
from iommufd_py.base.units import PAGE_BYTES, counted, format_ns
from iommufd_py.results.humps import Humps, humps_of_runs
from iommufd_py.results.model import LEGACY_MODES, BenchResult, Row, Workload
from iommufd_py.results.noise import disturbances
from iommufd_py.results.stats import blur_ns, median, summarize

UNEQUAL_RUNS = 1.5
"""Two buffers are the same work if their numbers of physical runs differ by at most this factor."""

# Bounds for the spread of the processes' medians, and for disturbed samples. A row beyond a bound gets a remark.
_WIDE = 0.10
_DISTURBED = 0.01
# Bound for the error of a time by the steps of the clock.
_COARSE = 0.01
# From this size on, the time for a page should not change by more than this fraction.
_LARGE_BYTES = 2 << 20
_FLAT = 0.10
# A boot gets a remark if its times differ, on average, by this factor from those of the other boots.
_OUTLYING = math.log(1.25)
# Number of processes that an interval needs.
_FEW_RUNS = 3
# Workloads whose first operation pins the buffer. In the other workloads the buffer is already pinned.
_PINNING = (Workload.MAP, Workload.MAP_FILE, Workload.TEARDOWN)

_COSTLY = {
    "KASAN": ("KASAN", "checks every memory access"),
    "PROVE_LOCKING": ("LOCKDEP", "follows every lock"),
    "DEBUG_PAGEALLOC": ("DEBUG_PAGEALLOC", "unmaps every free page"),
    "IOMMUFD_TEST": ("IOMMUFD_TEST_KERNEL", "adds checks to the measured paths"),
    "FAULT_INJECTION": ("FAULT_INJECTION", "decides at every allocation whether it fails"),
    "DEBUG_LIST": ("DEBUG_LIST", "checks every list operation"),
}


@dataclass(frozen=True, slots=True)
class FigureLimit:
    """One limit of the figures of a result.

    Attributes:
        code: identifies the kind of limit, in all versions.
        text: the limit, and the remedy.
        rows: positions of the rows concerned, empty for all.
    """

    code: str
    text: str
    rows: tuple[int, ...] = ()


def figure_limits(result: BenchResult) -> list[FigureLimit]:
    """Return the limits of the figures of *result*, the gravest first."""
    jumping = _jumping(result.rows)
    return [
        *_of_environment(result.environment),
        *_of_boots(result, jumping),
        *_of_times(result.rows),
        *_noise(result.rows),
        *_humps(jumping),
        *_of_work(result.rows),
    ]


def _jumping(rows: tuple[Row, ...]) -> dict[tuple[int, str], Humps]:
    """Return an example of the two groups, for each operation with two groups in at least half of the processes."""
    jumping = {}
    for number, row in enumerate(rows):
        for operation in row.operations:
            found = [one for one in humps_of_runs([samples.ns for samples in row.samples(operation)]) if one]
            if found and 2 * len(found) >= len(row.runs):
                jumping[number, operation] = found[0]
    return jumping


def _of_boots(result: BenchResult, jumping: Collection[tuple[int, str]]) -> Iterator[FigureLimit]:
    disturbed = [(number, boot) for number, boot in enumerate(result.boots, 1) if boot.disturbances]
    if disturbed:
        number, boot = disturbed[0]
        again = f", after {counted(len(result.discarded), 'repeated round')}" if result.discarded else ""
        yield FigureLimit(
            "BUSY_HOST",
            f"the host was busy during {len(disturbed)} of {len(result.boots)} boots{again} "
            f"(boot {number}: {boot.disturbances}): stop other work on it",
        )
    for number, factor in _outlying_boots(result, jumping):
        yield FigureLimit(
            "BOOT_DIFFERS",
            f"the times of boot {number} are x{factor:.2f} of those of other boots: measure again, on a quiet machine",
        )


def _outlying_boots(result: BenchResult, jumping: Collection[tuple[int, str]]) -> Iterator[tuple[int, float]]:
    """Yield the number of each boot whose times differ from those of the others, and the mean factor.

    Args:
        jumping: positions of rows with operations whose medians jump. Each of their boots would differ from the others.
    """
    logs: dict[str, list[float]] = {}
    for at, row in enumerate(result.rows):
        for operation in row.operations:
            if (at, operation) in jumping:
                continue
            medians: dict[str, list[float]] = {}
            for run in row.runs:
                medians.setdefault(run.boot_id, []).append(math.log(max(median(run.operations[operation].ns), 1.0)))
            if len(medians) < _FEW_RUNS:
                continue
            middle = median([median(found) for found in medians.values()])
            for boot, found in medians.items():
                logs.setdefault(boot, []).append(median(found) - middle)
    numbers = {boot.boot_id: number for number, boot in enumerate(result.boots, 1)}
    for order, (boot_id, differences) in enumerate(logs.items(), 1):
        mean = sum(differences) / len(differences)
        if abs(mean) > _OUTLYING:
            yield numbers.get(boot_id, order), math.exp(mean)


def _of_environment(environment: Environment) -> Iterator[FigureLimit]:
    if environment.emulated:
        yield FigureLimit(
            "TCG", "the CPU is emulated: a cache flush costs nothing here; compare within this table only"
        )
    if environment.platform == Platform.UML:
        yield FigureLimit(
            "UML", "this kernel runs as a process: CPU and caches are real, but an ioctl costs microseconds"
        )
    if environment.platform == Platform.VIRTUAL:
        yield FigureLimit("VIRTUAL", "this is a virtual machine: the times include work of the hypervisor")
    if environment.noncoherent_knob:
        yield FigureLimit(
            "NONCOHERENT_KNOB",
            "iommufd.test_noncoherent_hwpt is set: domains are non-coherent although the IOMMU may force snooping",
        )
    if environment.config is None:
        yield FigureLimit("NO_CONFIG", "the kernel does not show its configuration (CONFIG_IKCONFIG_PROC)")
    else:
        for option, (code, cost) in _COSTLY.items():
            if environment.config.get(option) == "y":
                yield FigureLimit(code, f"CONFIG_{option} {cost}: build without it for absolute figures")
    if environment.governor not in (None, "performance"):
        yield FigureLimit(
            "GOVERNOR",
            f"the CPU's frequency follows the load (governor {environment.governor}): run "
            "'cpupower frequency-set -g performance'",
        )
    if environment.turbo:
        yield FigureLimit("TURBO", "the CPU exceeds its base frequency while it is cool: switch turbo off")


def _about(rows: tuple[Row, ...], code: str, text: str, holds: Callable[[Row], bool]) -> Iterator[FigureLimit]:
    """Yield one limit for all rows for which *holds* is true, if there is one."""
    found = tuple(number for number, row in enumerate(rows) if row.runs and holds(row))
    if found:
        yield FigureLimit(code, text, found)


def _of_times(rows: tuple[Row, ...]) -> Iterator[FigureLimit]:
    """Yield the limits of too few, unsteady, different or disturbed times."""
    yield from _about(
        rows,
        "FEW_RUNS",
        f"fewer than {_FEW_RUNS} processes give no interval: use --processes 5 or more",
        lambda row: len(row.runs) < _FEW_RUNS,
    )
    yield from _about(
        rows,
        "NOT_STEADY",
        "the times were still changing at the first sample: give the row more time (--seconds)",
        lambda row: not all(run.steady for run in row.runs),
    )
    yield from _about(
        rows,
        "WIDE_INTERVAL",
        f"the medians of the processes lie more than {_WIDE:.0%} apart: stop other work on the machine, bind the "
        "process to a CPU (--cpu), or take more processes",
        lambda row: any(
            summarize([samples.ns for samples in row.samples(operation)]).spread > _WIDE for operation in row.operations
        ),
    )
    yield from _about(
        rows,
        "COARSE_CLOCK",
        f"half a step of the clock is more than {_COARSE:.0%} of a time, so different times look equal, and intervals "
        "contain half a step: map larger sizes",
        _is_coarse,
    )
    yield from _about(
        rows,
        "DISTURBED",
        f"in more than {_DISTURBED:.0%} of the samples the thread lost the CPU or took a page fault: stop other work "
        "on the machine",
        _is_disturbed,
    )


def _of_work(rows: tuple[Row, ...]) -> Iterator[FigureLimit]:
    """Yield the limits of samples that did other work than the row says, or work that differs."""
    yield from _about(
        rows,
        "NOTHING_PINNED",
        "the first operation pinned less than the size: without a domain a map pins nothing",
        _is_unpinned,
    )
    yield from _about(
        rows,
        "UNEQUAL_FLUSHES",
        "the processes counted different numbers of pages that the kernel flushed: it does not flush the same pages in "
        "each of them, or another program maps memory, too",
        _is_flushed_unequally,
    )
    yield from _about(
        rows,
        "STEP",
        f"the time for a page differs by more than {_FLAT:.0%} from that at the smallest size of at least 2M. Possible "
        "causes: batches of pages, physical runs, cache sizes, and the floor at small sizes",
        lambda row: _is_step(row, rows),
    )
    yield from _about(
        rows,
        "UNEQUAL_RUNS",
        "the buffers of the processes consist of very different numbers of physical runs, which is unequal work: "
        "reboot, or use huge pages",
        _is_unequal,
    )


def _noise(rows: tuple[Row, ...]) -> Iterator[FigureLimit]:
    """Name the disturbances that remained, and how many measurements were discarded, all or in part."""
    reasons = {
        number: [reason for run in row.runs if run.noise for reason in disturbances(run.noise)]
        for number, row in enumerate(rows)
    }
    disturbed = tuple(number for number, found in reasons.items() if found)
    again = sum(len(run.discarded) for row in rows for run in row.runs)
    if disturbed:
        example = reasons[disturbed[0]][0]
        left_out = f", although disturbed samples of {counted(again, 'measurement')} do not count" if again else ""
        yield FigureLimit("NOISE", f"the machine was busy{left_out} ({example}): stop other work on it", disturbed)


def _humps(jumping: Mapping[tuple[int, str], Humps]) -> Iterator[FigureLimit]:
    for (number, operation), example in jumping.items():
        yield FigureLimit(
            "TWO_HUMPS",
            f"{operation} takes either {format_ns(example.low_ns)} or {format_ns(example.high_ns)} "
            f"({example.upper:.0%} the longer): a median can jump between the two; compare the means, or find the "
            "cause",
            (number,),
        )


def _is_unpinned(row: Row) -> bool:
    # VmPin does not include the pinned pages of type1.
    counted = row.point.workload in _PINNING and row.point.backend not in LEGACY_MODES
    return counted and any(run.pinned_bytes < row.point.size_bytes for run in row.runs)


def _is_step(row: Row, rows: tuple[Row, ...]) -> bool:
    alike = [
        other
        for other in rows
        if replace(other.point, size_bytes=row.point.size_bytes) == row.point and other.point.size_bytes >= _LARGE_BYTES
    ]
    if row.point.size_bytes < _LARGE_BYTES:
        return False
    first = min(alike, key=lambda other: other.point.size_bytes)
    return any(
        abs(_page_ns(row, operation) - smallest) > _FLAT * smallest
        for operation in row.operations
        if operation in first.operations and (smallest := _page_ns(first, operation)) > 0
    )


def _page_ns(row: Row, operation: str) -> float:
    medians = summarize([samples.ns for samples in row.samples(operation)])
    return medians.median_ns * PAGE_BYTES / row.point.size_bytes


def _is_coarse(row: Row) -> bool:
    for operation in row.operations:
        for samples in row.samples(operation):
            ordered = sorted(samples.ns)
            middle = median(ordered)
            if blur_ns(ordered, middle) > _COARSE * middle or not middle:
                return True
    return False


def _is_disturbed(row: Row) -> bool:
    for operation in row.operations:
        disturbed = sum(len({*one.switched, *one.faulted}) for one in row.samples(operation))
        if disturbed > _DISTURBED * sum(len(one.ns) for one in row.samples(operation)):
            return True
    return False


def _is_flushed_unequally(row: Row) -> bool:
    counts = [row.flushes(operation) for operation in row.operations]
    return any(one is not None and one[0].pages != one[1].pages for one in counts)


def _is_unequal(row: Row) -> bool:
    counts = [run.measured_runs for run in row.runs if run.measured_runs is not None]
    return bool(counts) and max(counts) > UNEQUAL_RUNS * min(counts)
