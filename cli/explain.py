# SPDX-License-Identifier: MIT
"""`iommufd explain`: show where another process spends the time of its maps, and advise its user."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

import click

from iommufd_py.base.environment import Platform
from iommufd_py.base.errors import SkipError
from iommufd_py.base.units import counted, format_bytes, format_ns, format_size
from iommufd_py.explain.explanation import Explanation, explanation_document
from iommufd_py.explain.explanation import explain as explain_process
from iommufd_py.explain.memory import MemoryArea
from iommufd_py.explain.pieces import REST, Measured
from iommufd_py.explain.process import Device, ProcessState
from iommufd_py.explain.summary import IoctlSummary
from iommufd_py.explain.watch import PART_NAMES, Watched

from .commands import command
from .exit_status import INTERRUPTED
from .output import emit_facts, emit_json, emit_table, note
from .types import JSON_OPTION, MOST_SECONDS, FiniteFloat, Whole

_MOST_PID = (1 << 22) - 1
_MOST_ROWS = 12


@command()
@click.option("--pid", type=Whole(1, _MOST_PID), required=True, help="Process that maps memory for DMA, such as a VMM.")
@click.option(
    "--seconds",
    type=FiniteFloat(0, MOST_SECONDS),
    default=10.0,
    help="Seconds to watch the maps of the process. 0 shows the state only. Ctrl-C stops early.",
)
@JSON_OPTION
@click.pass_context
def explain(context: click.Context, pid: int, seconds: float, as_json: bool) -> None:
    """Show where a running process spends the time of its maps, and advise its user.

    The process uses /dev/iommu or a VFIO container, and needs no change. The command first shows its descriptors,
    devices, pinned memory and page tables. Then it sets probes in the kernel, and divides the time of each ioctl that
    maps or unmaps into fault-in, pinning, page tables, flushes and invalidation. Probes cost time, and the output
    states this cost. The advice below the tables follows from the figures only. If the figures support no advice, there
    is none.

    \b
    Examples:
      iommufd explain --pid 4242
      iommufd explain --pid $(pgrep -o qemu) --seconds 60 --json
    """
    found = explain_process(
        pid, seconds, lambda: note(f"watching process {pid} for {seconds:g} s; Ctrl-C ends it early")
    )
    if as_json:
        emit_json(explanation_document(found))
    else:
        _show(found)
    if found.problem:
        raise SkipError(f"the maps cannot be watched: {found.problem}")
    if found.watched and found.watched.interrupted:
        context.exit(INTERRUPTED)


def _show(found: Explanation) -> None:
    emit_facts([*_process_facts(found.state), *_device_facts(found.state.devices), *_memory_facts(found)])
    if found.watched is None:
        return
    click.echo()
    emit_facts(list(_watch_facts(found, found.watched)))
    for summary in found.summaries:
        if summary.calls:
            click.echo()
            emit_table(_headings(summary), _rows(summary))
    click.echo()
    emit_facts([("advice", text) for text in found.advice] or [("advice", "none: the figures support no advice")])


def _process_facts(state: ProcessState) -> Iterator[tuple[str, str]]:
    yield "process", f"{state.pid} {state.name}"
    for one in state.descriptors:
        devices = f": {', '.join(one.devices)}" if one.devices else ""
        yield "open", f"{one.kind}, descriptor {one.number}{devices}"
    limit = "none" if state.memlock_bytes is None else format_size(state.memlock_bytes)
    yield (
        "pinned",
        f"{format_bytes(state.pinned_bytes)} (VmPin), {format_bytes(state.locked_bytes)} locked (VmLck); limit {limit}",
    )


def _device_facts(devices: Sequence[Device]) -> Iterator[tuple[str, str]]:
    for one in devices:
        if one.flushes is None:
            yield "device", f"{one.bdf}, behind no IOMMU"
            continue
        yield "device", f"{one.bdf}, behind {one.iommu}: {one.flushes.coherency or 'coherency unknown'}"
        yield "", f"{one.flushes.coherency_evidence}; page tables: {one.flushes.page_table_evidence}"
        yield "leaves", f"{one.bdf}: {one.leaves_problem or _counts(one.leaves or {}) or 'none'}"


def _memory_facts(found: Explanation) -> Iterator[tuple[str, str]]:
    for one in found.state.areas:
        runs = "" if one.runs is None else f"; {_contiguity(one.runs)}"
        yield "memory", f"{_area_text(one.area)}{runs}"
    before, after = found.tables
    for name, first, last in (
        ("SecPageTables", before.secondary_bytes, after.secondary_bytes),
        ("nr_iommu_pages", before.iommu_bytes, after.iommu_bytes),
    ):
        if first is not None and last is not None:
            change = (
                f", {'+-'[last < first]}{format_bytes(abs(last - first))} during the watch" if last != first else ""
            )
            yield "page tables", f"{format_bytes(last)} of the whole system ({name}){change}"
        else:
            yield "page tables", f"this kernel does not count them ({name})"


def _area_text(area: MemoryArea) -> str:
    whole = "" if area.present == area.length else f" of {format_bytes(area.length)}"
    huge = f", {format_bytes(area.huge_bytes)} of them in huge pages" if area.huge_bytes else ""
    name = f" {PurePath(area.name).name}" if area.name else ""
    present = f"{format_bytes(area.present)}{whole} present in pages of {format_size(area.page_bytes)}"
    return f"{area.kind}{name}, {present}{huge}"


def _contiguity(runs: Mapping[int, int]) -> str:
    count, total = sum(runs.values()), sum(size * number for size, number in runs.items())
    return f"{counted(count, 'contiguous run')} in {format_bytes(total)}, on average {format_bytes(total // count)}"


def _counts(sizes: Mapping[int, int]) -> str:
    return ", ".join(f"{count} of {format_size(size)}" for size, count in sizes.items())


def _watch_facts(found: Explanation, watched: Watched) -> Iterator[tuple[str, str]]:
    how = "the process ended" if watched.ended else "interrupted" if watched.interrupted else ""
    yield "watched", f"{_seconds(watched.seconds)}{f', {how}' if how else ''}"
    machine = found.environment
    emulated = "; its CPU is emulated: compare shares, not times" if machine.platform == Platform.TCG else ""
    yield "kernel", f"{machine.kernel_release}, {machine.platform}{emulated}"
    for one in found.summaries:
        if one.calls or one.name != "other":
            yield one.name, _summary_text(one)
    for area, count in found.mapped.items():
        yield "of memory", f"{format_bytes(count)}: {_area_text(area)}"
    for descriptor, path in found.files.items():
        yield "of memory", f"descriptor {descriptor}, {PurePath(path).name}"
    yield from _limits(found, watched)


def _summary_text(one: IoctlSummary) -> str:
    failed = f", {sum(one.failed.values())} of them failed" if one.failed else ""
    runs = f"; {_contiguity(one.runs)}" if one.runs else ""
    return f"{counted(len(one.calls), 'ioctl')}{failed}, {format_bytes(one.length)}, {_seconds(one.seconds)}{runs}"


def _limits(found: Explanation, watched: Watched) -> Iterator[tuple[str, str]]:
    seen = sum(one.seen_s for one in found.summaries)
    probes = [one.probe_s for one in found.summaries if one.probe_s is not None]
    if watched.pair_s is None:
        yield "limits", "the cost of the probes is unknown"
    elif seen:
        cost, share = _seconds(watched.pair_s), f"{sum(probes) / seen:.0%}"
        yield "limits", f"probes cost {cost} a call, about {share} of the times below; the shares have this error"
    total = sum(one.seconds for one in found.summaries)
    if seen < 0.995 * total:
        yield "limits", f"the parts cover {seen / total:.0%} of the time, because there were too many events to record"
    if watched.invisible:
        yield "limits", f"not visible on this kernel, so their time is in the {REST}: {', '.join(watched.invisible)}"
    if watched.unreadable:
        yield "limits", f"{watched.unreadable} pieces of the trace could not be read"
    if watched.ioctls_dropped:
        yield "limits", "there were too many ioctls, so the later ones are missing"
    yield "limits", "fault-in includes clearing pages of 4K; the time of a function includes its waits for locks"


def _headings(summary: IoctlSummary) -> tuple[str, ...]:
    return (summary.name, "IOVA", "length", "time", *_columns(summary))


def _columns(summary: IoctlSummary) -> tuple[str, ...]:
    return tuple(name for name in (*PART_NAMES, REST) if name in summary.parts)


def _rows(summary: IoctlSummary) -> list[tuple[str, ...]]:
    longest = sorted(summary.calls, key=lambda one: -one.seconds)[:_MOST_ROWS]
    columns = _columns(summary)
    rows = [_row(one, columns) for one in sorted(longest, key=lambda one: one.call.start)]
    if len(summary.calls) > 1:
        only = f", not only the longest {_MOST_ROWS}" if len(summary.calls) > _MOST_ROWS else ""
        shares = [f"{summary.share(part):.1%}" for part in columns]
        rows.append(
            (
                f"all {len(summary.calls)}{only}",
                "",
                format_bytes(summary.length),
                _seconds(summary.seconds),
                *shares,
            )
        )
    return rows


def _row(one: Measured, columns: Sequence[str]) -> tuple[str, ...]:
    call = one.call
    name = "an ioctl that began before the watch" if one.begun_before else call.request.ioctl
    if call.error:
        name = f"{name}, errno {call.error}"
    elif call.end is None and not one.begun_before:
        name = f"{name}, not returned"
    return (
        name,
        "?" if one.iova is None else f"{one.iova:#x}",
        "-" if call.request.length is None else format_size(call.request.length),
        _seconds(one.seconds),
        *(
            f"{one.parts[part].seconds / one.seen_s:.1%}" if part in one.parts and one.seen_s else "-"
            for part in columns
        ),
    )


def _seconds(seconds: float) -> str:
    return format_ns(seconds * 1e9)
