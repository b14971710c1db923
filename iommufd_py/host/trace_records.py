# SPDX-License-Identifier: MIT
"""Read the text of a trace buffer. Pure.

Source: Documentation/trace/ftrace.rst.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from iommufd_py.base.errors import ToolError
from iommufd_py.host.trace_events import pair_fields

_LINE = re.compile(
    r"^\s*.*-(?P<tid>[0-9]{1,10})\s+\[(?P<cpu>[0-9]{1,10})\]\s+(?:\S{4,6}\s+)?"
    r"(?P<time>[0-9]{1,20}(?:\.[0-9]{1,9})?): (?P<name>\w+): ?(?P<text>.*)$"
)


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


def parse_trace(lines: Sequence[str]) -> Iterator[TraceRecord]:
    """Read the text form of a trace buffer; comments are left out.

    Raises:
        ToolError: a line has an unknown form.
    """
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise ToolError(f"the trace has a line of unknown form: {line!r}; report it with the kernel's version")
        yield TraceRecord(
            float(match["time"]), int(match["tid"]), int(match["cpu"]), match["name"], match["text"].strip()
        )
