# SPDX-License-Identifier: MIT
"""What keeps figures from meaning what they seem to: a code for machines, one sentence with advice for people. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from iommufd_py.base.environment import Environment, Platform
from iommufd_py.base.units import PAGE_BYTES
from iommufd_py.results.model import LEGACY_MODES, BenchResult, Row, Workload
from iommufd_py.results.stats import summarize

# Bounds beyond which a row is remarked on: of the processes' medians, of disturbed samples, of physical runs.
_WIDE = 0.10
_DISTURBED = 0.01
_UNEQUAL_RUNS = 1.5
# From this size on the time for a page should not change by more than this part.
_LARGE_BYTES = 2 << 20
_FLAT = 0.10
# Fewer processes cannot give an interval that means something.
_FEW_RUNS = 3
# What pins by its first operation; the others find everything pinned.
_PINNING = (Workload.MAP, Workload.MAP_FILE, Workload.TEARDOWN)

_COSTLY = {
    "KASAN": ("KASAN", "checks every memory access"),
    "PROVE_LOCKING": ("LOCKDEP", "follows every lock"),
    "DEBUG_PAGEALLOC": ("DEBUG_PAGEALLOC", "unmaps every free page"),
    "IOMMUFD_TEST": ("IOMMUFD_TEST_KERNEL", "adds checks to the measured paths"),
    "FAULT_INJECTION": ("FAULT_INJECTION", "asks at every allocation whether it should fail"),
    "DEBUG_LIST": ("DEBUG_LIST", "checks every list operation"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know.

    Attributes:
        code: the same in all versions.
        text: what it is and what to do.
        rows: positions of the rows it is about, empty for all.
    """

    code: str
    text: str
    rows: tuple[int, ...] = ()


def findings(result: BenchResult) -> list[Finding]:
    """Return what limits the figures of *result*, the gravest first."""
    return [*_of_environment(result.environment), *_of_rows(result.rows)]


def _of_environment(environment: Environment) -> Iterator[Finding]:
    if environment.emulated:
        yield Finding("TCG", "emulated CPU: compare within this table only; a cache flush costs nothing here")
    if environment.platform == Platform.UML:
        yield Finding("UML", "a kernel in user space: real CPU and caches, but a system call costs microseconds")
    if environment.platform == Platform.VIRTUAL:
        yield Finding("VIRTUAL", "virtual machine: the hypervisor's part of each operation is in the times")
    if environment.noncoherent_knob:
        yield Finding(
            "NONCOHERENT_KNOB",
            "iommufd.test_noncoherent_hwpt is set: coherency was not enforced although the IOMMU may be able to",
        )
    if environment.config is None:
        yield Finding("NO_CONFIG", "the kernel does not show its configuration (CONFIG_IKCONFIG_PROC)")
    else:
        for option, (code, what) in _COSTLY.items():
            if environment.config.get(option) == "y":
                yield Finding(code, f"CONFIG_{option} {what}: build without it for absolute figures")
    if environment.governor not in (None, "performance"):
        yield Finding(
            "GOVERNOR",
            f"the CPU's frequency follows the load (governor {environment.governor}): "
            "cpupower frequency-set -g performance",
        )
    if environment.turbo:
        yield Finding("TURBO", "the CPU may exceed its base frequency while it is cool: switch turbo off")


def _of_rows(rows: tuple[Row, ...]) -> Iterator[Finding]:
    def about(code: str, text: str, holds: Callable[[Row], bool]) -> Iterable[Finding]:
        found = tuple(number for number, row in enumerate(rows) if row.runs and holds(row))
        return [Finding(code, text, found)] if found else []

    yield from about(
        "FEW_RUNS",
        f"fewer than {_FEW_RUNS} processes: no interval can be given; use --processes 5 or more",
        lambda row: len(row.runs) < _FEW_RUNS,
    )
    yield from about(
        "NOT_STEADY",
        "the times had not settled when the first sample was taken: give the row longer (--seconds)",
        lambda row: not all(run.steady for run in row.runs),
    )
    yield from about(
        "WIDE_INTERVAL",
        f"the processes' medians lie more than {_WIDE:.0%} apart: quieten the machine, pin the CPU (--cpu) or take "
        "more processes",
        lambda row: any(
            summarize([samples.ns for samples in row.samples(operation)]).spread > _WIDE for operation in row.operations
        ),
    )
    yield from about(
        "DISTURBED",
        f"more than {_DISTURBED:.0%} of the samples saw a context switch or a page fault: quieten the machine",
        _is_disturbed,
    )
    yield from about(
        "NOTHING_PINNED",
        "the first operation pinned less than it should have: nothing of a map is measured without a domain",
        _is_unpinned,
    )
    yield from about(
        "STEP",
        f"the time for a page is not within {_FLAT:.0%} of that at the smallest size from 2M on: pages go in batches "
        "(some 26M of scattered 4K pages each), lie in more or fewer physical runs, and overflow caches, and at a "
        "small size the ioctl itself counts (the floor)",
        lambda row: _is_step(row, rows),
    )
    yield from about(
        "UNEQUAL_RUNS",
        "the processes' buffers lay in very different numbers of physical runs, which is unequal work: reboot, or use "
        "huge pages",
        _is_unequal,
    )


def _is_unpinned(row: Row) -> bool:
    # type1 counts what it pins elsewhere.
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
        abs(_page_ns(row, operation) / _page_ns(first, operation) - 1) > _FLAT
        for operation in row.operations
        if operation in first.operations
    )


def _page_ns(row: Row, operation: str) -> float:
    medians = summarize([samples.ns for samples in row.samples(operation)])
    return medians.median_ns * PAGE_BYTES / row.point.size_bytes


def _is_disturbed(row: Row) -> bool:
    for operation in row.operations:
        disturbed = sum(len({*one.switched, *one.faulted}) for one in row.samples(operation))
        if disturbed > _DISTURBED * sum(len(one.ns) for one in row.samples(operation)):
            return True
    return False


def _is_unequal(row: Row) -> bool:
    counts = [run.physical_runs for run in row.runs if run.physical_runs is not None]
    return bool(counts) and max(counts) > _UNEQUAL_RUNS * min(counts)
