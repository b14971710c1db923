# SPDX-License-Identifier: MIT
"""Convert a result to and from a JSON document of the schema ``iommufd-bench/1``, which bench-1.json describes."""

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from iommufd_py.base.coherency import CoherencyEvidence, FlushCount
from iommufd_py.base.container_mode import ContainerMode
from iommufd_py.base.environment import Environment
from iommufd_py.base.errors import ToolError
from iommufd_py.base.files import write_file
from iommufd_py.base.shown import printable
from iommufd_py.results import schema
from iommufd_py.results.model import (
    Accounting,
    BenchResult,
    Boot,
    CacheState,
    Floor,
    IovaUse,
    Noise,
    Point,
    Row,
    Run,
    Samples,
    Target,
    Workload,
)
from iommufd_py.results.validity import figure_limits

SCHEMA = "iommufd-bench/1"

# Every machine has these facts, and their sentences have a place for them. In the others an empty text means none.
_ON_EVERY_MACHINE = ("kernel_release", "platform", "cpu")


def to_document(result: BenchResult) -> dict[str, Any]:
    """Return the run as one JSON document, with the limits of its figures and the rows that have them."""
    target = asdict(result.target)
    target["coherency"] = str(result.target.evidence.coherency)
    return {
        "schema": SCHEMA,
        "tool_version": result.tool_version,
        "command": list(result.command),
        "started": result.started,
        "name": result.name,
        "environment": asdict(result.environment),
        "boots": [asdict(boot) for boot in result.boots],
        "discarded": list(result.discarded),
        "target": target,
        "floor": {
            "clock_ns": result.floor.clock_ns.tolist(),
            "ioctl_ns": result.floor.ioctl_ns.tolist(),
            "clock": result.floor.clock,
        },
        "rows": [_row_document(row) for row in result.rows],
        "validity": [{**asdict(limit), "rows": list(limit.rows)} for limit in figure_limits(result)],
    }


def _row_document(row: Row) -> dict[str, Any]:
    return {
        "point": asdict(row.point),
        "iova": row.iova,
        "runs": [_run_document(run) for run in row.runs],
    }


def _counts_document(counts: Mapping[int, int] | None) -> dict[str, int] | None:
    return None if counts is None else {str(value): count for value, count in sorted(counts.items())}


def _run_document(run: Run) -> dict[str, Any]:
    document = {one.name: getattr(run, one.name) for one in fields(run)}
    document["run_lengths"] = _counts_document(run.run_lengths)
    document["leaves"] = _counts_document(run.leaves)
    document["user_flush_ns"] = run.user_flush_ns.tolist()
    document["noise"] = run.noise and asdict(run.noise)
    document["discarded"] = list(run.discarded)
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
    """Write a result; ``-`` is standard output.

    Raises:
        ToolError: the file cannot be written. Its old content is unchanged.
    """
    write_file(path, (json.dumps(to_document(result)) + "\n").encode())


def load_result(path: Path) -> BenchResult:
    """Read a result.

    Raises:
        ToolError: there is no such file, or it is not a result of this schema.
    """
    return _checked(schema.read_document(path, SCHEMA), path)


def _checked(document: Any, path: Path) -> BenchResult:
    for place, text in _damage(document):
        raise ToolError(f"{path} is damaged at {place}: {text}; run the benchmark again")
    return _result(document)


def _damage(document: Any) -> Iterator[tuple[str, str]]:
    """Yield the place and the description of each contradiction that a schema cannot express."""
    evidence = CoherencyEvidence(**document["target"]["evidence"])
    if document["target"]["coherency"] != evidence.coherency:
        yield "target/coherency", f"by the evidence ({evidence}) it is {evidence.coherency}"
    rows = document["rows"]
    for at, row in enumerate(rows):
        if row["point"] in (other["point"] for other in rows[:at]):
            yield f"rows/{at}/point", "an earlier row has the same point"
        point = _point(row["point"])
        for number, run in enumerate(row["runs"]):
            place = f"rows/{at}/runs/{number}/operations"
            if set(run["operations"]) != set(point.operations):
                timed, expected = " and ".join(run["operations"]), " and ".join(point.operations)
                yield place, f"{timed} cannot be: {point.workload} through {point.backend} times {expected}"
            for name, samples in run["operations"].items():
                for kind in ("switched", "faulted"):
                    positions = samples.get(kind, ())
                    if max(positions, default=0) >= len(samples["ns"]):
                        yield f"{place}/{name}/{kind}", "there is no sample at this position"
                    if len(set(positions)) < len(positions):
                        yield f"{place}/{name}/{kind}", "a position is there twice"


def load_all(paths: Sequence[Path]) -> list[BenchResult]:
    """Read results to show side by side. Results with equal labels also get the names of their files.

    Raises:
        ToolError: as for :func:`load_result`.
    """
    results = [load_result(path) for path in paths]
    labels = Counter(result.label for result in results)
    names = Counter(path.name for path in paths)
    paths_given = Counter(paths)
    named = []
    for number, (path, result) in enumerate(zip(paths, results, strict=True), 1):
        if labels[result.label] > 1:
            file = path.name if names[path.name] == 1 else str(path) if paths_given[path] == 1 else f"{path}, {number}"
            # A name of a file can hold any byte; tables, mails and pictures hold text.
            result = replace(result, name=f"{result.label} ({printable(file)})")
        named.append(result)
    return named


def _result(document: Any) -> BenchResult:
    target = document["target"]
    return BenchResult(
        tool_version=_known(document["tool_version"]),
        command=tuple(document["command"]),
        started=document["started"],
        name=document.get("name", ""),
        environment=_environment(document["environment"]),
        boots=tuple(
            Boot(**{**boot, "environment": _environment(boot["environment"])}) for boot in document.get("boots", ())
        ),
        discarded=tuple(document.get("discarded", ())),
        target=Target(
            device=_known(target["device"]),
            iommu=_known(target["iommu"]),
            cap=target["cap"],
            evidence=CoherencyEvidence(**target["evidence"]),
        ),
        floor=_floor(document["floor"]),
        rows=tuple(map(_row, document["rows"])),
    )


def _environment(facts: Any) -> Environment:
    texts = {name: fact.strip() for name, fact in facts.items() if isinstance(fact, str)}
    needed = {name: _known(facts[name]) for name in _ON_EVERY_MACHINE}
    optional = {name: texts.get(name) or None for name in ("microcode", "governor")}
    return Environment(**{**facts, **texts, **needed, **optional})


def _known(fact: str) -> str:
    return fact.strip() or "unknown"


def _floor(floor: Any) -> Floor:
    samples = {name: array("Q", floor[name]) for name in ("clock_ns", "ioctl_ns")}
    return Floor(**samples, clock=_known(floor.get("clock", "CLOCK_MONOTONIC_RAW")))


def _row(row: Any) -> Row:
    # Older versions measured these in the first process only, and wrote them into the row.
    of_first = {name: row[name] for name in ("user_flush_ns", "leaves") if name in row}
    return Row(
        point=_point(row["point"]),
        iova=row["iova"],
        runs=tuple(_run(run if number else {**of_first, **run}) for number, run in enumerate(row["runs"])),
    )


def _run(run: Any) -> Run:
    read = {
        "run_lengths": _counts(run["run_lengths"]),
        "operations": _operations(run["operations"]),
        "user_flush_ns": array("Q", run.get("user_flush_ns", [])),
        "leaves": _counts(run.get("leaves")),
        "noise": Noise(**run["noise"]) if run.get("noise") else None,
        "discarded": tuple(run.get("discarded", ())),
    }
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
