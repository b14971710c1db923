# SPDX-License-Identifier: MIT
"""A model of a write-back cache, line by line: the bytes that a CPU, and a device with or without snooping, may read.

The cache always holds every line: it fetches a flushed line again at once. If lines can also leave by themselves, a
line has one of several states. The bytes that somebody reads show the state.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

LINE = 64


class ImpossibleError(AssertionError):
    """The bytes read fit no possible state of the line."""


@dataclass(frozen=True, slots=True)
class _Line:
    cache: bytes
    memory: bytes
    dirty: bool = False

    def flushed(self) -> "_Line":
        content = self.cache if self.dirty else self.memory
        return _Line(content, content)

    def written_back(self) -> "_Line":
        return _Line(self.cache, self.cache) if self.dirty else self


class WriteBackCache:
    """The caches of a CPU and the memory behind them, with *content* in both.

    Args:
        content: content of both at the start.
        evicting: whether lines may leave the caches at any time.
    """

    def __init__(self, content: bytes, *, evicting: bool = False) -> None:
        self._evicting = evicting
        lines = (content[at : at + LINE] for at in range(0, len(content), LINE))
        self._lines: list[set[_Line]] = [{_Line(line, line)} for line in lines]

    def store(self, at: int, data: bytes) -> None:
        """Write by a CPU, or by a device that snoops."""
        self._write(at, data, lambda line, cut, part: replace(line, cache=_put(line.cache, cut, part), dirty=True))

    def dma_write(self, at: int, data: bytes) -> None:
        """Write by a device that does not snoop."""
        self._write(at, data, lambda line, cut, part: replace(line, memory=_put(line.memory, cut, part)))

    def flush(self, at: int, length: int) -> None:
        """CLFLUSH and CLFLUSHOPT."""
        self._change(at, length, _Line.flushed)

    def write_back(self, at: int, length: int) -> None:
        """CLWB."""
        self._change(at, length, _Line.written_back)

    def load(self, at: int, found: bytes) -> None:
        """Check that a CPU, or a device that snoops, can read *found*.

        Raises:
            ImpossibleError: it cannot read these bytes.
        """
        self._read(at, found, lambda line: line.cache, "caches")

    def dma_read(self, at: int, found: bytes) -> None:
        """Check that a device that does not snoop can read *found*; errors as for :meth:`load`."""
        self._read(at, found, lambda line: line.memory, "memory")

    def _pieces(self, at: int, length: int) -> Iterator[tuple[int, int, int]]:
        while length:
            number, skew = divmod(at, LINE)
            size = min(LINE - skew, length)
            yield number, skew, size
            at, length = at + size, length - size

    def _write(self, at: int, data: bytes, change: Callable[[_Line, int, bytes], _Line]) -> None:
        done = 0
        for number, skew, size in self._pieces(at, len(data)):
            part = data[done : done + size]
            self._set(number, {change(line, skew, part) for line in self._lines[number]})
            done += size

    def _change(self, at: int, length: int, change: Callable[[_Line], _Line]) -> None:
        for number, _, _ in self._pieces(at, length):
            self._set(number, {change(line) for line in self._lines[number]})

    def _read(self, at: int, found: bytes, side: Callable[[_Line], bytes], name: str) -> None:
        done = 0
        for number, skew, size in self._pieces(at, len(found)):
            part = found[done : done + size]
            fitting = {line for line in self._lines[number] if side(line)[skew : skew + size] == part}
            if not fitting:
                allowed = {side(line)[skew : skew + size].hex() for line in self._lines[number]}
                raise ImpossibleError(f"line {number}+{skew}: {part.hex()} was read from the {name}, not {allowed}")
            # The line may leave right after this read.
            self._set(number, fitting)
            done += size

    def _set(self, number: int, lines: set[_Line]) -> None:
        """Set the possible states of a line, with those that follow if it leaves the caches by itself."""
        if self._evicting:
            lines |= {line.flushed() for line in lines}
        self._lines[number] = lines


def _put(line: bytes, at: int, part: bytes) -> bytes:
    return line[:at] + part + line[at + len(part) :]
