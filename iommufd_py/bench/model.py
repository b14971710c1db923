# SPDX-License-Identifier: MIT
"""A benchmark's result, and the JSON it is kept as."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from iommufd_py.errors import ToolError
from iommufd_py.hwpt import CoherencyEvidence
from iommufd_py.mock import FlushCount
from iommufd_py.sysinfo import Environment

__all__ = ["SCHEMA", "BenchResult", "Row", "Target", "load", "save"]

SCHEMA = "iommufd-bench/1"


@dataclass(frozen=True, slots=True)
class Target:
    """What the mappings were made for.

    Attributes:
        device: PCI address, or ``mock``.
        iommu: name of the IOMMU's type.
        cap: VT-d capability register, None for another IOMMU.
        evidence: whether the domain enforces cache coherency, and how that is known.
        domains: HWPTs on the IOAS; each is filled by every map.
    """

    device: str
    iommu: str
    cap: int | None
    evidence: CoherencyEvidence
    domains: int


@dataclass(frozen=True, slots=True)
class Row:
    """One size: every sample of its map and its unmap, in the order taken.

    Attributes:
        size_bytes: of one IOAS_MAP.
        backing: what stood behind the buffer.
        iova: where it was mapped.
        pinned_bytes: how much VmPin grew by one map.
        physical_runs: physically contiguous runs in which the buffer's pages lie, None where the kernel does not tell.
        leaves: number of page-table leaves by size in bytes, None where the kernel does not show them.
        map_flush, unmap_flush: what the kernel flushed from the CPU caches during one map and one unmap, None where it
            does not count (a stock kernel flushes nothing).
        warmup_rounds: rounds before the first sample.
        map_ns, unmap_ns: samples.
    """

    size_bytes: int
    backing: str
    iova: int
    pinned_bytes: int
    physical_runs: int | None
    leaves: Mapping[int, int] | None
    map_flush: FlushCount | None
    unmap_flush: FlushCount | None
    warmup_rounds: int
    map_ns: tuple[int, ...]
    unmap_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One run. *floor_ns* are samples of an ioctl that does nothing, taken in the same run."""

    tool_version: str
    command: tuple[str, ...]
    started: str
    environment: Environment
    target: Target
    floor_ns: tuple[int, ...]
    rows: tuple[Row, ...] = field(default=())

    @property
    def label(self) -> str:
        """What tells this run from another in one table: kernel variant and coherency."""
        variant = Path(self.environment.kernel_variant).name
        return " ".join(filter(None, (variant, str(self.target.evidence.coherency))))


def to_document(result: BenchResult) -> dict[str, Any]:
    """Return the run as one JSON document, with the finding beside its evidence."""
    document = {"schema": SCHEMA, **asdict(result)}
    document["target"]["coherency"] = str(result.target.evidence.coherency)
    return document


def save(result: BenchResult, path: Path) -> None:
    """Write a run; a reader never sees half of one."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(to_document(result)) + "\n")
        partial.replace(path)
    except OSError as failure:
        raise ToolError(f"{path} cannot be written: {failure.strerror}; choose another file") from failure


def load(path: Path) -> BenchResult:
    """Read a run.

    Raises:
        ToolError: there is no such file, or it is not a run of this schema.
    """
    try:
        document = json.loads(path.read_text())
    except OSError as failure:
        raise ToolError(f"{path} cannot be read: {failure.strerror}") from None
    except ValueError:
        raise ToolError(f"{path} is no JSON: give a file that 'iommufd bench run --json' wrote") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ToolError(f"{path} has the schema {schema!r}, not {SCHEMA!r}: run the benchmark again with this version")
    try:
        return _from_document(document)
    except (KeyError, TypeError, ValueError) as failure:
        raise ToolError(f"{path} is damaged ({failure!r}): run the benchmark again") from None


def _from_document(document: Any) -> BenchResult:
    target, environment = document["target"], document["environment"]
    costly = environment["costly_config"]
    return BenchResult(
        tool_version=document["tool_version"],
        command=tuple(document["command"]),
        started=document["started"],
        environment=Environment(**{**environment, "costly_config": None if costly is None else tuple(costly)}),
        target=Target(
            device=target["device"],
            iommu=target["iommu"],
            cap=target["cap"],
            evidence=CoherencyEvidence(**target["evidence"]),
            domains=target["domains"],
        ),
        floor_ns=tuple(document["floor_ns"]),
        rows=tuple(_row(row) for row in document["rows"]),
    )


def _row(row: Any) -> Row:
    leaves = row["leaves"]
    return Row(
        **{
            **row,
            "leaves": None if leaves is None else {int(size): count for size, count in leaves.items()},
            "map_flush": row["map_flush"] and FlushCount(**row["map_flush"]),
            "unmap_flush": row["unmap_flush"] and FlushCount(**row["unmap_flush"]),
            "map_ns": tuple(row["map_ns"]),
            "unmap_ns": tuple(row["unmap_ns"]),
        }
    )
