# SPDX-License-Identifier: MIT
"""Read the text of a trace buffer. Pure.

Source: Documentation/trace/ftrace.rst.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from iommufd_py.base.errors import ToolError
from iommufd_py.host.trace_events import pair_fields

_LINE = re.compile(
    r"^[\s\S]*-(?P<tid>[0-9]{1,10})\s+\[(?P<cpu>[0-9]{1,10})\]\s+(?:\S{4,6}\s+)?"
    r"(?P<time>[0-9]{1,20}(?:\.[0-9]{1,9})?): (?P<name>\w+): ?(?P<text>.*)$"
)

_NAME_WIDTH = 16  # trace_print_context() in kernel/trace/trace_output.c


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One event.

    Attributes:
        time: value of the trace's clock: a count for ``counter``, seconds for the other clocks.
        tid: thread that was running.
        name: name of the event or of the probe, without its group.
        text: the text of the event.
    """

    time: float
    tid: int
    cpu: int
    name: str
    text: str

    def fields(self) -> dict[str, int | str]:
        """Return the ``name=value`` pairs of the text; numbers are converted."""
        return pair_fields(self.text)


class TraceReader:
    """Reads the text form of a trace buffer line by line; comments are left out.

    A line can be cut: the kernel prints the name of a thread as it is, and that name can contain line breaks.
    """

    def __init__(self) -> None:
        self._begun = ""

    def take(self, line: str) -> TraceRecord | None:
        """Take the next line, and return the event that it completes.

        Raises:
            ToolError: it has an unknown form.
        """
        if not self._begun and (not line or line.startswith("#")):
            return None
        whole = f"{self._begun}\n{line}" if self._begun else line
        match = _LINE.match(whole)
        if match is None:
            if len(whole) > _NAME_WIDTH:
                raise _unknown_form(whole)
            self._begun = whole
            return None
        self._begun = ""
        return TraceRecord(
            float(match["time"]), int(match["tid"]), int(match["cpu"]), match["name"], match["text"].strip()
        )

    def end(self) -> None:
        """Raise ToolError if the last line is cut."""
        if self._begun.strip():
            raise _unknown_form(self._begun)


def parse_trace(lines: Iterable[str]) -> Iterator[TraceRecord]:
    """Read the text form of a trace buffer; comments are left out.

    Raises:
        ToolError: a line has an unknown form.
    """
    reader = TraceReader()
    for line in lines:
        record = reader.take(line)
        if record is not None:
            yield record
    reader.end()


def _unknown_form(line: str) -> ToolError:
    return ToolError(f"the trace has a line of unknown form: {line!r}; report it with the kernel's version")
