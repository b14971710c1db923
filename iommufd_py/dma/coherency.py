# SPDX-License-Identifier: MIT
"""What a device and a CPU read where DMA does not snoop, and whose it was. Pure.

The stories that look are in :mod:`iommufd_py.dma.coherency_stories`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby

LINE_BYTES = 64
"""A cache line, the unit that is fresh or stale as a whole."""

RULES = {
    1: "pages are flushed before a map into a non-coherent domain",
    2: "the pages of a populated IOAS are flushed before a non-coherent domain gets them",
    3: "pages that a non-coherent domain had are flushed before they are unpinned",
}
"""What a kernel must do so that DMA which does not snoop and the CPU agree; see iommufd_py/lab/patches/README.md."""

_ZEROS = "zeros"
_POWER_ON = b"POWER-ON" * (LINE_BYTES // 8)


class StoryVerdict(StrEnum):
    """What came of a story."""

    RIGHT = "right"
    WRONG = "wrong"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes with a history.

    Attributes:
        origin: whose they are, in words that go on after "of".
        data: the bytes; no line of them is like one of another content.
    """

    origin: str
    data: bytes

    @classmethod
    def zeros(cls, length: int) -> "Content":
        """Return what the kernel makes of a page before it gives it to a program."""
        return cls(_ZEROS, bytes(length))

    def times(self, count: int) -> "Content":
        """Return the same *count* times, one behind the other."""
        return Content(self.origin, self.data * count)

    def part(self, at: int, length: int | None = None) -> "Content":
        """Return *length* bytes of it from *at* on, by default all."""
        return Content(self.origin, self.data[at : None if length is None else at + length])

    @property
    def is_zeros(self) -> bool:
        """Whether it is what :meth:`zeros` returns."""
        return self.origin == _ZEROS


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one origin, one behind the other."""

    offset: int
    length: int
    origin: str


def recognize(found: bytes, known: Sequence[Content]) -> tuple[Piece, ...]:
    """Return whose the bytes *found* are, line by line; a content of *known* is recognized where it lay."""
    lines = ((at, found[at : at + LINE_BYTES]) for at in range(0, len(found), LINE_BYTES))
    return joined([Piece(at, len(line), _origin(line, at, known)) for at, line in lines])


def joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Return the same with those of one origin, one behind the other, as one."""
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
    return "bytes that nobody put there"


def in_words(pieces: Sequence[Piece]) -> str:
    """Return how many bytes are whose: "1024 bytes of the device's data and 3072 bytes of zeros"."""
    sizes: dict[str, int] = {}
    for piece in pieces:
        sizes[piece.origin] = sizes.get(piece.origin, 0) + piece.length
    words = [f"{size} bytes of {origin}" for origin, size in sizes.items()]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


@dataclass(frozen=True, slots=True)
class Look:
    """Memory as somebody saw it.

    Attributes:
        by: ``device`` or ``CPU``.
        when: in the course of the story.
        found: what it was.
        wanted: what it must have been.
    """

    by: str
    when: str
    found: tuple[Piece, ...]
    wanted: tuple[Piece, ...]

    @property
    def right(self) -> bool:
        """Whether that is the same."""
        return self.found == self.wanted

    def __str__(self) -> str:
        instead = "" if self.right else f" instead of {in_words(self.wanted)}"
        return f"{self.when} the {self.by} reads {in_words(self.found)}{instead}"


@dataclass(frozen=True, slots=True)
class StoryResult:
    """What came of a story.

    Attributes:
        story: its name.
        rule: the number of the rule in :data:`RULES` that it is about.
        verdict: ``wrong`` as soon as one look is.
        looks: in order; none where the story could not be told.
        remark: why it could not, else empty.
    """

    story: str
    rule: int
    verdict: StoryVerdict
    looks: tuple[Look, ...]
    remark: str = ""

    def __str__(self) -> str:
        shown = [look for look in self.looks if not look.right] or list(self.looks)
        return self.remark or "; ".join(map(str, shown))

    def as_dict(self) -> dict[str, object]:
        """This outcome as a JSON object."""
        return {**asdict(self), "looks": [asdict(look) | {"right": look.right} for look in self.looks]}
