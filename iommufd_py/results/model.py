# SPDX-License-Identifier: MIT
"""A benchmark's result: what one row times, and what came out."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from iommufd_py.base.coherency import CoherencyEvidence, FlushCount
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.environment import Environment

if TYPE_CHECKING:
    from array import array


class Workload(StrEnum):
    """What a round does; each of its operations is timed alone."""

    MAP = "map"
    """``map`` (IOAS_MAP or MAP_DMA), ``unmap``."""
    ATTACH = "attach"
    """``attach``: a domain more is made on an IOAS that is mapped (IOMMU_HWPT_ALLOC). ``detach``: it is destroyed."""
    TEARDOWN = "teardown"
    """``first-attach``: the only domain is made on an IOAS that is mapped. ``teardown``: it is destroyed.

    In a type1 container, ``first-map``, and ``teardown``: the only group leaves it with everything mapped.
    """
    COPY = "copy"
    """``copy`` (IOAS_COPY) of what is mapped to another place of the IOAS, ``unmap-copy``."""
    MAP_FILE = "map-file"
    """``map-file`` (IOAS_MAP_FILE), ``unmap-file``."""
    CLOSE = "close"
    """``close``: an iommufd's descriptors go, with everything in it; a VFIO device's reset is part of that."""
    DMA = "dma"
    """``map-dma-unmap``: the device writes all that is mapped in between."""


class Accounting(StrEnum):
    """What pinned pages are charged to."""

    NONE = "none"
    """Nothing: the process has CAP_IPC_LOCK."""
    USER = "user"
    MM = "mm"
    """The process (IOMMU_OPTION_RLIMIT_MODE 1)."""


LEGACY_MODES = (ContainerMode.VFIO_TYPE1, ContainerMode.VFIO_TYPE1V2)
"""Backends that are not iommufd, whose counters do not know of them."""


class CacheState(StrEnum):
    """What the CPU cache holds of the buffer before each operation, as far as it has room."""

    DIRTY = "dirty"
    CLEAN = "clean"
    EVICTED = "evicted"
    UNTOUCHED = "untouched"
    """Whatever the operation before left."""


class IovaUse(StrEnum):
    """Where the rounds map."""

    REUSED = "reused"
    """Always at the same IOVA, whose page tables are there from the round before."""
    FRESH = "fresh"
    """Each round in 2M, or a larger power of two, of its own."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one row times: a value on each axis. Rows of two runs are the same if their points are.

    Attributes:
        workload: what a round does.
        backend: through which interface.
        size_bytes: mapped by one sample, of each thread.
        chunk_bytes: mapped by one ioctl, of which a sample takes as many as the size needs; 0 for one that maps it all.
        bulk_unmap: one unmap for all chunks.
        backing: what stands behind the buffer.
        hwpts: domains on the IOAS that a map fills, or that were there before an attach.
        cache: of the buffer, before each operation.
        iova_use: where the rounds map.
        alignment: of the IOVA in bytes, exactly; 0 for as aligned as the size.
        huge_pages: whether the IOMMU may use large pages (IOMMU_OPTION_HUGE_PAGES).
        accounting: what pinned pages are charged to.
        threads: doing the same at the same time, each with a buffer of its own.
        own_ioas: each thread on an IOAS of its own, not all on one.
        cpu: where it runs; None leaves that to the scheduler.
        node: NUMA node of the buffer; None leaves that to the kernel.
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
    def ioctl_bytes(self) -> int:
        """Mapped by one ioctl."""
        return self.chunk_bytes or self.size_bytes

    @property
    def ioctls(self) -> int:
        """How many of them one sample of a map takes."""
        return self.size_bytes // self.ioctl_bytes


@dataclass(frozen=True, slots=True)
class Samples:
    """One operation in one process.

    Attributes:
        ns: times in the order taken, thread by thread.
        switched: positions of samples during which, or while they were prepared, the thread was switched away from.
        faulted: the same for page faults.
        flush: what the kernel flushed from the CPU caches in one such operation; None where it does not count.
    """

    ns: "array[int]"
    switched: tuple[int, ...] = ()
    faulted: tuple[int, ...] = ()
    flush: FlushCount | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What one process measured of a row, with memory of its own.

    Attributes:
        boot_id: of the kernel it ran on (/proc/sys/kernel/random/boot_id).
        warmup_rounds: rounds before the first sample.
        steady: whether the times had settled by then.
        pinned_bytes: how much VmPin grew by one round of one thread, at most.
        run_lengths: how many physically contiguous runs of each length in base pages the buffer lies in, None where
            the kernel does not tell.
        operations: samples by operation, in the order of a round.
    """

    boot_id: str
    warmup_rounds: int
    steady: bool
    pinned_bytes: int
    run_lengths: Mapping[int, int] | None
    operations: Mapping[str, Samples]

    @property
    def physical_runs(self) -> int | None:
        """In how many runs the buffer lies."""
        return None if self.run_lengths is None else sum(self.run_lengths.values())


@dataclass(frozen=True, slots=True)
class Row:
    """One point and what its processes measured.

    Attributes:
        iova: where it was mapped, first.
        leaves: number of page-table leaves by size in bytes, None where the kernel does not show them.
        user_flush_ns: the floor of a flush: CLFLUSHOPT over the same buffer in the same cache state from user space,
            with the two clock reads; empty where it cannot be.
    """

    point: Point
    iova: int
    leaves: Mapping[int, int] | None
    user_flush_ns: "array[int]"
    runs: tuple[Run, ...] = field(default=())

    @property
    def operations(self) -> tuple[str, ...]:
        """What was timed, in the order of a round."""
        return tuple(self.runs[0].operations) if self.runs else ()

    def samples(self, operation: str) -> Iterator[Samples]:
        """Yield the samples of one operation, process by process."""
        for run in self.runs:
            yield run.operations[operation]


@dataclass(frozen=True, slots=True)
class Target:
    """What the mappings were made for.

    Attributes:
        device: PCI address, or ``mock``.
        iommu: name of the IOMMU's type.
        cap: VT-d capability register, None for another IOMMU.
        evidence: whether the domain enforces cache coherency, and how that is known.
    """

    device: str
    iommu: str
    cap: int | None
    evidence: CoherencyEvidence


@dataclass(frozen=True, slots=True)
class Floor:
    """What no sample can be below, in the same run: two clock reads, and an ioctl that does nothing."""

    clock_ns: "array[int]"
    ioctl_ns: "array[int]"


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One run of the benchmark, or several of the same on several boots, merged."""

    tool_version: str
    command: tuple[str, ...]
    started: str
    environment: Environment
    target: Target
    floor: Floor
    rows: tuple[Row, ...] = field(default=())

    @property
    def label(self) -> str:
        """What tells this run from another in one table: kernel variant and coherency."""
        variant = Path(self.environment.kernel_variant).name
        return " ".join(filter(None, (variant, str(self.target.evidence.coherency))))

    def with_run(self, row: Row) -> "BenchResult":
        """Return the result with the runs of *row* added to those of the row of the same point."""
        for number, mine in enumerate(self.rows):
            if mine.point == row.point:
                joined = replace(mine, runs=(*mine.runs, *row.runs))
                return replace(self, rows=(*self.rows[:number], joined, *self.rows[number + 1 :]))
        return replace(self, rows=(*self.rows, row))


def merge(results: Iterable[BenchResult]) -> BenchResult:
    """Join results of the same benchmark on several boots of the same kernel: the first, with the runs of all."""
    first, *others = results
    for other in others:
        for row in other.rows:
            first = first.with_run(row)
    return first
