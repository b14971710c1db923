# SPDX-License-Identifier: MIT
"""Lines of a trace become records, whatever characters the name of a thread has."""

import pytest

from iommufd_py import ToolError
from iommufd_py.host.trace_records import TraceRecord, parse_trace

# From 7.3 in the lab: the clock "counter", then "mono_raw".
TRACE = """\
# tracer: nop
#
# entries-in-buffer/entries-written: 3/3   #P:2
#
#                                _-----=> irqs-off/BH-disabled
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
          python-81      [001] .....    10: tracing_mark_write: map 16
          python-81      [001] .....    13: flush: (arch_flush_cache_phys+0x0/0x280) phys=0x1d888000 length=4096
 a] [b: c-d 3-e-82      [000] d..2. 12.345678901: map_done: (batch_to_domain+0x186/0x260 <- iommu_map) ret=-12
"""


def test_parse() -> None:
    mark, flush, done = parse_trace(TRACE.splitlines())
    assert mark == TraceRecord(10, 81, 1, "tracing_mark_write", "map 16")
    assert (flush.name, flush.fields()) == ("flush", {"phys": 0x1D888000, "length": 4096})
    assert (done.time, done.tid, done.fields()) == (12.345678901, 82, {"ret": -12})


def test_a_line_that_is_no_event_is_refused() -> None:
    with pytest.raises(ToolError, match="LOST"):
        list(parse_trace(["CPU:1 [LOST 17 EVENTS]"]))


@pytest.mark.parametrize(
    "name", ["a\nb", "\n#b", "a\n\n-1", "\n\n\n", "a\x0bb", "a\x1cb", "a\x85b", "a\u2028b", "#a", "-1 [0] 1: m: "]
)
def test_name_of_a_thread_has_any_characters(name: str) -> None:
    """Any user can choose the name, and trace_print_context() prints it unchanged."""
    text = "# comment\n" + "".join(
        f"{name:>16}-{number:<7} [001] .....    {number}: map: iova=0x{number}\n" for number in (1, 2)
    )
    found = list(parse_trace(text.split("\n")))
    assert [(one.tid, one.time, one.name, one.text) for one in found] == [
        (1, 1.0, "map", "iova=0x1"),
        (2, 2.0, "map", "iova=0x2"),
    ]


def test_the_last_line_is_cut() -> None:
    with pytest.raises(ToolError, match="line of unknown form: '  python3'"):
        list(parse_trace(["", "  python3"]))
