# SPDX-License-Identifier: MIT
"""The results of scripts/mutants and scripts/mutate, as rows, text and JSON documents. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from iommufd_py.lab.mutation import Mutant

Guest = Literal["vm", "incoherent", "native"]
"""The machine: behind an emulated VT-d, the same with DMA that does not snoop, or User-Mode Linux."""

NOT_COMPILED = "not compiled"


@dataclass(frozen=True)
class MutantResult:
    """The result for the kernel with one patch, a row of scripts/mutants.

    Attributes:
        name: name of the patch.
        good: whether the answers are as they should be.
        said: the answer of validate, or the reason why there is none.
        data_said: the answer of the bytes, empty if they were not compared.
        build_seconds: wall time of the build.
        run_seconds: wall time of the guest.
    """

    name: str
    good: bool
    said: str
    data_said: str = ""
    build_seconds: float = 0
    run_seconds: float = 0

    def __str__(self) -> str:
        data = f"\n{'':60}data: {self.data_said}" if self.data_said else ""
        return f"{self.name:46}{self.build_seconds:5.0f}s{self.run_seconds:5.0f}s  {self.said}{data}"


@dataclass(frozen=True)
class MechanicalResult:
    """The result for one mechanical mutant, a row of scripts/mutate.

    Attributes:
        by: the outcome that found the mutant, empty for a survivor; :data:`NOT_COMPILED` for a mutant in no kernel.
        found: the scenario that found it and its reason, empty for a survivor.
    """

    by: str = ""
    found: str = ""


def mutant_identity(mutant: Mutant) -> str:
    """Return everything that tells this mutant from others of the same kernel, as text.

    Its number is no part of that: it changes when the series gets another line.
    """
    return json.dumps([mutant.file, mutant.line, mutant.operator, mutant.before, mutant.after, mutant.partner])


def row_text(mutant: Mutant, result: MechanicalResult) -> str:
    """Return the row of a mutant for people."""
    word = "not compiled" if result.by == NOT_COMPILED else "found" if result.found else "SURVIVED"
    return f"{mutant.number:5} {word} {mutant}{': ' + result.found if result.found else ''}"


def summary(rows: Sequence[tuple[Mutant, MechanicalResult]]) -> Iterator[str]:
    """Yield the lines below the rows: the numbers of found mutants by outcome, and of survivors by kind."""
    judged = _judged(rows)
    found = [result for _, result in judged if result.found]
    yield f"{len(found)} of {len(judged)} found; {len(rows) - len(judged)} did not compile"
    for by, count in Counter(result.by for result in found).most_common():
        yield f"found: {count} by {by}"
    for operator, count in Counter(one.operator for one, result in judged if not result.found).most_common():
        yield f"survived: {count} {operator}"


def survivors(rows: Sequence[tuple[Mutant, MechanicalResult]]) -> int:
    """Return the number of mutants that were judged and not found."""
    return sum(not result.found for _, result in _judged(rows))


def mechanical_document(
    rows: Sequence[tuple[Mutant, MechanicalResult]], *, series: str, guest: Guest, device: str, scenarios: str
) -> dict[str, Any]:
    """Return the results of scripts/mutate as a document of the schema ``iommufd-mutate/1``."""
    judged = _judged(rows)
    return {
        "schema": "iommufd-mutate/1",
        "series": series,
        "guest": guest,
        "device": device,
        "scenarios": scenarios,
        "not_compiled": len(rows) - len(judged),
        "mutants": [
            {"file": one.file, "line": one.line, "operator": one.operator, "before": one.before, "after": one.after}
            | {"by": result.by or None, "found": result.found or None}
            for one, result in judged
        ],
    }


def kernels_document(rows: Iterable[MutantResult], *, series: str, guest: Guest) -> dict[str, Any]:
    """Return the results of scripts/mutants as a document of the schema ``iommufd-mutants/1``."""
    return {
        "schema": "iommufd-mutants/1",
        "series": series,
        "guest": guest,
        "kernels": [
            {
                **asdict(row),
                "build_seconds": round(row.build_seconds, 1),
                "run_seconds": round(row.run_seconds, 1),
            }
            for row in rows
        ],
    }


def _judged(rows: Sequence[tuple[Mutant, MechanicalResult]]) -> list[tuple[Mutant, MechanicalResult]]:
    return [(one, result) for one, result in rows if result.by != NOT_COMPILED]
