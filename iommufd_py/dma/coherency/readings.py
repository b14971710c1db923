# SPDX-License-Identifier: MIT
"""Find the origin of the bytes that a device or the CPU reads. Pure.

The cases that read are in :mod:`iommufd_py.dma.coherency.cases`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby

LINE_BYTES = 64
"""Size of a cache line. All bytes of a line are fresh, or all are stale."""

_ZEROS = "zeros"
_POWER_ON = b"POWER-ON" * (LINE_BYTES // 8)


class CoherencyVerdict(StrEnum):
    """Verdict on a case."""

    RIGHT = "right"
    WRONG = "wrong"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a known origin.

    Attributes:
        origin: whose bytes they are, as a phrase that can follow "4096 bytes of".
        data: the bytes. No cache line of them equals a line of another content.
    """

    origin: str
    data: bytes

    @classmethod
    def zeros(cls, length: int) -> "Content":
        """Return the zeros that the kernel writes to a page before a program gets the page."""
        return cls(_ZEROS, bytes(length))

    def times(self, count: int) -> "Content":
        """Return this content repeated *count* times."""
        return Content(self.origin, self.data * count)

    def part(self, at: int, length: int | None = None) -> "Content":
        """Return the *length* bytes from offset *at*; by default all bytes from there."""
        return Content(self.origin, self.data[at : None if length is None else at + length])

    @property
    def is_zeros(self) -> bool:
        """Whether this content comes from :meth:`zeros`."""
        return self.origin == _ZEROS


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive bytes of one origin."""

    offset: int
    length: int
    origin: str


def recognize(found: bytes, known: Sequence[Content]) -> tuple[Piece, ...]:
    """Return the origin of the bytes *found*, line by line.

    A line has the origin of a content in *known* if it equals the line at the same offset of that content.
    """
    lines = ((at, found[at : at + LINE_BYTES]) for at in range(0, len(found), LINE_BYTES))
    return merged([Piece(at, len(line), _origin(line, at, known)) for at, line in lines])


def merged(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Return *pieces* with neighbours of one origin merged into one piece."""
    groups = (list(group) for _, group in groupby(pieces, key=lambda piece: piece.origin))
    return tuple(Piece(group[0].offset, sum(one.length for one in group), group[0].origin) for group in groups)


def _origin(line: bytes, at: int, known: Sequence[Content]) -> str:
    for content in known:
        if line and line == content.data[at : at + len(line)]:
            return content.origin
    if not any(line):
        return _ZEROS
    if line == _POWER_ON[: len(line)]:
        return "memory as it was at power-on"
    return "bytes of unknown origin"


def in_words(pieces: Sequence[Piece]) -> str:
    """Return the number of bytes of each origin: "1024 bytes of the device's data and 3072 bytes of zeros"."""
    sizes: dict[str, int] = {}
    for piece in pieces:
        sizes[piece.origin] = sizes.get(piece.origin, 0) + piece.length
    words = [f"{size} bytes of {origin}" for origin, size in sizes.items()]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of memory by the device or the CPU.

    Attributes:
        by: ``device`` or ``CPU``.
        when: step of the case, for example ``after the map``.
        found: the bytes that were read.
        wanted: the bytes that a correct kernel shows.
        rule: number of the rule in :data:`~iommufd_py.base.coherency.FLUSH_RULES` that a kernel broke if they differ.
    """

    by: str
    when: str
    found: tuple[Piece, ...]
    wanted: tuple[Piece, ...]
    rule: int

    @property
    def right(self) -> bool:
        """Whether *found* equals *wanted*."""
        return self.found == self.wanted

    def __str__(self) -> str:
        instead = "" if self.right else f" instead of {in_words(self.wanted)}"
        return f"{self.when} the {self.by} reads {in_words(self.found)}{instead}"


@dataclass(frozen=True, slots=True)
class CoherencyResult:
    """Result of one case.

    Attributes:
        case: name of the case.
        rule: number of the rule in :data:`~iommufd_py.base.coherency.FLUSH_RULES` that the case mainly checks.
        verdict: ``wrong`` if one reading or more is wrong.
        readings: the readings in order; empty for a case that could not run.
        remark: the reason why the case could not run, else empty.
    """

    case: str
    rule: int
    verdict: CoherencyVerdict
    readings: tuple[Reading, ...]
    remark: str = ""

    @property
    def broken(self) -> frozenset[int]:
        """The rules of the wrong readings."""
        return frozenset(reading.rule for reading in self.readings if not reading.right)

    def __str__(self) -> str:
        shown = [reading for reading in self.readings if not reading.right] or list(self.readings)
        return self.remark or "; ".join(map(str, shown))

    def as_dict(self) -> dict[str, object]:
        """Return this result as a JSON object of the schema ``iommufd-dma-coherency/1``."""
        return {
            "name": self.case,
            "rule": self.rule,
            "verdict": self.verdict,
            "readings": [asdict(reading) | {"right": reading.right} for reading in self.readings],
            "remark": self.remark,
        }
