# SPDX-License-Identifier: MIT
"""`iommufd trace`: maps, unmaps, flushes and faults as they happen."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import click

from iommufd_py.base.errors import SkipError, ToolError
from iommufd_py.host.tracefs import NoSymbolError, Trace, TraceRecord, parse_trace

from .output import note

# What to look at: static events as group and name; for the data-page flush of our kernel patches, a function.
_EVENTS = {
    "map": (("iommu", "map"),),
    "unmap": (("iommu", "unmap"),),
    "fault": (("iommu", "io_page_fault"),),
    "attach": (("iommu", "attach_device_to_domain"),),
    "flush": (("intel_iommu", "cache_tag_flush_range"), ("intel_iommu", "cache_tag_flush_all")),
}
_FLUSH_SYMBOL = "arch_flush_cache_phys"
_POLL_SECONDS = 0.2


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--event", "events", type=click.Choice(list(_EVENTS)), multiple=True, help="Only these.  [default: all]")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="How long.  [default: until Ctrl-C, or COMMAND's end]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line and event.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def trace(
    context: click.Context, events: Sequence[str], seconds: float | None, as_json: bool, command: Sequence[str]
) -> None:
    """Show what IOMMU drivers map, unmap and invalidate, and the faults, of all devices, as it happens.

    With COMMAND, while that runs; its exit status is ours then. Flushes of data pages are shown on a kernel that does
    them. A trace instance of our own is used and removed again, so other users of tracing are not disturbed.

    \b
    Examples:
      iommufd trace --seconds 1
      iommufd trace --event map --event unmap -- iommufd map --device mock --size 64K
    """
    with Trace(clock="mono") as instance:
        _enable(instance, events or list(_EVENTS))
        pipe = os.open(instance.directory / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        start = time.monotonic()
        # With --json our stdout is events and nothing else.
        child = subprocess.Popen(command, stdout=sys.stderr if as_json else None) if command else None
        try:
            for record in _records(pipe, child, None if seconds is None else start + seconds):
                _show(record, start, as_json)
        except KeyboardInterrupt:
            if child is not None:
                raise
        finally:
            os.close(pipe)
            if child is not None and child.poll() is None:
                child.terminate()
                child.wait()
    if child is not None:
        context.exit(child.returncode)


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
        except (NoSymbolError, SkipError):
            note("this kernel flushes no data pages, so none are shown")
        else:
            enabled += 1
    if not enabled:
        raise SkipError("this kernel has none of these events")


def _records(pipe: int, child: "subprocess.Popen[bytes] | None", deadline: float | None) -> Iterator[TraceRecord]:
    """Yield events until *child* has ended or *deadline* is over, and then what is left."""
    pending = b""
    over = False
    while not over:
        over = (child is not None and child.poll() is not None) or (
            deadline is not None and time.monotonic() >= deadline
        )
        while select.select([pipe], [], [], 0 if over else _POLL_SECONDS)[0]:
            try:
                data = os.read(pipe, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            yield from _parsed([line.decode(errors="replace") for line in lines])


def _parsed(lines: Sequence[str]) -> Iterator[TraceRecord]:
    for line in lines:
        if "LOST" in line and line.startswith("CPU:"):
            raise ToolError(f"events come faster than they can be shown ({line.strip()}): choose some with --event")
        yield from parse_trace([line])


def _show(record: TraceRecord, start: float, as_json: bool) -> None:
    text = record.text.removeprefix("IOMMU: ")
    if as_json:
        event = {
            "schema": "iommufd-trace-event/1",
            "monotonic_s": record.time,
            "tid": record.tid,
            "cpu": record.cpu,
            "event": record.name,
            "text": text,
        }
        click.echo(json.dumps(event))
    else:
        click.echo(f"{record.time - start:11.6f}  {record.tid:>7}  {record.name:24}  {text}")
