# SPDX-License-Identifier: MIT
"""`iommufd trace`: show maps, unmaps, flushes and faults while they happen."""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import click

from iommufd_py.base.errors import SkipError, ToolError
from iommufd_py.base.units import counted
from iommufd_py.host.trace_events import event_fields
from iommufd_py.host.trace_records import TraceReader, TraceRecord
from iommufd_py.host.tracefs import NoSymbolError, Trace

from .commands import command
from .output import note
from .types import MOST_SECONDS, FiniteFloat

# Static trace events as group and name. The data-page flush of our kernel patches is not an event but a function.
_EVENTS = {
    "map": (("iommu", "map"),),
    "unmap": (("iommu", "unmap"),),
    "fault": (("iommu", "io_page_fault"),),
    "attach": (("iommu", "attach_device_to_domain"),),
    # The last event reports a new mapping to an IOMMU in caching mode, such as that of a hypervisor.
    "flush": (
        ("intel_iommu", "cache_tag_flush_range"),
        ("intel_iommu", "cache_tag_flush_all"),
        ("intel_iommu", "cache_tag_flush_range_np"),
    ),
}
_FLUSH_SYMBOL = "arch_flush_cache_phys"
_POLL_SECONDS = 0.2
_READ_BYTES = 1 << 16
# Maximum number of seconds to print the events left in the buffer at the end.
_DRAIN_SECONDS = 5.0
# trace_pipe prints this between the events.
_LOST = re.compile(r"CPU:\d+ \[LOST (\d+) EVENTS\]")


@command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--event",
    "events",
    type=click.Choice(list(_EVENTS)),
    multiple=True,
    help="Show only these events. flush: invalidations of the IOTLB by VT-d's driver, and flushes of data pages.  "
    "[default: all]",
)
@click.option(
    "--seconds",
    type=FiniteFloat(0.1, MOST_SECONDS),
    help="Seconds to trace.  [default: to Ctrl-C, or the end of COMMAND]",
)
@click.option("--json", "as_json", is_flag=True, help="Print each event as one JSON document on a line.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def trace(
    context: click.Context, events: Sequence[str], seconds: float | None, as_json: bool, command: Sequence[str]
) -> None:
    """Show maps, unmaps, attaches, faults and flushes of all devices and IOMMU drivers, while they happen.

    If COMMAND is given, tracing ends with COMMAND, and the exit status is that of COMMAND. If --seconds is also given,
    tracing stops after that time, and COMMAND continues to its end. Flushes of data pages are shown if the kernel does
    them. `iommufd trace` uses a private trace instance and removes the instance at the end, so it does not disturb
    other users of tracing.

    \b
    Examples:
      iommufd trace --seconds 1
      iommufd trace --event map -- iommufd map --device mock --size 64K
    """
    child: subprocess.Popen[bytes] | None = None
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: _end(child))
        instance = stack.enter_context(Trace(clock="mono"))
        _enable(instance, events or list(_EVENTS))
        pipe = os.open(instance.directory / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        reading = stack.enter_context(contextlib.ExitStack())
        reading.callback(os.close, pipe)
        start = time.monotonic()
        lost: list[int] = []
        child = _started(command, as_json) if command else None
        try:
            for record in _records(pipe, child, None if seconds is None else start + seconds, lost):
                _show(record, start, as_json)
        except KeyboardInterrupt:
            if child is not None:
                raise
        if lost:
            missing = counted(sum(lost), "event") if sum(lost) else "some events"
            note(f"there are too many events: {missing} not shown; select some with --event")
        # Close both before the wait: an instance cannot be removed while its pipe is open.
        reading.close()
        instance.close()
        if child is not None:
            if child.poll() is None:
                note(f"tracing ends after {seconds:g} s; {command[0]} continues")
            status = child.wait()
            context.exit(128 - status if status < 0 else status)


def _started(command: Sequence[str], as_json: bool) -> "subprocess.Popen[bytes]":
    try:
        # With --json, stdout has nothing but events.
        return subprocess.Popen(command, stdout=sys.stderr if as_json else None)
    except FileNotFoundError:
        raise ToolError(f"there is no command {command[0]}: give its path, or a command on PATH") from None
    except OSError as failure:
        raise ToolError(f"{command[0]} cannot be started: {failure.strerror}") from failure


def _end(child: "subprocess.Popen[bytes] | None") -> None:
    if child is not None and child.poll() is None:
        child.terminate()
        child.wait()


def _enable(instance: Trace, events: Sequence[str]) -> None:
    enabled = 0
    for event in events:
        for group, name in _EVENTS[event]:
            try:
                instance.enable(group, name)
            except SkipError as absent:
                note(str(absent))
            else:
                enabled += 1
    if "flush" in events:
        try:
            instance.probe(_FLUSH_SYMBOL, {"phys": "$arg1:x64", "length": "$arg2:u64"}, name="flush_data_pages")
        except NoSymbolError:
            note(f"this kernel has no {_FLUSH_SYMBOL}(), so no flushes of data pages are shown")
        except SkipError as reason:
            note(f"flushes of data pages cannot be shown: {reason}")
        else:
            enabled += 1
    if not enabled:
        raise SkipError("this kernel has none of these events")


def _records(
    pipe: int, child: "subprocess.Popen[bytes] | None", deadline: float | None, lost: list[int]
) -> Iterator[TraceRecord]:
    """Yield events until *child* ends or *deadline* is reached, and then the events up to that moment.

    The numbers of events that did not fit into the buffer are appended to *lost*, and a 0 if events are left out at the
    end.
    """
    pending = b""
    reader = TraceReader()
    over = False
    while not over:
        # Check in each turn, because events may arrive without a pause.
        over = (child is not None and child.poll() is not None) or (
            deadline is not None and time.monotonic() >= deadline
        )
        end = time.monotonic()
        for data in _chunks(pipe, over):
            *lines, pending = (pending + data).split(b"\n")
            for record in _parsed(reader, [line.decode(errors="replace") for line in lines], lost):
                # Later events are not part of the output. They could follow without end.
                if over and record.time > end:
                    return
                yield record
            if over and time.monotonic() > end + _DRAIN_SECONDS:
                lost.append(0)  # The number of events left in the buffer is unknown.
                return


def _chunks(pipe: int, drain: bool) -> Iterator[bytes]:
    """Yield readable data: one chunk after a wait, or with *drain* all chunks."""
    while select.select([pipe], [], [], 0 if drain else _POLL_SECONDS)[0]:
        try:
            data = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            return
        yield data
        if not drain:
            return


def _parsed(reader: TraceReader, lines: Sequence[str], lost: list[int]) -> Iterator[TraceRecord]:
    for line in lines:
        gap = _LOST.match(line)
        if gap:
            lost.append(int(gap[1]))
            continue
        record = reader.take(line)
        if record is not None:
            yield record


def _show(record: TraceRecord, start: float, as_json: bool) -> None:
    text = record.text.removeprefix("IOMMU:").strip()
    if as_json:
        event = {
            "schema": "iommufd-trace-event/1",
            "monotonic_s": record.time,
            "tid": record.tid,
            "cpu": record.cpu,
            "event": record.name,
            "fields": event_fields(text),
            "text": text,
        }
        click.echo(json.dumps(event))
    else:
        click.echo(f"{record.time - start:11.6f}  {record.tid:>7}  {record.name:24}  {text}")
