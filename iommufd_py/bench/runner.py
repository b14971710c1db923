# SPDX-License-Identifier: MIT
"""Running a benchmark on the real thing."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

from iommufd_py import vtd
from iommufd_py.bench.model import BenchResult, Row, Target
from iommufd_py.context import Iommufd
from iommufd_py.device import BoundDevice, VfioDevice
from iommufd_py.enums import HwInfoType
from iommufd_py.errors import ToolError
from iommufd_py.hwpt import Coherency, Hwpt
from iommufd_py.ioas import Ioas
from iommufd_py.memory import Backing, DmaBuffer
from iommufd_py.mock import FlushCount, MockDevice, flush_count
from iommufd_py.sysinfo import environment, pinned_bytes
from iommufd_py.uapi.bench import clock_ns, empty_ioctl, map_unmap
from iommufd_py.units import format_size

__all__ = ["DEFAULT_SIZES", "MOCK", "Plan", "run"]

MOCK = "mock"
DEFAULT_SIZES = (4 << 10, 64 << 10, 2 << 20, 64 << 20, 256 << 20)

_FLOOR_ROUNDS = 1000
# A row goes on until it has taken this long, within these bounds.
_ROW_NS = 1_500_000_000
_MIN_ROUNDS = 20
_MAX_ROUNDS = 2000
# One call into the extension lasts about so long, which is how soon Ctrl-C is heard.
_CALL_NS = 100_000_000
_WARMUP_ROUNDS = 3
# Away from address zero, where a stray null pointer of a device would land.
_LOWEST_IOVA = 4 << 30
# The kernel prints the leaves with the IOMMU's lock held, and anew for each doubling of its buffer.
_MAX_LEAF_DUMP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What to time.

    Attributes:
        device: PCI address of a device bound to vfio-pci, or ``mock``.
        sizes: bytes of one IOAS_MAP, a row each.
        coherency: what the domain must be.
        backing: what must stand behind the buffer.
        iova: where to map; None takes an aligned place that is allowed.
        rounds: samples a row; None takes as many as fit into a second or two.
    """

    device: str
    sizes: Sequence[int] = DEFAULT_SIZES
    coherency: Coherency = Coherency.ANY
    backing: Backing = Backing.ANON_4K
    iova: int | None = None
    rounds: int | None = None


def run(plan: Plan, on_row: Callable[[BenchResult], None] = lambda result: None) -> BenchResult:
    """Time map and unmap as planned; *on_row* gets the run so far after each row, so that no row can be lost.

    Raises:
        ToolError: the plan cannot be carried out here; nothing stays mapped or bound to the iommufd.
    """
    with Iommufd() as iommufd, _open(iommufd, plan.device) as device:
        ioas = iommufd.alloc_ioas()
        hwpt = device.alloc_hwpt(ioas, coherency=plan.coherency)
        device.attach(hwpt)
        result = BenchResult(
            tool_version=version("iommufd-py"),
            command=tuple(sys.argv),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            environment=environment(),
            target=_target(device, hwpt),
            floor_ns=tuple(empty_ioctl(iommufd.fileno(), ioas.id, _FLOOR_ROUNDS)),
        )
        for size in plan.sizes:
            result = replace(result, rows=(*result.rows, _row(device, ioas, size, plan)))
            on_row(result)
    return result


def _open(iommufd: Iommufd, name: str) -> BoundDevice:
    return MockDevice(iommufd) if name == MOCK else VfioDevice(iommufd, name)


def _target(device: BoundDevice, hwpt: Hwpt) -> Target:
    assert hwpt.evidence is not None
    info = device.hw_info()
    registers = info.vtd_registers
    return Target(
        device=device.name,
        iommu=info.type.name if isinstance(info.type, HwInfoType) else f"type {info.type}",
        cap=registers[0] if registers else None,
        evidence=hwpt.evidence,
        domains=1,
    )


def _row(device: BoundDevice, ioas: Ioas, size: int, plan: Plan) -> Row:
    iova = _choose_iova(device, ioas, size) if plan.iova is None else plan.iova
    with DmaBuffer(size, plan.backing) as buffer:
        runs = buffer.physical_runs()
        pinned_before = pinned_bytes()
        flushes = [flush_count(ioas.iommufd)]
        with ioas.map(buffer, iova):
            flushes.append(flush_count(ioas.iommufd))
            pinned = pinned_bytes() - pinned_before
            shows_leaves = isinstance(device, VfioDevice) and size <= _MAX_LEAF_DUMP_BYTES
            leaves = vtd.leaf_sizes(device.name, iova, size) if shows_leaves else None
        flushes.append(flush_count(ioas.iommufd))
        map_ns, unmap_ns = _samples(ioas, buffer, iova, plan.rounds)
    return Row(
        size_bytes=size,
        backing=str(plan.backing),
        iova=iova,
        pinned_bytes=pinned,
        physical_runs=runs,
        leaves=leaves,
        map_flush=_difference(flushes[0], flushes[1]),
        unmap_flush=_difference(flushes[1], flushes[2]),
        warmup_rounds=_WARMUP_ROUNDS,
        map_ns=tuple(map_ns),
        unmap_ns=tuple(unmap_ns),
    )


def _difference(before: FlushCount | None, after: FlushCount | None) -> FlushCount | None:
    return None if before is None or after is None else after - before


def _choose_iova(device: BoundDevice, ioas: Ioas, size: int) -> int:
    """Return an allowed IOVA, aligned like the largest leaf that could map *size*, so that it never forbids one."""
    ranges = ioas.iova_ranges()
    alignment = max(1 << (size.bit_length() - 1), ranges.alignment)
    for lowest in (_LOWEST_IOVA, 0):
        iova = ranges.first_fit(size, alignment, lowest=lowest)
        if iova is not None:
            return iova
    allowed = ", ".join(map(str, ranges.ranges))
    raise ToolError(f"no allowed IOVA range holds {format_size(size)}: {device.name} allows {allowed}; map less")


def _samples(ioas: Ioas, buffer: DmaBuffer, iova: int, rounds: int | None) -> tuple[list[int], list[int]]:
    """Take *rounds* samples, or as many as the row's time allows, after a warm-up that builds the page tables."""

    def take(count: int) -> tuple[Sequence[int], Sequence[int]]:
        return map_unmap(ioas.iommufd.fileno(), ioas.id, buffer.user_va, buffer.length, iova, count)

    start = clock_ns()
    take(_WARMUP_ROUNDS)
    round_ns = max((clock_ns() - start) // _WARMUP_ROUNDS, 1)
    if rounds is None:
        rounds = min(max(_ROW_NS // round_ns, _MIN_ROUNDS), _MAX_ROUNDS)
    map_ns: list[int] = []
    unmap_ns: list[int] = []
    while len(map_ns) < rounds:
        mapped, unmapped = take(min(max(_CALL_NS // round_ns, 1), rounds - len(map_ns)))
        map_ns += mapped
        unmap_ns += unmapped
    return map_ns, unmap_ns
