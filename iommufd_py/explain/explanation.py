# SPDX-License-Identifier: MIT
"""The explanation of a process, and its JSON document."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from iommufd_py.base.environment import Environment
from iommufd_py.base.errors import SkipError
from iommufd_py.explain.advice import Facts, advice
from iommufd_py.explain.memory import MemoryArea, area_at, read_areas
from iommufd_py.explain.pieces import Measured
from iommufd_py.explain.process import ProcessState, process_state
from iommufd_py.explain.summary import IoctlSummary, summaries
from iommufd_py.explain.watch import Watched, watch
from iommufd_py.host import environment
from iommufd_py.host.map_parts import PartTime
from iommufd_py.host.page_tables import PageTables, page_tables

SCHEMA = "iommufd-explain/1"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The facts about a process.

    Attributes:
        environment: description of this machine.
        state: state of the process at the start of the command.
        watched: its ioctls; None if they were not watched.
        problem: the reason why they were not watched; empty if they were, or if no watch was requested.
        tables: page-table memory before and after the watch.
        summaries: the summaries of the maps, of the unmaps, and of the other ioctls.
        mapped: areas of memory by the bytes of them that were mapped.
        files: paths of the files that IOMMU_IOAS_MAP_FILE mapped, by descriptor.
    """

    environment: Environment
    state: ProcessState
    watched: Watched | None
    problem: str
    tables: tuple[PageTables, PageTables]
    summaries: tuple[IoctlSummary, IoctlSummary, IoctlSummary]
    mapped: Mapping[MemoryArea, int]
    files: Mapping[int, str]

    @property
    def advice(self) -> tuple[str, ...]:
        """The advice for the user of the process."""
        maps, unmaps, _ = self.summaries
        return advice(Facts(maps, unmaps, self.mapped, self.state.devices, self.state.memlock_bytes))


def explain(pid: int, seconds: float, begun: Callable[[], None] = lambda: None) -> Explanation:
    """Read the state of a process, and watch it for *seconds*; 0 for no watch. *begun* is called when the watch begins.

    Raises:
        ToolError: the process does not exist, or uses no IOMMU.
        SkipError: the process belongs to another user.
    """
    state = process_state(pid)
    before = page_tables()
    watched, problem = None, ""
    if seconds:
        try:
            watched = watch(pid, seconds, begun)
        except SkipError as reason:
            problem = str(reason)
    ioctls = watched.ioctls if watched else ()
    return Explanation(
        environment(),
        state,
        watched,
        problem,
        (before, page_tables()),
        summaries(ioctls, watched.pair_s if watched else None),
        _mapped(pid, ioctls),
        _files(pid, ioctls),
    )


def _mapped(pid: int, ioctls: Iterable[Measured]) -> Mapping[MemoryArea, int]:
    requests = [one.call.request for one in ioctls if one.call.request.is_map]
    wanted = [one for one in requests if one.user_va is not None and one.length]
    if not wanted:
        return {}
    found: Counter[MemoryArea] = Counter()
    # After the process has ended or unmapped the memory, the kernel no longer shows it.
    with suppress(OSError):
        areas = read_areas(pid)
        for one in wanted:
            area = area_at(areas, one.user_va or 0)
            if area is not None:
                found[area] += one.length or 0
    return dict(found)


def _files(pid: int, ioctls: Iterable[Measured]) -> Mapping[int, str]:
    found = {}
    for descriptor in sorted({one.call.request.file for one in ioctls if one.call.request.file is not None}):
        with suppress(OSError):  # The process has closed it in between.
            found[descriptor] = os.readlink(f"/proc/{pid}/fd/{descriptor}")
    return found


def explanation_document(one: Explanation) -> dict[str, Any]:
    """Return an explanation as a JSON document."""
    before, after = one.tables
    return {
        "schema": SCHEMA,
        "environment": asdict(one.environment),
        "process": _state_document(one.state),
        "page_tables": {"system_wide": True, "before": asdict(before), "after": asdict(after)},
        "not_watched": one.problem,
        "watched": None if one.watched is None else _watched_document(one, one.watched),
        "advice": list(one.advice),
    }


def _state_document(state: ProcessState) -> dict[str, Any]:
    return {
        "pid": state.pid,
        "name": state.name,
        "descriptors": [asdict(one) for one in state.descriptors],
        "devices": [
            {
                "bdf": one.bdf,
                "iommu": one.iommu,
                "flushes": one.flushes and one.flushes.as_dict(),
                "leaves": _keys(one.leaves),
                "leaves_problem": one.leaves_problem,
            }
            for one in state.devices
        ],
        "pinned_bytes": state.pinned_bytes,
        "locked_bytes": state.locked_bytes,
        "memlock_bytes": state.memlock_bytes,
        "areas": [{**asdict(one.area), "runs": _keys(one.runs)} for one in state.areas],
    }


def _watched_document(one: Explanation, watched: Watched) -> dict[str, Any]:
    return {
        "seconds": watched.seconds,
        "ended": watched.ended,
        "interrupted": watched.interrupted,
        "recorded_seconds": watched.recorded_s,
        "probe_seconds": watched.pair_s,
        "invisible_parts": list(watched.invisible),
        "unreadable_pieces": watched.unreadable,
        "ioctls_dropped": watched.ioctls_dropped,
        "summaries": [_summary(summary) for summary in one.summaries],
        "mapped_areas": [{**asdict(area), "mapped_bytes": count} for area, count in one.mapped.items()],
        "mapped_files": {str(descriptor): path for descriptor, path in one.files.items()},
        "ioctls": [_ioctl(ioctl) for ioctl in watched.ioctls],
    }


def _summary(one: IoctlSummary) -> dict[str, Any]:
    return {
        "name": one.name,
        "calls": len(one.calls),
        "failed": {str(number): count for number, count in one.failed.items()},
        "bytes": one.length,
        "seconds": one.seconds,
        "recorded_seconds": one.seen_s,
        "probe_seconds": one.probe_s,
        "parts": _parts(one.parts),
        "runs": _keys(one.runs),
    }


def _ioctl(one: Measured) -> dict[str, Any]:
    return {
        "ioctl": one.call.request.ioctl,
        "begun_before": one.begun_before,
        "tid": one.call.tid,
        "start": one.call.start,
        "returned": one.call.end is not None,
        "result": one.call.result,
        "iova": one.iova,
        "length": one.call.request.length,
        "user_va": one.call.request.user_va,
        "file": one.call.request.file,
        "seconds": one.seconds,
        "recorded_seconds": one.seen_s,
        "probed_calls": one.probed,
        "parts": _parts(one.parts),
        "runs": _keys(one.runs),
    }


def _parts(parts: Mapping[str, PartTime]) -> dict[str, Any]:
    return {name: {"seconds": part.seconds, "calls": part.calls} for name, part in parts.items()}


def _keys(counts: Mapping[int, int] | None) -> dict[str, int] | None:
    return None if counts is None else {str(size): count for size, count in counts.items()}
