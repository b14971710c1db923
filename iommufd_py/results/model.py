# SPDX-License-Identifier: MIT
"""The data of a benchmark result: points, samples, runs, rows, and the machine they come from."""

import shlex
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from iommufd_py.base.coherency import CoherencyEvidence, FlushCount
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.environment import Environment
from iommufd_py.results.stats import median


class Workload(StrEnum):
    """One kind of round. Each operation of a round is timed separately."""

    MAP = "map"
    """``map`` (IOMMU_IOAS_MAP or VFIO_IOMMU_MAP_DMA), ``unmap``."""
    ATTACH = "attach"
    """``attach``: IOMMU_HWPT_ALLOC adds a domain to an IOAS that has mappings. ``detach``: the domain is destroyed."""
    TEARDOWN = "teardown"
    """``first-attach``: the only domain of an IOAS that has mappings is created. ``teardown``: it is destroyed.

    In a type1 container: ``first-map`` maps, and ``teardown`` removes the only group while everything is mapped.
    """
    COPY = "copy"
    """``copy`` (IOMMU_IOAS_COPY) of a mapping to another IOVA of the same IOAS, ``unmap-copy``."""
    MAP_FILE = "map-file"
    """``map-file`` (IOMMU_IOAS_MAP_FILE), ``unmap-file``."""
    CLOSE = "close"
    """``close``: the descriptors of an iommufd with mappings are closed. For a VFIO device this includes its reset."""
    DMA = "dma"
    """``map-dma-unmap``: map, DMA writes by the device to all of the buffer, unmap, timed as one."""


class Accounting(StrEnum):
    """The account that pinned pages are charged to."""

    NONE = "none"
    """No account: the process has CAP_IPC_LOCK."""
    USER = "user"
    MM = "mm"
    """The process (IOMMU_OPTION_RLIMIT_MODE 1)."""


LEGACY_MODES = (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
"""Backends outside iommufd. The counters of iommufd do not cover them."""

_OPERATIONS = {
    Workload.MAP: ("map", "unmap"),
    Workload.ATTACH: ("attach", "detach"),
    Workload.TEARDOWN: ("first-attach", "teardown"),
    Workload.COPY: ("copy", "unmap-copy"),
    Workload.MAP_FILE: ("map-file", "unmap-file"),
    Workload.CLOSE: ("close",),
    Workload.DMA: ("map-dma-unmap",),
}


class CacheState(StrEnum):
    """State of the buffer's CPU cache lines before each operation. Lines that exceed the caches do not have it."""

    DIRTY = "dirty"
    CLEAN = "clean"
    EVICTED = "evicted"
    UNTOUCHED = "untouched"
    """The state that the previous operation left."""


class IovaUse(StrEnum):
    """Choice of the IOVA of each round."""

    REUSED = "reused"
    """The same IOVA in every round. Its page tables exist since the first round."""
    FRESH = "fresh"
    """A separate range of 2M, or of a larger power of two, for every round."""


@dataclass(frozen=True, slots=True)
class Point:
    """The conditions of one row: a value on each axis. Rows of two results correspond if their points are equal.

    Attributes:
        workload: kind of round.
        backend: interface to the kernel.
        size_bytes: bytes mapped by one sample, for each thread.
        chunk_bytes: bytes mapped by one ioctl; a sample takes as many ioctls as the size needs. 0: one ioctl maps all.
        bulk_unmap: one unmap for all chunks.
        backing: kind of memory behind the buffer.
        hwpts: domains on the IOAS during a map, or before an attach.
        cache: state of the buffer's cache lines before each operation.
        iova_use: choice of the IOVA of each round.
        alignment: exact alignment of the IOVA in bytes; 0: aligned like the size.
        huge_pages: whether the IOMMU may use large pages (IOMMU_OPTION_HUGE_PAGES).
        accounting: account of the pinned pages.
        threads: threads that do the same at the same time, each with its own buffer.
        own_ioas: each thread has its own IOAS.
        cpu: CPU that the process is bound to; None: no binding.
        node: NUMA node of the buffer; None: no binding.
    """

    workload: Workload
    size_bytes: int
    backing: str = "4k"
    backend: ContainerMode = ContainerMode.IOMMUFD
    chunk_bytes: int = 0
    bulk_unmap: bool = False
    hwpts: int = 1
    cache: CacheState = CacheState.DIRTY
    iova_use: IovaUse = IovaUse.REUSED
    alignment: int = 0
    huge_pages: bool = True
    accounting: Accounting = Accounting.NONE
    threads: int = 1
    own_ioas: bool = False
    cpu: int | None = None
    node: int | None = None

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the timed operations, in the order of a round."""
        if self.workload is Workload.TEARDOWN and self.backend in LEGACY_MODES:
            return ("first-map", "teardown")
        return _OPERATIONS[self.workload]

    @property
    def ioctl_bytes(self) -> int:
        """Bytes mapped by one ioctl."""
        return self.chunk_bytes or self.size_bytes

    @property
    def ioctls(self) -> int:
        """Number of ioctls in one sample of a map."""
        return self.size_bytes // self.ioctl_bytes

    def calls(self, operation: str) -> int:
        """Return the number of ioctls in one sample of *operation*; 0 if it is not a series of equal ioctls."""
        if self.workload in (Workload.CLOSE, Workload.DMA):
            return 0
        if operation in ("attach", "detach", "first-attach", "teardown"):
            return 1
        return 1 if self.bulk_unmap and operation.startswith("unmap") else self.ioctls


@dataclass(frozen=True, slots=True)
class Samples:
    """One operation in one process.

    Attributes:
        ns: times in the order taken, thread by thread.
        switched: positions of samples in which the thread lost the CPU.
        faulted: positions of samples in which the thread took a page fault.
        flush: CPU cache flushes by the kernel in one operation; None if the kernel does not count them.
    """

    ns: "array[int]"
    switched: tuple[int, ...] = ()
    faulted: tuple[int, ...] = ()
    flush: FlushCount | None = None


@dataclass(frozen=True, slots=True)
class Noise:
    """Activity of the machine while one process took the samples of one row.

    Attributes:
        steal: share of CPU time that a hypervisor gave to other guests, 0 to 1; None if unknown.
        switches: involuntary context switches of the measuring thread for each second.
        waiting: mean number of other runnable tasks, read between blocks of samples.
        clock_jump: largest change of the realtime clock against CLOCK_MONOTONIC_RAW in one block, as a share of it.
        slowdown: time of a fixed piece of work at the slowest block, divided by its time at the fastest block.
    """

    steal: float | None
    switches: float
    waiting: float
    clock_jump: float
    slowdown: float


@dataclass(frozen=True, slots=True)
class Floor:
    """Lower bounds of every sample.

    Attributes:
        clock_ns: times between two clock reads.
        ioctl_ns: times of an ioctl that only reads an option, with the two clock reads.
        clock: the clock of all samples. Where each read of CLOCK_MONOTONIC_RAW is a system call, it is the CPU's time
            stamp counter.
    """

    clock_ns: "array[int]"
    ioctl_ns: "array[int]"
    clock: str = "CLOCK_MONOTONIC_RAW"

    @property
    def medians(self) -> tuple[float, float]:
        """Medians of two clock reads and of an ioctl that does nothing, in ns."""
        return median(self.clock_ns), median(self.ioctl_ns)


@dataclass(frozen=True, slots=True)
class Run:
    """The samples of one row by one process, which has its own memory.

    Attributes:
        boot_id: id of the boot (/proc/sys/kernel/random/boot_id).
        warmup_rounds: rounds before the first sample.
        steady: whether the times were stable after the warm-up.
        pinned_bytes: largest growth of VmPin in one round of one thread.
        run_lengths: number of physically contiguous runs of the buffer's first pages by their length in base pages;
            None if unknown.
        operations: samples by operation, in the order of a round.
        user_flush_ns: times of CLFLUSHOPT over the same buffer in the same cache state from user space, with the two
            clock reads; empty if user space cannot flush.
        clock_ns: median time between two clock reads in this process; None in results of older versions.
        ioctl_ns: median time of an ioctl that only reads an option, with the two clock reads; None in results of older
            versions.
        noise: activity of the machine during the samples; None in results of older versions.
        discarded: the disturbances of each discarded attempt, and those of blocks of samples that were left out.
        page_table_bytes: growth of the page-table memory of the whole system by the first operation of a round; None
            if the kernel does not count it, and in results of older versions.
        round_id: name of the round of boots. Runs of other kernels with the same name were measured in turns with this
            one; empty for a run without turns.
        leaves: number of page-table leaves by size in bytes; None if the kernel does not show them, and for each
            process of a boot but the first.
        page_sets: number of sets of pages that the buffer had during the samples; None in results of older versions.
    """

    boot_id: str
    warmup_rounds: int
    steady: bool
    pinned_bytes: int
    run_lengths: Mapping[int, int] | None
    operations: Mapping[str, Samples]
    user_flush_ns: "array[int]" = field(default_factory=lambda: array("Q"))
    clock_ns: float | None = None
    ioctl_ns: float | None = None
    noise: Noise | None = None
    discarded: tuple[str, ...] = ()
    page_table_bytes: int | None = None
    round_id: str = ""
    leaves: Mapping[int, int] | None = None
    page_sets: int | None = None

    @property
    def physical_runs(self) -> int | None:
        """Number of physically contiguous runs of the buffer's first pages."""
        return None if self.run_lengths is None else sum(self.run_lengths.values())

    @property
    def measured_runs(self) -> int | None:
        """Number of physical runs behind the samples; None if unknown, or if the samples are of several sets of
        pages."""
        return self.physical_runs if self.page_sets in (None, 1) else None

    def floors(self, floor: Floor) -> tuple[float, float]:
        """Return the medians of two clock reads and of an ioctl that does nothing, in ns; those of *floor* if this run
        has none."""
        if self.clock_ns is None or self.ioctl_ns is None:
            return floor.medians
        return self.clock_ns, self.ioctl_ns


def floor_of(calls: int, clock_ns: float, ioctl_ns: float) -> float:
    """Return the time of *calls* ioctls that do nothing, with the two clock reads of one sample."""
    return clock_ns + calls * max(ioctl_ns - clock_ns, 0.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One point and the runs of all processes.

    Attributes:
        iova: first IOVA of the mapping.
    """

    point: Point
    iova: int
    runs: tuple[Run, ...] = field(default=())

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the timed operations, in the order of a round."""
        return tuple(self.runs[0].operations) if self.runs else ()

    @property
    def leaves(self) -> tuple[Mapping[int, int], ...]:
        """The different leaves of the processes, each once; empty if the kernel does not show them."""
        found = [run.leaves for run in self.runs if run.leaves is not None]
        return tuple(one for number, one in enumerate(found) if one not in found[:number])

    @property
    def user_flush_ns(self) -> "array[int]":
        """Times of CLFLUSHOPT from user space in all processes."""
        return array("Q", [ns for run in self.runs for ns in run.user_flush_ns])

    def floor_ns(self, operation: str, floor: Floor) -> float:
        """Return the time of as many ioctls that do nothing as one sample of *operation* takes: the median of the runs.

        Args:
            floor: the floor of a run that has none of its own.
        """
        return median([floor_of(self.point.calls(operation), *run.floors(floor)) for run in self.runs])

    def samples(self, operation: str) -> Iterator[Samples]:
        """Yield the samples of one operation, process by process."""
        for run in self.runs:
            yield run.operations[operation]

    def flushes(self, operation: str) -> tuple[FlushCount, FlushCount] | None:
        """Return the lowest and the highest counts of a process; None if the kernel does not count flushes."""
        counts = [one.flush for one in self.samples(operation) if one.flush is not None]
        if not counts:
            return None
        calls, pages = sorted(one.calls for one in counts), sorted(one.pages for one in counts)
        return FlushCount(calls[0], pages[0]), FlushCount(calls[-1], pages[-1])


@dataclass(frozen=True, slots=True)
class Target:
    """The device and domain of the mappings.

    Attributes:
        device: PCI address, or ``mock``.
        iommu: name of the IOMMU's type.
        cap: VT-d capability register, None for another IOMMU.
        evidence: the coherency of the domain, with its evidence.
    """

    device: str
    iommu: str
    cap: int | None
    evidence: CoherencyEvidence


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of a result that joins several.

    Attributes:
        disturbances: activity of the host during the boot; empty if the host was quiet or not observed.
    """

    boot_id: str
    started: str
    environment: Environment
    disturbances: str = ""


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One run of the benchmark, or the merged runs on several boots of one kernel.

    Attributes:
        environment: environment of the first boot.
        name: name that the user gave; empty for none.
        boots: each boot of a merged result; empty for a single run.
        discarded: the disturbances of each discarded boot.
    """

    tool_version: str
    command: tuple[str, ...]
    started: str
    environment: Environment
    target: Target
    floor: Floor
    rows: tuple[Row, ...] = field(default=())
    name: str = ""
    boots: tuple[Boot, ...] = ()
    discarded: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name of this run in tables: the user's name, or else kernel variant and coherency."""
        variant = Path(self.environment.kernel_variant).name
        return self.name or " ".join(filter(None, (variant, str(self.target.evidence.coherency))))

    @property
    def repeat_command(self) -> str:
        """The command that repeats the run. The first word of :attr:`command` can be a path of the measured machine."""
        return shlex.join(("iommufd", *self.command[1:]))

    @property
    def floors(self) -> tuple[float, float]:
        """Medians of two clock reads and of an ioctl that does nothing, in ns.

        The runs measure both beside their samples, so the medians are those of the runs. A result without runs has only
        the samples of its start.
        """
        every = [run.floors(self.floor) for row in self.rows for run in row.runs] or [self.floor.medians]
        clock_ns, ioctl_ns = zip(*every, strict=True)
        return median(clock_ns), median(ioctl_ns)

    @property
    def boot_count(self) -> int:
        """Number of boots that contributed samples."""
        return len({run.boot_id for row in self.rows for run in row.runs})

    @property
    def process_count(self) -> int:
        """Largest number of processes that contributed samples to a row."""
        return max((len(row.runs) for row in self.rows), default=0)

    @property
    def every_boot(self) -> tuple[Boot, ...]:
        """The boots; a single run has one boot."""
        if self.boots:
            return self.boots
        boot_id = next((run.boot_id for row in self.rows for run in row.runs), "")
        return (Boot(boot_id, self.started, self.environment),)

    def with_run(self, row: Row) -> "BenchResult":
        """Return the result with the runs of *row* added to the row of the same point."""
        for number, mine in enumerate(self.rows):
            if mine.point == row.point:
                joined = replace(mine, runs=(*mine.runs, *row.runs))
                return replace(self, rows=(*self.rows[:number], joined, *self.rows[number + 1 :]))
        return replace(self, rows=(*self.rows, row))


def merge(results: Iterable[BenchResult]) -> BenchResult:
    """Join results of the same benchmark on several boots of the same kernel.

    The rows get the runs of all results, and the floor gets the samples of all. Command and target come from the first.
    """
    first, *others = results
    joined = first
    for other in others:
        for row in other.rows:
            joined = joined.with_run(row)
    every = (first, *others)
    return replace(
        joined,
        floor=Floor(
            array("Q", [ns for one in every for ns in one.floor.clock_ns]),
            array("Q", [ns for one in every for ns in one.floor.ioctl_ns]),
            " and ".join(dict.fromkeys(one.floor.clock for one in every)),
        ),
        boots=tuple(boot for one in every for boot in one.every_boot),
        discarded=tuple(reason for one in every for reason in one.discarded),
    )
