# SPDX-License-Identifier: MIT
"""A result as JSON: the document ``iommufd-bench/1``, described by bench-1.json beside this file."""

import json
from array import array
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from iommufd_py.base.coherency import CoherencyEvidence, FlushCount
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.environment import Environment
from iommufd_py.base.errors import ToolError
from iommufd_py.results.model import (
    Accounting,
    BenchResult,
    CacheState,
    Floor,
    IovaUse,
    Point,
    Row,
    Run,
    Samples,
    Target,
    Workload,
)
from iommufd_py.results.validity import findings

SCHEMA = "iommufd-bench/1"


def schema() -> Any:
    """Return the JSON Schema (2020-12) that every document satisfies."""
    return json.loads(Path(__file__).with_name("bench-1.json").read_text())


def to_document(result: BenchResult) -> dict[str, Any]:
    """Return the run as one JSON document, with the findings beside their evidence."""
    target = asdict(result.target)
    target["coherency"] = str(result.target.evidence.coherency)
    return {
        "schema": SCHEMA,
        "tool_version": result.tool_version,
        "command": list(result.command),
        "started": result.started,
        "environment": asdict(result.environment),
        "target": target,
        "floor": {"clock_ns": result.floor.clock_ns.tolist(), "ioctl_ns": result.floor.ioctl_ns.tolist()},
        "rows": [_row_document(row) for row in result.rows],
        "validity": [{**asdict(finding), "rows": list(finding.rows)} for finding in findings(result)],
    }


def _row_document(row: Row) -> dict[str, Any]:
    return {
        "point": asdict(row.point),
        "iova": row.iova,
        "leaves": _counts_document(row.leaves),
        "user_flush_ns": row.user_flush_ns.tolist(),
        "runs": [_run_document(run) for run in row.runs],
    }


def _counts_document(counts: Mapping[int, int] | None) -> dict[str, int] | None:
    return None if counts is None else {str(value): count for value, count in sorted(counts.items())}


def _run_document(run: Run) -> dict[str, Any]:
    document = {one.name: getattr(run, one.name) for one in fields(run)}
    document["run_lengths"] = _counts_document(run.run_lengths)
    document["operations"] = {
        name: {
            "ns": samples.ns.tolist(),
            "switched": list(samples.switched),
            "faulted": list(samples.faulted),
            "flush": samples.flush and asdict(samples.flush),
        }
        for name, samples in run.operations.items()
    }
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
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise ToolError(f"{path} has the schema {found!r}, not {SCHEMA!r}: run the benchmark again with this version")
    try:
        return _result(document)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as failure:
        raise ToolError(f"{path} is damaged ({failure!r}): run the benchmark again") from None


def _result(document: Any) -> BenchResult:
    target = document["target"]
    return BenchResult(
        tool_version=document["tool_version"],
        command=tuple(document["command"]),
        started=document["started"],
        environment=Environment(**document["environment"]),
        target=Target(
            device=target["device"],
            iommu=target["iommu"],
            cap=target["cap"],
            evidence=CoherencyEvidence(**target["evidence"]),
        ),
        floor=Floor(**{name: array("Q", samples) for name, samples in document["floor"].items()}),
        rows=tuple(map(_row, document["rows"])),
    )


def _row(row: Any) -> Row:
    return Row(
        point=_point(row["point"]),
        iova=row["iova"],
        leaves=_counts(row["leaves"]),
        user_flush_ns=array("Q", row["user_flush_ns"]),
        runs=tuple(map(_run, row["runs"])),
    )


def _run(run: Any) -> Run:
    read = {"run_lengths": _counts(run["run_lengths"]), "operations": _operations(run["operations"])}
    return Run(**{**run, **read})


def _counts(counts: Any) -> Mapping[int, int] | None:
    return None if counts is None else {int(value): count for value, count in counts.items()}


def _point(point: Any) -> Point:
    kinds = {
        "workload": Workload,
        "backend": ContainerMode,
        "cache": CacheState,
        "iova_use": IovaUse,
        "accounting": Accounting,
    }
    return Point(**{**point, **{name: kind(point[name]) for name, kind in kinds.items()}})


def _operations(operations: Any) -> Mapping[str, Samples]:
    return {
        name: Samples(
            ns=array("Q", one["ns"]),
            switched=tuple(one["switched"]),
            faulted=tuple(one["faulted"]),
            flush=one["flush"] and FlushCount(**one["flush"]),
        )
        for name, one in operations.items()
    }
