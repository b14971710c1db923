# SPDX-License-Identifier: MIT
"""Shares of the kernel's time in each operation, and their JSON document."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from iommufd_py.results import schema

SCHEMA = "iommufd-bench-trace/1"


REST = "iommufd itself"
"""The time outside all other parts."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an operation over all rounds: time spent in it, and number of calls."""

    name: str
    ns: int
    calls: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One operation of one point, divided into parts that add up to the whole.

    Attributes:
        name: name of the operation and the row.
        rounds: number of rounds.
        whole_ns: time in the function of the ioctl over all rounds. It includes the time of the probes.
    """

    name: str
    rounds: int
    whole_ns: int
    parts: tuple[Part, ...]

    def share(self, part: str) -> float:
        """Return the share of *part* in the whole, 0 to 1."""
        return sum(one.ns for one in self.parts if one.name == part) / self.whole_ns if self.whole_ns else 0.0


def breakdowns_document(found: Sequence[Breakdown]) -> dict[str, Any]:
    """Return breakdowns as one JSON document."""
    return {"schema": SCHEMA, "breakdowns": [asdict(one) for one in found]}


def load_breakdowns(path: Path) -> list[Breakdown]:
    """Read a file that ``iommufd bench trace --json`` printed.

    Raises:
        ToolError: the file is something else, or is damaged.
    """
    return [
        Breakdown(one["name"], one["rounds"], one["whole_ns"], tuple(Part(**part) for part in one["parts"]))
        for one in schema.read_document(path, SCHEMA)["breakdowns"]
    ]
