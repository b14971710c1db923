# SPDX-License-Identifier: MIT
"""Where the kernel's time goes: a breakdown of each operation, and its JSON document."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from iommufd_py.results import schema

SCHEMA = "iommufd-bench-trace/1"


REST = "iommufd itself"
"""The part of an operation that lies in none of the functions below."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one part of an operation took in all rounds: time in itself, and how often it was entered."""

    name: str
    ns: int
    calls: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One operation of one point, taken apart. The parts add up to the whole.

    Attributes:
        name: of the operation and the row.
        rounds: over how many of them.
        whole_ns: in the ioctl's function, all rounds; the probes' own time is in it, more the more calls there are.
    """

    name: str
    rounds: int
    whole_ns: int
    parts: tuple[Part, ...]

    def share(self, part: str) -> float:
        """Return what part of the whole *part* is, 0 to 1."""
        return sum(one.ns for one in self.parts if one.name == part) / self.whole_ns if self.whole_ns else 0.0


def breakdowns_document(found: Sequence[Breakdown]) -> dict[str, Any]:
    """Return breakdowns as one JSON document."""
    return {"schema": SCHEMA, "breakdowns": [asdict(one) for one in found]}


def load_breakdowns(path: Path) -> list[Breakdown]:
    """Read what ``iommufd bench trace --json`` printed.

    Raises:
        ToolError: the file is something else.
    """
    return [
        Breakdown(one["name"], one["rounds"], one["whole_ns"], tuple(Part(**part) for part in one["parts"]))
        for one in schema.read(path, SCHEMA)["breakdowns"]
    ]
